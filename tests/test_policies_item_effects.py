"""Effects of items: posteriors against the formula, variances against a known truth, bytes."""

import math

import msgspec
import numpy as np
import pytest

from env.features import N_SHARED
from env.vocabulary import Floats
from policies.item_effects import EVIDENCE, EVIDENCE_SCALE, ItemBeliefs, ItemEffects, Optimism

N_SLOTS = 1024
FOREVER = 1e6


def residuals_of(
    seed: int, *, n: int, items: int, between: float, noise: float, level: float = 0.0
) -> tuple[list[tuple[int, float]], Floats]:
    """Return a stream of (slot, residual) of evenly drawn items, and their true effects."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0.0, between, items)
    slots = rng.integers(items, size=n)
    residuals = level + effects[slots] + rng.normal(0.0, noise, n)
    return list(zip(slots.tolist(), residuals.tolist(), strict=True)), effects


def folded(stream: list[tuple[int, float]], memory: float = FOREVER) -> ItemEffects:
    effects = ItemEffects(N_SLOTS, 0.25, memory)
    for slot, residual in stream:
        effects.fold(slot, residual)
    return effects


def test_a_posterior_is_what_the_formula_says() -> None:
    counts, sums = np.zeros((2, 4), dtype=np.float32)
    counts[1], sums[1] = 12.0, 4.0
    beliefs = ItemBeliefs(counts, sums, level=0.5, noise=0.2, between=0.05)
    mean, sd = beliefs.posterior(np.array([1, 2]))
    assert mean == pytest.approx([0.5 + 4.0 / 16.0, 0.5])
    assert sd == pytest.approx([math.sqrt(0.2 / 16.0), math.sqrt(0.05)])


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_both_variances_and_the_level_are_found_in_whatever_unit(scale: float) -> None:
    found = []
    for seed in range(12):
        stream, _ = residuals_of(
            seed, n=8_000, items=200, between=0.2 * scale, noise=0.4 * scale, level=3.0 * scale
        )
        effects = folded(stream)
        beliefs = effects.beliefs()
        # The prior of tau^2, .25^2 sigma^2, is mixed in: it weighs as much as 20 items (k = 16).
        heard = effects._moments.n_between
        mixed = (heard * 0.04 + 20.0 * 8.0 * 0.01) / (heard + 20.0 * 8.0)
        assert mixed > 0.03
        found.append(
            (
                beliefs.noise / scale**2 - 0.16,
                beliefs.between / scale**2 - mixed,
                beliefs.level / scale - 3.0,
            )
        )
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0)) < 4.0 * error).all()


def test_posteriors_are_as_sure_as_they_are_right() -> None:
    squares = []
    for seed in range(20):
        stream, effects = residuals_of(seed, n=3_000, items=200, between=0.1, noise=0.4)
        mean, sd = folded(stream).beliefs().posterior(np.arange(200))
        squares.append(float(np.mean(((mean - effects) / sd) ** 2)))
    error = np.std(squares, ddof=1) / math.sqrt(len(squares))
    assert abs(np.mean(squares) - 1.0) < 4.0 * error


def test_whoever_comes_first_gains_nothing_from_a_model_without_a_level() -> None:
    rng = np.random.default_rng(3)
    effects = folded([(0, 0.8 + 0.1 * rng.normal()) for _ in range(200)])
    mean, _ = effects.beliefs().posterior(np.array([0, 1]))
    assert abs(mean[0] - mean[1]) < 0.1 * 0.8
    assert mean == pytest.approx([0.8, 0.8], abs=0.1)


def test_an_effect_that_changes_is_followed_and_a_hit_stays_uncertain() -> None:
    rng = np.random.default_rng(4)
    others = [(int(slot), float(rng.normal(0.0, 0.4))) for slot in rng.integers(1, 50, 2_000)]
    mine = [(0, 0.4 + float(rng.normal(0.0, 0.4))) for _ in range(1_000)]
    turned = [(0, -0.4 + float(rng.normal(0.0, 0.4))) for _ in range(200)]
    short, long = (folded([*others, *mine, *turned], m).beliefs() for m in (50.0, FOREVER))
    one = np.array([0])
    assert short.posterior(one)[0] < -0.2 < 0.1 < long.posterior(one)[0]
    assert short.posterior(one)[1] > 0.9 * math.sqrt(short.noise / 60.0)
    assert long.posterior(one)[1] < math.sqrt(long.noise / 1_000.0)


def test_curiosity_never_ends_where_items_do_not_differ() -> None:
    stream, _ = residuals_of(5, n=20_000, items=500, between=0.0, noise=0.4)
    beliefs = folded(stream).beliefs()
    assert 0.0 < beliefs.between < 0.2 * 0.25**2 * beliefs.noise


def test_a_fold_that_went_on_from_its_bytes_has_the_bytes_of_one_that_never_stopped() -> None:
    stream, _ = residuals_of(6, n=400, items=60, between=0.2, noise=0.4)
    whole, effects = folded(stream, 50.0), folded(stream[:150], 50.0)
    again = ItemEffects(N_SLOTS, 0.25, 50.0)
    again.restore(effects.to_bytes())
    assert again.to_bytes() == effects.to_bytes()
    for slot, residual in stream[150:]:
        again.fold(slot, residual)
    assert again.to_bytes() == whole.to_bytes()
    assert again.beliefs().to_bytes() == whole.beliefs().to_bytes()


def test_beliefs_from_bytes_have_the_same_posteriors_to_the_last_bit() -> None:
    stream, _ = residuals_of(7, n=300, items=60, between=0.2, noise=0.4)
    effects = folded(stream)
    beliefs = effects.beliefs()
    again = ItemBeliefs.from_bytes(beliefs.to_bytes(), N_SLOTS)
    slots = np.arange(N_SLOTS)
    before = [part.tobytes() for part in beliefs.posterior(slots)]
    assert [part.tobytes() for part in again.posterior(slots)] == before
    effects.fold(0, 5.0)
    assert [part.tobytes() for part in beliefs.posterior(slots)] == before


SLOT, ONE, NAN = b"\1\0\0\0", b"\0\0\x80\x3f", b"\0\0\xc0\x7f"


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ((SLOT, ONE, b""), "expected 4 bytes an item of each"),
        ((b"\1", b"\1", b"\1"), "expected 4 bytes an item of each"),
        ((b"\0\4\0\0", ONE, ONE), "expected ascending places below 1024"),
        ((SLOT * 2, ONE * 2, ONE * 2), "expected ascending places below 1024"),
        ((SLOT, NAN, ONE), "expected finite counts above 0 and finite sums"),
        ((SLOT, b"\0" * 4, ONE), "expected finite counts above 0 and finite sums"),
        ((SLOT, ONE, NAN), "expected finite counts above 0 and finite sums"),
    ],
)
def test_columns_that_cannot_be_are_refused(packed: tuple[bytes, ...], message: str) -> None:
    moments = (0, 0.0, 1.0, 1.0, 0.0, 0.0)
    effects = ItemEffects(N_SLOTS, 0.25, 50.0)
    before = effects.to_bytes()
    with pytest.raises(ValueError, match=message):
        effects.restore(msgspec.msgpack.encode((moments, packed)))
    assert effects.to_bytes() == before
    with pytest.raises(ValueError, match=message):
        ItemBeliefs.from_bytes(msgspec.msgpack.encode(((0.0, 1.0, 1.0), packed)), N_SLOTS)


def test_moments_that_are_not_finite_are_refused() -> None:
    data = msgspec.msgpack.encode(((0, math.nan, 1.0, 1.0, 0.0, 0.0), (b"", b"", b"")))
    with pytest.raises(ValueError, match="expected finite moments"):
        ItemEffects(N_SLOTS, 0.25, 50.0).restore(data)


def test_a_newcomer_s_width_narrows_with_evidence_and_any_column_is_borne() -> None:
    optimism = Optimism(width=2.0, newcomer=0.5, newcomer_evidence=10.0)
    shared = np.zeros(N_SHARED, dtype=np.float32)
    widths = []
    for evidence in (0.0, 10.0, 1e9):
        shared[EVIDENCE] = math.log1p(evidence) / EVIDENCE_SCALE
        widths.append(optimism.towards(shared))
    assert widths == pytest.approx([3.0, 2.5, 2.0], rel=1e-5)
    for column, width in ((-1.0, 3.0), (65504.0, 2.0)):
        shared[EVIDENCE] = column
        assert optimism.towards(shared) == pytest.approx(width)


@pytest.mark.parametrize("optimism", [(-1.0, 0.0, 1.0), (1.0, math.inf, 1.0), (1.0, 0.0, 0.0)])
def test_an_optimism_out_of_range_is_refused(optimism: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="width must be in"):
        Optimism(*optimism)
