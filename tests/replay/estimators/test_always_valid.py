"""Differences between arms: the delta method by user, intervals that bear any number of looks."""

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.always_valid import (
    UserRatio,
    difference,
    half_width,
    ratio_of_users,
    se_for,
)
from replay.estimators.ratios import SumRatio

MEAN = 0.5
LOOKS = (100, 150, 200, 300, 400, 600, 800, 1_100, 1_500, 2_000)
"""Users of both arms together at each look; a fifth of them are the control's."""


def swiping(rng: np.random.Generator, n: int) -> SumRatio:
    """Rewards and cards of users who differ in both: who likes the feed more stays longer.

    The expected reward of a card is MEAN: liking counts by the cards that it brings.
    """
    fondness = rng.normal(0.0, 0.2, n)
    cards: Floats = 1.0 + rng.poisson(9.0 * np.exp(fondness)).astype(np.float64)
    expected = MEAN + fondness - _tilt()
    earned: Floats = cards * expected + rng.normal(size=n) * 0.6 * np.sqrt(cards)
    return SumRatio(earned, cards)


def growing(rng: np.random.Generator, n: int) -> list[SumRatio]:
    """The same users at ten looks, each with more cards than before."""
    fondness = rng.normal(0.0, 0.1, n)
    cards = 1.0 + np.cumsum(rng.poisson(2.0, (10, n)), axis=0)
    fresh = np.diff(cards, axis=0, prepend=0.0)
    earned = fresh * (MEAN + fondness) + rng.normal(size=(10, n)) * 0.6 * np.sqrt(fresh)
    return [SumRatio(*look) for look in zip(np.cumsum(earned, axis=0), cards, strict=True)]


def _tilt() -> float:
    """Mean fondness of a card: E[f (1 + 9 e^f)] / E[1 + 9 e^f] for f normal of deviation .2."""
    grown = 9.0 * float(np.exp(0.02))
    return 0.04 * grown / (1.0 + grown)


def first(totals: SumRatio, n: int) -> SumRatio:
    return SumRatio(totals.numerator[:n], totals.denominator[:n])


def ratio(totals: SumRatio) -> UserRatio:
    found = ratio_of_users(totals)
    assert found is not None
    return found


def misses(n_experiments: int, width: float | None) -> tuple[float, float]:
    """Shares of A/A experiments that miss 0 at any look, and at the last one.

    `width` in standard errors takes the place of the always-valid one.
    """
    rng = np.random.default_rng(1)
    missed = np.zeros((n_experiments, len(LOOKS)), dtype=np.bool_)
    for k in range(n_experiments):
        control, treated = swiping(rng, LOOKS[-1] // 5), swiping(rng, LOOKS[-1] - LOOKS[-1] // 5)
        for i, n in enumerate(LOOKS):
            a, b = ratio(first(treated, n - n // 5)), ratio(first(control, n // 5))
            told = difference(a, b, scale=0.1 * MEAN)
            half = told.high - told.value if width is None else width * told.se
            missed[k, i] = abs(told.value) > half
    return float(missed.any(axis=1).mean()), float(missed[:, -1].mean())


@pytest.mark.slow
def test_alike_arms_are_told_apart_in_fewer_than_one_of_twenty_experiments_at_any_look() -> None:
    n = 1_000
    at_any, _ = misses(n, None)
    error = (0.05 * 0.95 / n) ** 0.5
    assert 0.002 < at_any < 0.05 + 2.0 * error


@pytest.mark.slow
def test_a_usual_interval_holds_at_one_look_and_not_at_ten() -> None:
    n = 1_000
    at_any, at_last = misses(n, 1.96)
    error = (0.05 * 0.95 / n) ** 0.5
    assert abs(at_last - 0.05) < 4.0 * error
    assert at_any > 0.05 + 8.0 * error


@pytest.mark.slow
def test_users_who_come_again_between_two_looks_do_not_break_it() -> None:
    rng, n = np.random.default_rng(2), 1_000
    missed_by_ours = missed_by_usual = 0
    for _ in range(n):
        looks = [[ratio(one) for one in growing(rng, users)] for users in (60, 240)]
        told = [difference(a, b, scale=0.1 * MEAN) for b, a in zip(*looks, strict=True)]
        missed_by_ours += any(not one.low <= 0.0 <= one.high for one in told)
        missed_by_usual += any(abs(one.value) > 1.96 * one.se for one in told)
    error = (0.05 * 0.95 / n) ** 0.5
    assert missed_by_ours / n < 0.05 + 2.0 * error
    assert missed_by_usual / n > 0.05 + 4.0 * error


def test_cards_taken_for_units_miss_far_more_often() -> None:
    rng, n = np.random.default_rng(3), 500
    missed = 0
    for _ in range(n):
        totals = swiping(rng, 200)
        found = ratio(totals)
        by_card = 0.6 / float(np.sqrt(totals.denominator.sum()))
        missed += abs(found.value - MEAN) > 1.96 * by_card
    assert missed / n > 0.15


def test_the_standard_error_is_that_of_many_draws() -> None:
    rng, n = np.random.default_rng(4), 2_000
    found = [ratio(swiping(rng, 150)) for _ in range(n)]
    spread = float(np.std([one.value for one in found]))
    told = float(np.sqrt(np.mean([one.se**2 for one in found])))
    assert told == pytest.approx(spread, rel=4.0 / (2 * n) ** 0.5)
    assert float(np.mean([one.value for one in found])) == pytest.approx(MEAN, abs=3.0 * 0.02 / 40)


def test_a_difference_that_is_there_is_found() -> None:
    rng = np.random.default_rng(5)
    control, treated = swiping(rng, 400), swiping(rng, 3_600)
    better = SumRatio(treated.numerator + 0.1 * treated.denominator, treated.denominator)
    told = difference(ratio(better), ratio(control), scale=0.05)
    assert 0.0 < told.low < 0.1 < told.high
    assert told.value == pytest.approx((told.low + told.high) / 2.0)


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_widths_grow_with_the_error_and_are_turned_back(scale: float, level: float) -> None:
    widths = [half_width(se, scale, level) for se in (0.001, 0.01, 0.1)]
    assert widths == sorted(widths)
    for se, half in zip((0.001, 0.01, 0.1), widths, strict=True):
        assert half > se
        assert se_for(half, scale, level) == pytest.approx(se)
    assert half_width(0.0, scale, level) == 0.0


@pytest.mark.parametrize(
    "totals", [SumRatio(np.ones(1), np.ones(1)), SumRatio(np.zeros(5), np.zeros(5))]
)
def test_a_single_user_or_none_who_did_anything_gives_no_ratio(totals: SumRatio) -> None:
    assert ratio_of_users(totals) is None


@pytest.mark.parametrize(("scale", "level"), [(0.0, 0.95), (-1.0, 0.95), (0.1, 1.0), (0.1, 0.0)])
def test_a_scale_or_a_level_out_of_range_is_refused(scale: float, level: float) -> None:
    with pytest.raises(ValueError, match="a scale above 0"):
        half_width(0.1, scale, level)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a half width above 0"):
        se_for(0.0, 0.1)


def test_a_ratio_is_of_sums_and_not_the_mean_of_ratios() -> None:
    numerator: Floats = np.array([1.0, 0.0])
    assert ratio(SumRatio(numerator, np.array([9.0, 1.0]))).value == pytest.approx(0.1)
