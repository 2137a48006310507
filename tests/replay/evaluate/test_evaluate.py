"""Evaluation against a world whose truth is known, and reward models that never peek."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.interface import Policy
from env.records import Record
from env.vocabulary import Bools, Context, Floats, Interaction
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import Greedy
from replay.estimators.choice import DEFAULT
from replay.evaluate.evaluate import PolicyReport, evaluate
from replay.evaluate.gates import Gates
from replay.evaluate.targets import PolicyTarget
from replay.join import dataset
from replay.join.dataset import Dataset
from replay.reward_models.batch_models import ByPage
from replay.reward_models.ridge import CrossFitted, RidgeModel, cross_fit, fold_of

OPEN = Gates(min_users=0, min_ess=0.0)
SE = 3.0
"""Standard errors that a right estimate may be off."""


def make(policy: Policy, n_users: int, eps: float, seed: int) -> tuple[World, Dataset]:
    world = World(rng=np.random.default_rng(seed))
    records: list[Record] = list(world.items())
    for _, its_records in world.pages(policy, n_users, pages_each=3, eps=eps):
        records += its_records
    return world, dataset.read(lines(records), LIKES)


def asked(log: Dataset, policy: Policy) -> Floats:
    """Return what a policy's probability of each logged action is, batch by batch."""
    batches = log.batches()
    return np.concatenate([b.of_chosen(PolicyTarget(policy).probabilities(b)) for b in batches])


WORLD, LOG = make(UniformPolicy(), n_users=300, eps=0.1, seed=11)


@pytest.fixture(scope="module")
def predictor() -> CrossFitted:
    return cross_fit(LOG)


@pytest.fixture(scope="module")
def report(predictor: CrossFitted) -> PolicyReport:
    """What a uniform log says about a policy that looks for what users like."""
    return evaluate(LOG, mixture_policy(0.2), predictor, oracle=WORLD.likes)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_estimates_are_within_standard_errors_of_the_true_value(
    report: PolicyReport, estimator: str
) -> None:
    estimate = report.estimate(estimator)
    assert report.truth is not None
    assert abs(estimate.value - report.truth) <= SE * estimate.se
    assert estimate.low < estimate.value < estimate.high


def test_the_target_is_worth_more_than_the_log_and_the_estimate_says_so(
    report: PolicyReport,
) -> None:
    assert report.truth is not None
    assert report.truth > report.logged.high
    assert report.estimate("dr").low > report.logged.value


def test_a_model_that_explains_some_of_the_reward_makes_dr_surer_than_ips(
    report: PolicyReport,
) -> None:
    assert report.estimate("dr").se < report.estimate("ips").se


@pytest.mark.parametrize("level", [0.5, 0.99])
def test_the_level_widens_the_interval_and_nothing_else(
    predictor: CrossFitted, report: PolicyReport, level: float
) -> None:
    other = evaluate(LOG, mixture_policy(0.2), predictor, level=level)
    for mine, theirs in zip(other.estimates, report.estimates, strict=True):
        assert (mine.value, mine.se) == (theirs.value, theirs.se)
        assert (mine.high - mine.low < theirs.high - theirs.low) == (level < 0.95)


def test_the_logs_own_policy_has_weights_of_one_and_the_logs_own_value() -> None:
    """Rules, floor and prefix are those of the draw, reserved slot included."""
    policy = mixture_policy(0.3)
    _, log = make(policy, n_users=60, eps=0.2, seed=5)
    np.testing.assert_array_equal(asked(log, policy), log.propensity)
    report = evaluate(log, policy, gates=OPEN)
    assert report.estimate("ips").value == pytest.approx(report.logged.value, rel=1e-12)
    assert report.estimate("snips").value == pytest.approx(report.logged.value, rel=1e-12)
    assert report.health.ess == pytest.approx(len(log))
    assert report.truth is None


@pytest.mark.slow
def test_target_probabilities_follow_the_logged_prefix_mask_and_floor() -> None:
    """The last slot is reserved for even candidates and half of them may be gone."""
    target = asked(LOG, UniformPolicy())
    for page, rows in LOG.by_page():
        taken: set[int] = set()
        drawn = {d.slot: d.action for d in page.decisions}
        for slot in range(len(page.slots)):
            last = slot == len(page.slots) - 1
            left = [i for i in range(12) if i not in taken and (not last or i % 2 == 0)]
            even = [i for i in left if i % 2 == 0]
            row = rows[LOG.slot[rows] == slot]
            if len(row):
                in_floor = drawn[slot] in even
                expected = 0.9 / len(left) + 0.1 * in_floor / len(even)
                assert target[row[0]] == pytest.approx(expected, rel=1e-12)
                assert LOG.n_actions[row[0]] == len(left)
            taken.add(drawn[slot])


def test_health_tells_how_far_the_target_is_from_the_log(report: PolicyReport) -> None:
    health = report.health
    assert health.n == len(LOG) == report.logged.n
    assert (health.n_users, health.log.n_pages) == (300, len(LOG.pages))
    assert abs(health.mean_weight - 1.0) <= SE * health.mean_weight_se
    assert 0.2 < health.ess_share < 0.9
    assert health.ess == pytest.approx(report.estimate("ips").ess)
    assert 0.0 < health.max_weight_share < health.max_user_share < 0.05
    assert health.min_propensity == LOG.propensity.min()
    assert 0.7 < health.log.seen_share < 1.0
    assert 0.0 < health.log.censored_share < 0.2
    assert health.log.first_ms < health.log.last_ms


def test_a_log_that_never_shows_what_the_target_wants_has_a_mean_weight_below_one() -> None:
    """Greedy without a floor: most of what the uniform target does was impossible."""
    _, log = make(PopularityPolicy(Greedy()), n_users=40, eps=0.0, seed=6)
    health = evaluate(log, UniformPolicy()).health
    assert health.mean_weight + SE * health.mean_weight_se < 0.5


def test_a_report_can_be_written_as_json(report: PolicyReport) -> None:
    text = msgspec.json.encode(report)
    assert msgspec.json.decode(text, type=PolicyReport) == report
    assert report.policy == "mixture@0"
    assert report.logged_policies == ("uniform@0",)
    assert report.estimates[0].estimator == DEFAULT
    assert {"ips", "snips", "dm", "dr"} < {e.estimator for e in report.estimates}
    assert len({e.estimator for e in report.estimates}) == len(report.estimates)
    with pytest.raises(KeyError, match="expected one of"):
        report.estimate("best")


def test_progress_is_told_decision_by_decision(predictor: CrossFitted) -> None:
    done: list[int] = []
    evaluate(LOG, UniformPolicy(), predictor, advance=done.append)
    assert sum(done) == len(LOG)
    assert len(done) == len(list(LOG.batches()))
    done.clear()
    evaluate(LOG, UniformPolicy(), advance=done.append)
    assert sum(done) == 2 * len(LOG)  # once to fit a model


# --- reward models --------------------------------------------------------------------------------


class Recorder:
    """A reward model that remembers whom it was fitted on."""

    def __init__(self) -> None:
        self.users: set[str] = set()

    def fit(self, interactions: Sequence[Interaction]) -> None:
        self.users = {i.user for i in interactions}

    def predict(self, context: Context) -> Floats:
        assert context.user not in self.users
        return np.full(len(context), float(len(self.users)))


def test_nobody_is_scored_by_a_model_that_saw_them() -> None:
    made: list[Recorder] = []

    def recorder() -> Recorder:
        made.append(Recorder())
        return made[-1]

    predictor = cross_fit(LOG, recorder, n_folds=4)
    for batch in LOG.batches():
        ByPage(predictor).predict(batch)
    assert [len(m.users) for m in made] == [
        sum(fold_of(u, 4) != fold for u in LOG.users) for fold in range(4)
    ]
    assert set.union(*(m.users for m in made)) == set(LOG.users)


def test_the_ridge_finds_the_world_that_is_linear() -> None:
    model = RidgeModel()
    model.fit(LOG.interactions(np.arange(len(LOG))))
    errors, spread = [], []
    for page, _ in LOG.by_page():
        truth = WORLD.likes(page) - WORLD.taste[page.context.user]
        errors.append(model.predict(page.context) - truth)
        spread.append(truth)
    # 68 weights from 3,000 coin tosses: the prediction's standard error is .5 * sqrt(68 / n).
    assert np.sqrt(np.mean(np.square(errors))) <= SE * 0.5 * np.sqrt(68 / len(LOG))
    assert np.corrcoef(np.ravel(errors), np.ravel(spread))[0, 1] < 0.1
    assert np.std(spread) > 0.1


def test_the_ridge_is_the_textbooks() -> None:
    """Against the normal equations on all rows at once, with rewards of any range."""
    interactions = LOG.interactions(np.arange(500))
    model = RidgeModel(l2=25.0)
    model.fit(interactions)
    raw = np.array(
        [np.frombuffer(i.shared + i.action, "<f2").astype(np.float64) for i in interactions]
    )
    rewards = np.array([i.reward for i in interactions])
    z = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    weights = np.linalg.solve(z.T @ z + 25.0 * np.eye(z.shape[1]), z.T @ (rewards - rewards.mean()))
    for page, _ in list(LOG.by_page())[:5]:
        features = page.context.features
        shared = np.broadcast_to(features.shared, (12, len(features.shared)))
        rows = (np.concatenate([shared, features.actions], axis=1) - raw.mean(axis=0)) / raw.std(
            axis=0
        )
        expected = np.clip(rewards.mean() + rows @ weights, 0.0, 1.0)
        np.testing.assert_allclose(model.predict(page.context), expected, atol=1e-6)


def test_a_reward_that_never_changes_is_predicted_as_it_is() -> None:
    nothing = LOG.select(LOG.reward == 0.0)
    model = RidgeModel()
    model.fit(nothing.interactions(np.arange(len(nothing))))
    page, _ = next(LOG.by_page())
    np.testing.assert_allclose(model.predict(page.context), np.zeros(12), atol=1e-12)


def test_a_model_that_cannot_be_fitted_says_why() -> None:
    with pytest.raises(ValueError, match="got none"):
        RidgeModel().fit([])
    with pytest.raises(ValueError, match="l2 must be at least 0, got nan"):
        RidgeModel(float("nan"))
    with pytest.raises(ValueError, match=r"the width fitted on, 0, got \d+"):
        RidgeModel().predict(next(LOG.by_page())[0].context)
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        cross_fit(LOG, n_folds=1)
    alone = LOG.select(LOG.user == 0)
    with pytest.raises(ValueError, match="users in more than one fold"):
        cross_fit(alone)


# --- what is refused ------------------------------------------------------------------------------


class Constant:
    """Predicts one number for as many candidates as it is told."""

    def __init__(self, value: float, n: int = 12) -> None:
        self._rewards = np.full(n, value)

    def predict(self, context: Context) -> Floats:
        return self._rewards


class Careless(UniformPolicy):
    """Gives probability to what is not on the mask."""

    name = "careless@0"

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return np.full(len(mask), 1.0 / len(mask))


@pytest.mark.parametrize(
    ("policy", "predictor", "message"),
    [
        (UniformPolicy(), Constant(np.nan), "expected 12 finite predicted rewards for page p0-0"),
        (UniformPolicy(), Constant(0.5, n=3), "expected 12 finite predicted rewards for page p0-0"),
        (Careless(), Constant(0.5), "careless@0: expected probability 0 off the mask"),
    ],
)
def test_a_policy_or_model_that_breaks_its_word_is_refused(
    policy: Policy, predictor: Constant, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(LOG, policy, predictor)


def test_an_oracle_must_know_every_candidate() -> None:
    with pytest.raises(ValueError, match="expected 12 finite true rewards"):
        evaluate(LOG, UniformPolicy(), Constant(0.5), oracle=lambda page, decision: np.ones(1))


def test_no_decision_is_no_evaluation() -> None:
    with pytest.raises(ValueError, match="needs decisions to fit on, got none"):
        evaluate(LOG.select(LOG.reward > 9.0), UniformPolicy())
