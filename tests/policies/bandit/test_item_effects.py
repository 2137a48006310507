"""Effects of items: posteriors against the formula, variances against a known truth, bytes."""

import math

import msgspec
import numpy as np
import pytest

from env.columns.scales import EVIDENCE_SCALE
from env.columns.schema import N_SHARED
from env.vocabulary import Floats
from policies.bandit.item_effects import EVIDENCE, ExplorationBonus, ItemEffects, ItemPosteriors

N_SLOTS = 1024
FOREVER = 1e6
ONE = np.ones(1)
NO_WEIGHT, NO_DOUBT = np.zeros(1), np.zeros((1, 1))


def residuals_of(
    seed: int, *, n: int, items: int, between: float, noise: float
) -> tuple[list[tuple[int, float]], Floats]:
    """Return a stream of (slot, residual) of evenly drawn items, and their true effects."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0.0, between, items)
    slots = rng.integers(items, size=n)
    residuals = effects[slots] + rng.normal(0.0, noise, n)
    return list(zip(slots.tolist(), residuals.tolist(), strict=True)), effects


def folded(stream: list[tuple[int, float]], memory: float = FOREVER) -> ItemEffects:
    return fold_all(ItemEffects(N_SLOTS, 1, 0.25, memory), stream)


def fold_all(effects: ItemEffects, stream: list[tuple[int, float]]) -> ItemEffects:
    """Fold residuals: rewards that columns say nothing of."""
    for slot, residual in stream:
        effects.fold(effects.own(slot, NO_WEIGHT), ONE, 0.0, residual)
    return effects


def beliefs_of(effects: ItemEffects) -> ItemPosteriors:
    return effects.beliefs(NO_WEIGHT, NO_DOUBT)


def test_a_posterior_is_what_the_formula_says() -> None:
    counts, sums, spreads = np.zeros((3, 4), dtype=np.float32)
    counts[1], sums[1], spreads[2] = 12.0, 4.0, 0.5
    beliefs = ItemPosteriors(counts, sums, spreads, noise=0.2, between=0.05)
    mean, sd = beliefs.posterior(np.array([1, 2, 3]))
    assert mean == pytest.approx([4.0 / 16.0, 0.0, 0.0])
    assert sd == pytest.approx([math.sqrt(0.2 / 16.0), math.sqrt(0.05 + 0.1), math.sqrt(0.05)])


def test_an_effect_is_what_columns_leave_over_and_their_doubt_is_a_part_of_its_sd() -> None:
    rng = np.random.default_rng(8)
    effects = ItemEffects(N_SLOTS, 3, 0.25, FOREVER)
    shown = [(int(slot), np.array([1.0, *rng.normal(size=2)])) for slot in rng.integers(5, size=60)]
    rewards = rng.normal(size=60)
    for (slot, x), reward in zip(shown, rewards, strict=True):
        effects.fold(effects.own(slot, np.zeros(3)), x, 0.0, float(reward))
    weights = np.array([0.2, -0.5, 1.0])
    root = rng.normal(size=(3, 3))
    beliefs = effects.beliefs(weights, root @ root.T)
    mean, sd = beliefs.posterior(np.arange(6))
    k = beliefs.noise / beliefs.between
    doubts = []
    for slot in range(5):
        mine = [i for i, (other, _) in enumerate(shown) if other == slot]
        x, n = np.array([shown[i][1] for i in mine]), len(mine)
        assert mean[slot] == pytest.approx((rewards[mine] - x @ weights).sum() / (n + k), rel=1e-4)
        doubts.append(float(((x.mean(axis=0) @ root) ** 2).sum()))
        doubt = doubts[-1] * (k / (n + k)) ** 2
        assert sd[slot] ** 2 == pytest.approx(beliefs.noise * (1.0 / (n + k) + doubt), rel=1e-4)
        assert effects.own(slot, weights).mean == pytest.approx(mean[slot], rel=1e-4)
    assert mean[5] == 0.0
    assert sd[5] ** 2 == pytest.approx(beliefs.between + beliefs.noise * np.mean(doubts), rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.slow
def test_both_variances_are_found_in_whatever_unit(scale: float) -> None:
    found = []
    for seed in range(8):
        stream, _ = residuals_of(seed, n=5_000, items=200, between=0.2 * scale, noise=0.4 * scale)
        effects = folded(stream)
        beliefs = beliefs_of(effects)
        # The prior of tau^2, .25^2 sigma^2, is mixed in: it weighs as much as 20 items (k = 16).
        heard = effects._moments.n_between
        mixed = (heard * 0.04 + 20.0 * 8.0 * 0.01) / (heard + 20.0 * 8.0)
        assert mixed > 0.03
        found.append(
            (
                beliefs.noise / scale**2 - 0.16,
                beliefs.between / scale**2 - mixed,
            )
        )
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0)) < 4.0 * error).all()


@pytest.mark.slow
def test_posteriors_are_as_sure_as_they_are_right() -> None:
    squares = []
    for seed in range(20):
        stream, effects = residuals_of(seed, n=3_000, items=200, between=0.1, noise=0.4)
        mean, sd = beliefs_of(folded(stream)).posterior(np.arange(200))
        squares.append(float(np.mean(((mean - effects) / sd) ** 2)))
    error = np.std(squares, ddof=1) / math.sqrt(len(squares))
    assert abs(np.mean(squares) - 1.0) < 4.0 * error


def test_an_effect_that_changes_is_followed_and_a_hit_stays_uncertain() -> None:
    rng = np.random.default_rng(4)
    others = [(int(slot), float(rng.normal(0.0, 0.4))) for slot in rng.integers(1, 50, 2_000)]
    mine = [(0, 0.4 + float(rng.normal(0.0, 0.4))) for _ in range(1_000)]
    turned = [(0, -0.4 + float(rng.normal(0.0, 0.4))) for _ in range(200)]
    stream = [*others, *mine, *turned]
    short, long = (beliefs_of(folded(stream, memory)) for memory in (50.0, FOREVER))
    one = np.array([0])
    assert short.posterior(one)[0] < -0.2 < 0.1 < long.posterior(one)[0]
    assert short.posterior(one)[1] > 0.9 * math.sqrt(short.noise / 60.0)
    assert long.posterior(one)[1] < math.sqrt(long.noise / 1_000.0)


def test_curiosity_never_ends_where_items_do_not_differ() -> None:
    stream, _ = residuals_of(5, n=20_000, items=500, between=0.0, noise=0.4)
    beliefs = beliefs_of(folded(stream))
    assert 0.0 < beliefs.between < 0.2 * 0.25**2 * beliefs.noise


def test_a_fold_that_went_on_from_its_bytes_has_the_bytes_of_one_that_never_stopped() -> None:
    stream, _ = residuals_of(6, n=400, items=60, between=0.2, noise=0.4)
    whole, effects = folded(stream, 50.0), folded(stream[:150], 50.0)
    again = ItemEffects(N_SLOTS, 1, 0.25, 50.0)
    again.restore(effects.to_bytes())
    assert again.to_bytes() == effects.to_bytes()
    fold_all(again, stream[150:])
    assert again.to_bytes() == whole.to_bytes()
    assert beliefs_of(again).to_bytes() == beliefs_of(whole).to_bytes()


def test_more_items_than_there_is_room_for_at_first_are_all_kept() -> None:
    stream = [(slot, float(slot % 7)) for slot in range(N_SLOTS)]
    effects = folded([*stream, *stream])
    counts = beliefs_of(effects).counts
    assert counts == pytest.approx(np.full(N_SLOTS, 2.0), rel=1e-4)
    assert [effects.own(slot, NO_WEIGHT).sums[0] for slot, _ in stream] == pytest.approx(
        [2.0 * reward for _, reward in stream], rel=1e-4
    )


def test_beliefs_from_bytes_have_the_same_posteriors_to_the_last_bit() -> None:
    stream, _ = residuals_of(7, n=300, items=60, between=0.2, noise=0.4)
    effects = folded(stream)
    beliefs = effects.beliefs(NO_WEIGHT, np.full((1, 1), 0.1))
    again = ItemPosteriors.from_bytes(beliefs.to_bytes(), N_SLOTS)
    slots = np.arange(N_SLOTS)
    before = [part.tobytes() for part in beliefs.posterior(slots)]
    assert [part.tobytes() for part in again.posterior(slots)] == before
    fold_all(effects, [(0, 5.0)])
    assert [part.tobytes() for part in beliefs.posterior(slots)] == before


SLOT, ROW = b"\1\0\0\0", np.ones(2, "<f4").tobytes()
NAN = np.full(2, np.nan, "<f4").tobytes()


@pytest.mark.parametrize(
    ("slots", "row", "message"),
    [
        (SLOT, ROW[4:], "expected 4 bytes an item of its place and each of 2 numbers"),
        (b"\1", b"\1\1", "expected 4 bytes an item of its place"),
        (b"\0\4\0\0", ROW, "expected ascending places below 1024"),
        (SLOT * 2, ROW * 2, "expected ascending places below 1024"),
        (SLOT, NAN, "expected finite numbers of items"),
        (SLOT, bytes(8), "expected counts above 0"),
    ],
)
def test_columns_that_cannot_be_are_refused(slots: bytes, row: bytes, message: str) -> None:
    moments = (1.0, 1.0, 0.0, 0.0)
    effects = ItemEffects(N_SLOTS, 1, 0.25, 50.0)
    before = effects.to_bytes()
    with pytest.raises(ValueError, match=message):
        effects.restore(msgspec.msgpack.encode((moments, (slots, row))))
    assert effects.to_bytes() == before


@pytest.mark.parametrize(
    ("numbers", "row", "message"),
    [
        ((1.0, 1.0, 0.0), np.ones(2), "each of 3 numbers, got 4 and 8"),
        ((1.0, 1.0, 0.0), np.array([0.0, 1.0, 0.0]), "expected counts above 0 and spreads"),
        ((1.0, 1.0, 0.0), np.array([1.0, 1.0, -1.0]), "expected counts above 0 and spreads"),
        ((1.0, 1.0, 0.0), np.array([1.0, np.inf, 0.0]), "expected finite numbers"),
        ((0.0, 1.0, 0.0), np.ones(3), "expected variances above 0"),
        ((1.0, math.nan, 0.0), np.ones(3), "expected variances above 0"),
        ((1.0, 1.0, -0.1), np.ones(3), "expected variances above 0 and a spread"),
    ],
)
def test_beliefs_that_cannot_be_are_refused(
    numbers: tuple[float, float, float], row: Floats, message: str
) -> None:
    data = msgspec.msgpack.encode((*numbers, (SLOT, row.astype("<f4").tobytes())))
    with pytest.raises(ValueError, match=message):
        ItemPosteriors.from_bytes(data, N_SLOTS)


def test_moments_that_are_not_finite_are_refused() -> None:
    data = msgspec.msgpack.encode(((math.nan, 1.0, 0.0, 0.0), (b"", b"")))
    with pytest.raises(ValueError, match="expected finite moments"):
        ItemEffects(N_SLOTS, 1, 0.25, 50.0).restore(data)


def test_a_newcomer_s_width_narrows_with_evidence_and_any_column_is_borne() -> None:
    optimism = ExplorationBonus(width=2.0, newcomer=0.5, newcomer_evidence=10.0)
    shared = np.zeros(N_SHARED, dtype=np.float32)
    widths = []
    for evidence in (0.0, 10.0, 1e9):
        shared[EVIDENCE] = math.log1p(evidence) / EVIDENCE_SCALE.by
        widths.append(optimism.width_for(shared))
    assert widths == pytest.approx([3.0, 2.5, 2.0], rel=1e-4)
    for column, width in ((-1.0, 3.0), (65504.0, 2.0)):
        shared[EVIDENCE] = column
        assert optimism.width_for(shared) == pytest.approx(width)


@pytest.mark.parametrize("optimism", [(-1.0, 0.0, 1.0), (1.0, math.inf, 1.0), (1.0, 0.0, 0.0)])
def test_an_optimism_out_of_range_is_refused(optimism: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="width must be in"):
        ExplorationBonus(*optimism)


def test_an_undo_forgets_new_items_and_what_old_ones_were_given_whatever_comes_next() -> None:
    stream, _ = residuals_of(9, n=900, items=60, between=0.3, noise=0.5)
    effects, other = folded(stream[:300]), folded(stream[:300])
    effects.mark()
    effects = fold_all(effects, [(slot + 40, residual) for slot, residual in stream[300:600]])
    assert effects.to_bytes() != other.to_bytes()
    effects.undo()
    assert effects.to_bytes() == other.to_bytes()
    assert fold_all(effects, stream[600:]).to_bytes() == fold_all(other, stream[600:]).to_bytes()
