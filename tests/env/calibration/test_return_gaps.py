import numpy as np
import pytest

from env.calibration.recipes import KUAIRAND_GAPS
from env.calibration.return_gaps import (
    GapCounts,
    GapMixture,
    divergence,
    fit_gaps,
    kaplan_meier,
    survival_error,
)
from env.vocabulary import Ints

TRUTH = GapMixture(np.array([0.6, 0.4]), np.array([0.9, 0.3]))


def draw(mixture: GapMixture, n: int, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    chance = mixture.chance[(rng.random(n) >= mixture.weight[0]).astype(int)]
    return np.asarray(rng.geometric(chance), dtype=np.int64)


def cut(gaps: Ints, n_days: int) -> GapCounts:
    """Return gaps of which those beyond `n_days` are known to be longer, and no more."""
    observed = np.bincount(gaps[gaps <= n_days], minlength=n_days + 1)[1:]
    censored = np.zeros(n_days, dtype=np.int64)
    censored[-1] = np.count_nonzero(gaps > n_days)
    return GapCounts(observed, censored)


def test_the_mixture_of_return_classes_comes_back() -> None:
    """A weight rests on 100,000 gaps; classes overlap, so 10 standard errors of one class."""
    found = fit_gaps(cut(draw(TRUTH, 100_000, 1), 60))
    assert np.allclose(found.weight, TRUTH.weight, atol=10 * (0.25 / 1e5) ** 0.5)
    assert np.allclose(found.chance, TRUTH.chance, atol=10 * (0.25 / 4e4) ** 0.5)


def test_gaps_that_the_end_of_the_log_cuts_off_count() -> None:
    """Five days show the long class only cut off; leaving those out, it would not be there."""
    gaps = draw(TRUTH, 100_000, 2)
    whole = fit_gaps(cut(gaps, 5))
    naive = fit_gaps(GapCounts.of_counts(tuple(cut(gaps, 5).observed.tolist())))
    assert abs(whole.mean_days() - TRUTH.mean_days()) < 0.05 * TRUTH.mean_days()
    assert naive.mean_days() < 0.85 * TRUTH.mean_days()


def test_one_geometric_law_misses_the_gaps_of_kuairand_and_two_meet_them() -> None:
    gaps = GapCounts.of_counts(KUAIRAND_GAPS)
    one, two = (fit_gaps(gaps, n_classes=k) for k in (1, 2))
    assert divergence(gaps.observed, one.pmf(16)) == pytest.approx(0.059, abs=0.001)
    assert divergence(gaps.observed, two.pmf(16)) < 0.0002
    assert two.mean_days() == pytest.approx(2.0, abs=0.01)
    assert survival_error(gaps, two) < 0.003 < survival_error(gaps, one)


def test_known_chances_stay_and_weights_are_fitted() -> None:
    found = fit_gaps(cut(draw(TRUTH, 50_000, 3), 60), chance=TRUTH.chance)
    assert found.chance.tolist() == TRUTH.chance.tolist()
    assert abs(found.weight[0] - 0.6) < 0.02


def test_a_share_of_gaps_is_not_a_share_of_users() -> None:
    """Simulated users of both classes, observed for 600 days each, leave gaps by the weights."""
    users = TRUTH.users()
    rng = np.random.default_rng(4)
    n_gaps = np.zeros(2)
    for k, share in enumerate(users):
        for _ in range(round(1_000 * share)):
            days = np.cumsum(rng.geometric(TRUTH.chance[k], 700))
            n_gaps[k] += np.count_nonzero(days <= 600)
    assert n_gaps[0] / n_gaps.sum() == pytest.approx(TRUTH.weight[0], abs=0.01)


def test_the_counted_survival_is_that_of_the_law() -> None:
    gaps = cut(draw(TRUTH, 200_000, 5), 20)
    assert np.allclose(kaplan_meier(gaps), TRUTH.survival(20), atol=4 * (0.25 / 2e5) ** 0.5)


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        (lambda: fit_gaps(GapCounts.of_counts((0, 0))), "at least one gap"),
        (lambda: GapCounts(np.zeros(2, np.int64), np.zeros(3, np.int64)), "over the same days"),
        (lambda: divergence(np.array([0, 0]), np.array([0.5, 0.5])), "expected counts"),
        (lambda: divergence(np.array([1, 1]), np.array([1.0, 0.0])), "possible"),
    ],
)
def test_what_cannot_be_counted_is_refused(gaps: object, message: str) -> None:
    assert callable(gaps)
    with pytest.raises(ValueError, match=message):
        gaps()
