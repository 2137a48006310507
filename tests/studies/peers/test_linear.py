import numpy as np
import pytest

from env.columns.schema import DYNAMIC, N_ACTION, N_SHARED, N_STATIC, SHARED
from env.interface import fill_page
from env.records import pack_halves
from env.vocabulary import (
    Context,
    DecisionId,
    Features,
    Feedback,
    Floats,
    Interaction,
    Ints,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from tests.studies.peers.linear import (
    LEAST_CHANCE,
    LinearArgs,
    LinearPosterior,
    LinThompson,
    LinUcb,
    best_chances,
)

COLUMNS = ("play_rate", "v0", "v1", "long_match")
ARGS = LinearArgs(columns=COLUMNS, weight_sd=0.4, constant_sd=2.0, item_sd=0.3, noise_sd=0.6)


def features_of(rng: np.random.Generator, n: int, n_items: int = 10**6) -> Features:
    shared, actions = np.zeros(N_SHARED), np.zeros((n, N_ACTION))
    shared[SHARED.index("play_rate")] = rng.random()
    actions[:, [0, 1, N_STATIC + DYNAMIC.index("long_match")]] = rng.normal(size=(n, 3))
    return Features(
        shared.astype(np.float16).astype(np.float32),
        actions.astype(np.float16).astype(np.float32),
        rng.integers(0, n_items, n).astype(np.uint64),
    )


def context_of(features: Features) -> Context:
    ids = tuple(ItemId(f"{i}") for i in range(len(features.keys)))
    return Context(PageId("p"), UserKey("u"), SessionId("s"), Scene(0), ids, features)


def interaction_of(features: Features, reward: float) -> Interaction:
    """Of the first candidate."""
    return Interaction(
        decision_id=DecisionId("p:0"),
        page_id=PageId("p"),
        user=UserKey("u"),
        session=SessionId("s"),
        item_id=ItemId("i"),
        slot=0,
        policy="linucb@0",
        propensity=0.5,
        n_actions=len(features.keys),
        shared=pack_halves(features.shared),
        action=pack_halves(features.actions[0]),
        item_key=int(features.keys[0]),
        duration_s=20.0,
        feedback=Feedback(seen=True, left=True),
        reward=reward,
        scene=Scene(0),
        closed_ms=0,
    )


def dense_moments(
    x: Floats, item: Ints, reward: Floats, prior_sds: Floats, item_sd: float, noise_sd: float
) -> tuple[Floats, Floats]:
    """Mean and covariance of all weights by ridge regression with a column an item."""
    n_items = int(item.max()) + 1
    design = np.hstack([x, np.eye(n_items)[item]])
    prior = np.concatenate([prior_sds, np.full(n_items, item_sd)]) ** -2.0
    precision = np.diag(prior) + design.T @ design / noise_sd**2
    mean: Floats = np.asarray(np.linalg.solve(precision, design.T @ reward / noise_sd**2))
    return mean, np.asarray(np.linalg.inv(precision))


def test_the_posterior_is_that_of_a_dense_ridge_regression() -> None:
    rng = np.random.default_rng(5)
    n, p, n_items = 400, 5, 12
    x, item, reward = rng.normal(size=(n, p)), rng.integers(n_items, size=n), rng.normal(size=n)
    item[-1] = n_items - 1
    sds = np.array([2.0, 0.3, 0.3, 0.1, 1.0])
    posterior = LinearPosterior(sds, item_sd=0.2, noise_sd=0.7)
    for row in range(n):
        posterior.fold(x[row], int(item[row]), float(reward[row]))
    weights, covariance = dense_moments(x, item, reward, sds, 0.2, 0.7)
    new, keys = rng.normal(size=(n_items, p)), np.arange(n_items)
    design = np.hstack([new, np.eye(n_items)])
    mean, sd = posterior.moments(new, keys.astype(np.uint64))
    np.testing.assert_allclose(mean, design @ weights, rtol=1e-9, atol=1e-10)
    variance = np.einsum("ij,jk,ik->i", design, covariance, design)
    np.testing.assert_allclose(sd, np.sqrt(variance), rtol=1e-9)


def test_an_item_never_shown_has_the_priors_intercept() -> None:
    posterior = LinearPosterior(np.array([0.5]), item_sd=0.3, noise_sd=1.0)
    mean, sd = posterior.moments(np.array([[2.0]]), np.array([7], dtype=np.uint64))
    assert mean[0] == 0.0
    assert sd[0] == pytest.approx(np.sqrt((2.0 * 0.5) ** 2 + 0.3**2))


def test_items_beyond_the_first_table_are_remembered() -> None:
    posterior = LinearPosterior(np.array([1e-6]), item_sd=1.0, noise_sd=1.0)
    for key in range(600):
        posterior.fold(np.array([1.0]), key, float(key))
    mean, _ = posterior.moments(np.ones((2, 1)), np.array([3, 599], dtype=np.uint64))
    np.testing.assert_allclose(mean, [1.5, 299.5], rtol=1e-6)


def test_linucb_scores_columns_by_name_and_adds_its_width() -> None:
    rng = np.random.default_rng(6)
    policy = LinUcb(ARGS)
    stream = [interaction_of(features_of(rng, 1, 8), float(rng.normal())) for _ in range(60)]
    policy.learn(stream)
    page = features_of(rng, 6, 8)
    posterior = LinearPosterior(np.array([2.0, 0.4, 0.4, 0.4, 0.4]), 0.3, 0.6)

    def columns(shared: bytes, action: bytes) -> Floats:
        one, other = np.frombuffer(shared, "<f2"), np.frombuffer(action, "<f2")
        places = [0, 1, N_STATIC + DYNAMIC.index("long_match")]
        return np.array([1.0, one[SHARED.index("play_rate")], *other[places]], dtype=np.float64)

    for i in stream:
        posterior.fold(columns(i.shared, i.action), i.item_key, i.reward)
    x = np.array([columns(pack_halves(page.shared), pack_halves(row)) for row in page.actions])
    mean, sd = posterior.moments(x, page.keys)
    np.testing.assert_allclose(policy.score(context_of(page)), mean + sd, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_thompsons_pmf_is_how_often_a_draw_is_the_best(n: int) -> None:
    rng = np.random.default_rng(n)
    mean = rng.normal(0.5, 0.1, n)
    sd = np.exp(rng.uniform(np.log(0.01), np.log(0.3), n))
    draws = 400_000
    wins = np.bincount((mean + sd * rng.normal(size=(draws, n))).argmax(axis=1), minlength=n)
    exact = best_chances(mean, sd)
    # One win more or less in all draws is what a chance of next to nothing may be off by.
    errors = np.sqrt(exact * (1.0 - exact) / draws) + 1.0 / draws
    assert (np.abs(wins / draws - exact) < 4.0 * errors).all()
    assert exact.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_candidate_that_cannot_be_the_best_has_the_least_chance() -> None:
    chances = best_chances(np.array([0.0, 9.0, 9.0]), np.array([0.1, 0.1, 0.1]))
    np.testing.assert_allclose(chances, [0.0, 0.5, 0.5], atol=1e-9)


def test_a_page_of_thompsons_is_drawn_from_its_chances() -> None:
    rng = np.random.default_rng(8)
    policy = LinThompson(ARGS)
    policy.learn([interaction_of(features_of(rng, 1, 8), float(rng.normal())) for _ in range(60)])
    context = context_of(features_of(rng, 6, 8))
    scores, mask = policy.score(context), np.ones(6, dtype=np.bool_)
    pmf = policy.explore(scores, mask)
    np.testing.assert_allclose(pmf, np.exp(scores), rtol=1e-9)
    assert (scores >= np.log(LEAST_CHANCE)).all()
    page = fill_page(context, policy, (SlotRule(mask, mask),), 0.02, 3)
    drawn = page.decisions[0]
    assert drawn.propensity == pytest.approx(0.98 * pmf[drawn.action] + 0.02 / 6)


def test_a_wider_posterior_explores_more() -> None:
    rng = np.random.default_rng(9)
    stream = [interaction_of(features_of(rng, 1, 8), float(rng.normal())) for _ in range(60)]
    context = context_of(features_of(rng, 6, 8))
    best = []
    for width in (0.1, 1.0):
        policy = LinThompson(LinearArgs(columns=COLUMNS, width=width))
        policy.learn(stream)
        best.append(policy.score(context).max())
    assert best[0] > best[1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"columns": ("v0", "nonsense")}, "columns of env.columns.schema, got nonsense"),
        ({"width": -1.0}, "width must be at least 0"),
        ({"item_sd": 0.0}, "item_sd must be above 0"),
        ({"noise_sd": float("inf")}, "noise_sd must be above 0"),
    ],
)
def test_arguments_that_are_no_prior_are_refused(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearArgs(**bad)  # type: ignore[arg-type]


def test_thompson_needs_some_width() -> None:
    with pytest.raises(ValueError, match="above 0 for Thompson"):
        LinThompson(LinearArgs(width=0.0))
