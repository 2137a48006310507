"""Main effects: the exact ridge, one posterior with the items' effects, VW's worth, bytes."""

import math

import msgspec
import numpy as np
import pytest
from one_candidate import columns_of

from env.columns.schema import N_ACTION, N_SHARED
from env.vocabulary import Features, Floats
from policies.bandit.item_effects import ItemEffects
from policies.bandit.main_effects import (
    CONSTANT_PRECISION,
    MAIN_USER_COLUMNS,
    MATCH_COLUMNS,
    N_COLUMNS,
    N_USER_COLUMNS,
    SOLVE_EVERY,
    MainEffects,
    ResidualShrinkage,
    weights_from,
)
from tests.studies.peers.linear import LinearPosterior

FOREVER = 1e9


def rows_of(seed: int, n: int, noise: float = 0.5) -> tuple[Floats, Floats]:
    """Return rows of reward and columns, (n, 1 + N_COLUMNS), and the weights behind them."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.3, N_COLUMNS)
    columns = rng.normal(size=(n, N_COLUMNS))
    columns[:, 0] = 1.0
    return np.column_stack([columns @ weights + rng.normal(0.0, noise, n), columns]), weights


def folded(rows: Floats, memory: float = FOREVER) -> MainEffects:
    main = MainEffects(0.6, memory, 0.6)
    for row in rows:
        main.fold(row)
    return main


@pytest.mark.parametrize("n", [1, 63, 64, 100, 700])
def test_mean_and_covariance_are_those_of_the_normal_equations(n: int) -> None:
    rows, _ = rows_of(1, n)
    prior = np.full(N_COLUMNS, 1.0 / 0.36)
    prior[0] = CONSTANT_PRECISION
    x, r = rows[:, 1:], rows[:, 0]
    precision = x.T @ x + np.diag(prior)
    mean, covariance = folded(rows).posterior()
    np.testing.assert_allclose(mean, np.linalg.solve(precision, x.T @ r), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=1e-4, atol=1e-6)


def test_columns_of_user_and_item_together_have_a_prior_of_their_own() -> None:
    together = np.zeros(N_COLUMNS, dtype=np.bool_)
    together[MATCH_COLUMNS] = True
    _, covariance = MainEffects(0.2, FOREVER, 0.8).posterior()
    sds = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(sds[together], 0.8)
    np.testing.assert_allclose(sds[1:][~together[1:]], 0.2)


def test_a_wide_prior_learns_what_a_match_is_worth_from_fewer_rewards() -> None:
    rng = np.random.default_rng(11)
    narrow, wide = MainEffects(0.2, FOREVER, 0.2), MainEffects(0.2, FOREVER, 0.8)
    rows = np.zeros((60, 1 + N_COLUMNS))
    rows[:, 1 + MATCH_COLUMNS[0]] = rng.normal(0.0, 0.25, len(rows))
    rows[:, 0] = 1.2 * rows[:, 1 + MATCH_COLUMNS[0]]
    for row in rows:
        narrow.fold(row)
        wide.fold(row)
    told, untold = (main.posterior()[0][MATCH_COLUMNS[0]] for main in (wide, narrow))
    square = float((rows[:, 1 + MATCH_COLUMNS[0]] ** 2).sum())
    assert told == pytest.approx(1.2 * square / (square + 0.8**-2))
    assert untold == pytest.approx(1.2 * square / (square + 0.2**-2))


def test_the_weights_of_the_fold_are_solved_at_powers_of_two_and_then_every_so_many_rows() -> None:
    rows, _ = rows_of(2, 2 * SOLVE_EVERY + 5)
    main, solved = MainEffects(0.6, FOREVER, 0.6), []
    for n, row in enumerate(rows, start=1):
        before = main.weights
        main.fold(row)
        if not np.array_equal(before, main.weights):
            solved.append(n)
            np.testing.assert_allclose(main.weights, main.posterior()[0], rtol=1e-6, atol=1e-9)
    assert solved == [1, 2, 4, 8, 16, 32, 64, 128]


def joint(
    seed: int, n: int, items: int, item_sd: float
) -> tuple[MainEffects, ItemEffects, LinearPosterior, Floats]:
    """Fold the same rewards here and in the posterior that knows both variances, noise .5."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(N_COLUMNS)
    weights[0], weights[-10:] = 0.4, rng.normal(0.0, 0.3, 10)
    blocks = rng.normal(size=(items, N_COLUMNS)) * (np.arange(N_COLUMNS) >= N_COLUMNS - 10)
    blocks[:, 0] = 1.0
    own = rng.normal(0.0, item_sd, items)
    main = MainEffects(0.6, FOREVER, 0.6)
    effects = ItemEffects(items, N_COLUMNS, item_sd / 0.5, 1e6)
    sds = np.full(N_COLUMNS, 0.3)
    sds[0] = 0.5 / math.sqrt(CONSTANT_PRECISION)
    exact = LinearPosterior(sds, item_sd, 0.5)
    for slot in np.minimum(rng.geometric(2.0 / items, n) - 1, items - 1).tolist():
        x = blocks[slot].copy()
        x[-1] += rng.normal()
        reward = float(x @ weights + own[slot] + rng.normal(0.0, 0.5))
        worth = main.expect(x)
        main.fold(effects.fold(effects.own(slot, main.weights), x, worth, reward))
        exact.fold(x, slot, reward)
    return main, effects, exact, blocks


def test_main_effects_and_items_effects_are_one_posterior() -> None:
    """That of all rewards at once, but for the two variances, which are estimated here."""
    for seed in range(3):
        main, effects, exact, blocks = joint(seed, 1_500, 60, 0.3)
        weights, covariance = main.posterior()
        slots = np.arange(len(blocks))
        own, sd = effects.beliefs(weights, covariance).posterior(slots)
        mean, exact_sd = exact.moments(blocks, slots.astype(np.uint64))
        met = np.array([effects.own(slot, weights).sums[1] > 0.0 for slot in slots.tolist()])
        gap = (blocks @ weights + own - mean)[met]
        assert np.abs(gap).max() < 0.1 < 0.3 < mean[met].std()
        assert sd[met].mean() == pytest.approx(exact_sd[met].mean(), rel=0.15)


def test_whoever_comes_first_gains_nothing_before_the_level_is_known() -> None:
    rng = np.random.default_rng(3)
    main, effects = MainEffects(0.6, FOREVER, 0.6), ItemEffects(8, N_COLUMNS, 0.2, 500.0)
    x = np.zeros(N_COLUMNS)
    x[0] = 1.0
    for _ in range(200):
        own = effects.own(0, main.weights)
        main.fold(effects.fold(own, x, main.expect(x), 0.8 + 0.1 * float(rng.normal())))
    weights, covariance = main.posterior()
    mean, sd = effects.beliefs(weights, covariance).posterior(np.array([0, 1]))
    assert abs(mean[0] - mean[1]) < 0.1 * 0.8
    assert weights[0] == pytest.approx(0.8, abs=0.1)
    assert sd[0] < sd[1]


def test_an_audience_that_changes_is_followed_as_fast_as_memory_has_it() -> None:
    before, old = rows_of(4, 1_000)
    after, new = rows_of(5, 1_000)
    rows = np.concatenate([before, after])
    short, long = (folded(rows, memory).posterior()[0] for memory in (200.0, FOREVER))
    assert np.abs(short - new).mean() < 0.1
    assert np.abs(long - 0.5 * (old + new)).mean() < 0.1 < np.abs(long - new).mean()


def test_a_fold_that_went_on_from_its_bytes_has_the_bytes_of_one_that_never_stopped() -> None:
    rows, _ = rows_of(6, 300)
    whole = folded(rows, 500.0)
    for cut in (0, 10, 64, 150):
        begun, again = folded(rows[:cut], 500.0), MainEffects(0.6, 500.0, 0.6)
        again.restore(begun.to_bytes())
        assert again.to_bytes() == begun.to_bytes()
        assert again.posterior()[0].tobytes() == begun.posterior()[0].tobytes()
        for row in rows[cut:]:
            again.fold(row)
        assert again.to_bytes() == whole.to_bytes()


SQUARE, WEIGHTS, WAITING = (
    bytes(8 * (N_COLUMNS + 1) ** 2),
    bytes(8 * N_COLUMNS),
    bytes(8 * (N_COLUMNS + 1)),
)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((SQUARE[8:], b"", WEIGHTS), "bytes of main effects, got"),
        ((SQUARE, WAITING[8:], WEIGHTS), "bytes of main effects, got"),
        ((SQUARE, b"", WEIGHTS[8:]), "learned on other columns"),
        ((SQUARE, WAITING * SOLVE_EVERY, WEIGHTS), "expected less than 64 rows that wait, got 64"),
        ((SQUARE, b"", np.full(N_COLUMNS, np.nan, "<f8").tobytes()), "expected finite"),
    ],
)
def test_bytes_that_cannot_be_are_refused_and_change_nothing(
    parts: tuple[bytes, bytes, bytes], message: str
) -> None:
    main = folded(rows_of(7, 70)[0])
    before = main.to_bytes()
    with pytest.raises(ValueError, match=message):
        main.restore(msgspec.msgpack.encode((0, *parts)))
    assert main.to_bytes() == before


def test_weights_from_bytes_are_as_many_as_columns() -> None:
    assert weights_from(WEIGHTS).shape == (N_COLUMNS,)
    with pytest.raises(ValueError, match="bytes of main effects"):
        weights_from(WEIGHTS[8:])


def test_columns_are_the_constant_some_of_the_user_s_and_all_of_the_item_s() -> None:
    shared = np.arange(N_SHARED, dtype=np.float32)
    actions = np.arange(100, 100 + N_ACTION, dtype=np.float32)[None, :]
    columns = columns_of(Features(shared, actions, np.array([1], dtype=np.uint64)))
    assert columns[0] == 1.0
    np.testing.assert_array_equal(columns[1:N_USER_COLUMNS], shared[MAIN_USER_COLUMNS])
    np.testing.assert_array_equal(columns[N_USER_COLUMNS:], actions[0])


@pytest.mark.parametrize("sums", [(math.nan, 1.0), (1.0, math.inf), (0.0, -1.0)])
def test_a_worth_of_sums_that_cannot_be_is_refused(sums: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected finite sums"):
        ResidualShrinkage(*sums)


@pytest.mark.parametrize(("truth", "low", "high"), [(0.0, 0.0, 0.1), (0.5, 0.4, 0.6), (2.0, 1, 1)])
def test_a_prediction_s_worth_is_the_part_of_it_that_comes_true(
    truth: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(8)
    worth = ResidualShrinkage()
    assert worth.share(0.25) == 0.0
    for predicted in rng.normal(0.0, 0.3, 3_000).tolist():
        worth = worth.moved(predicted, truth * predicted + float(rng.normal(0.0, 0.5)))
    assert low <= worth.share(0.25) <= high
