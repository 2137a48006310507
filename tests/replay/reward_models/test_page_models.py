"""Models that learn batch by batch: from everybody but those they score, and in the log's order."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from logs import Batches, draw_batch
from worlds import LIKES, World, lines

from env.vocabulary import Context, Feedback, Floats, Interaction, UserKey
from policies.bandit.reward_model import HybridBanditReward
from policies.bandit.settings import HybridBanditArgs
from policies.baselines import UniformPolicy
from replay.evaluate.evaluate import evaluate_all
from replay.evaluate.targets import PolicyTarget
from replay.join.dataset import Dataset, read
from replay.reward_models.batch_models import ByPage
from replay.reward_models.page_models import fit_growing, interactions_of
from replay.reward_models.ridge import cross_fit

ARGS = HybridBanditArgs(bits=12)


def make_log(n_users: int = 60) -> Dataset:
    world = World(rng=np.random.default_rng(3))
    records = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=n_users, pages_each=3, eps=0.1):
        records += its_records
    return read(lines(records), LIKES)


def make_model() -> HybridBanditReward:
    return HybridBanditReward(ARGS)


class Memory:
    """Knows whom it has learned from, and predicts only for others."""

    def __init__(self) -> None:
        self.met: list[UserKey] = []

    def fit(self, interactions: Sequence[Interaction]) -> None:
        self.met = []
        self.learn(interactions)

    def learn(self, interactions: Sequence[Interaction]) -> None:
        self.met += [interaction.user for interaction in interactions]

    def predict(self, context: Context) -> Floats:
        assert context.user not in self.met
        return np.zeros(len(context))


def test_decisions_of_a_batch_are_the_interactions_of_the_log_but_for_their_feedback() -> None:
    log = make_log()
    got = [interaction for batch in log.batches() for interaction in interactions_of(batch)]
    expected = [
        msgspec.structs.replace(
            i, feedback=Feedback(seen=True, left=True), duration_s=0.0, closed_ms=0
        )
        for i in log.interactions(np.arange(len(log)))
    ]
    assert got == expected


def test_learning_by_batches_is_fitting_at_once_on_everybody_else() -> None:
    log = make_log()
    model, expected = fit_growing(log, make_model), ByPage(cross_fit(log, make_model))
    for batch in log.batches():
        np.testing.assert_array_equal(model.predict(batch), expected.predict(batch))


def test_nobody_is_predicted_by_a_model_that_met_them_and_all_others_are_met() -> None:
    made: list[Memory] = []

    def make() -> Memory:
        made.append(Memory())
        return made[-1]

    log = make_log()
    model = fit_growing(log, make, n_folds=3)
    for batch in log.batches():
        assert not model.predict(batch).any()
    assert sum(len(memory.met) for memory in made) == 2 * len(log)


@pytest.mark.slow
def test_a_doubly_robust_estimate_may_lean_on_vowpal_wabbit() -> None:
    log, target = make_log(120), PolicyTarget(UniformPolicy())
    mine, theirs = (
        evaluate_all(log, [target], *fit, force=True).reports[0]
        for fit in ((lambda source: fit_growing(source, make_model),), ())
    )
    assert mine.estimate("dm").value != theirs.estimate("dm").value
    assert mine.estimate("ips") == theirs.estimate("ips")
    for report in (mine, theirs):  # the target made the log, so that its mean is the truth
        estimate = report.estimate("dr")
        assert abs(estimate.value - report.logged.value) <= 3.0 * estimate.se


@pytest.mark.parametrize(
    ("source", "n_folds", "message"),
    [
        (make_log(), 1, "at least 2 folds, got 1"),
        (make_log(1), 5, "users in more than one fold, got .* take a longer log"),
        (Batches([draw_batch(20)]), 5, "take the ridge for a foreign log"),
    ],
    ids=["folds", "users", "foreign"],
)
def test_what_cannot_be_cross_fitted_is_refused(
    source: Dataset | Batches, n_folds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_growing(source, make_model, n_folds)
