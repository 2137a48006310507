from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from env.arrays.reals import normal_tail
from env.calibration.calibrate import LEAST_REGULAR, calibrate, learn, watching
from env.calibration.recipes import daily
from env.calibration.return_gaps import GapMixture
from env.world.moments import GAP_DAYS, LogStatistics
from env.world.presets import Cohort, Population, Preset

POPULATION = Population(
    cohorts={"a": Cohort(share=0.7, daily_share=0.5), "b": Cohort(share=0.3, daily_share=0.2)}
)
_, TARGET = daily()


def respond(preset: Preset, _: int = 0) -> LogStatistics:
    """Return what users would do in closed form: a world that bends every constant a little.

    Engagement is .4 less than the intercept says, views are shorter, and returns rarer; skips are
    the lower third of the quantiles.
    """
    rates, moods = preset.rates, preset.moods
    engaged = float(1.0 / (1.0 + np.exp(0.4 - preset.intercept)))
    tails = [
        float(normal_tail(np.array((np.log(s) - rates.watch_mu + 0.1) / rates.watch_sd)))
        for s in (7.0, 18.0)
    ]
    valid, long = (engaged * tail for tail in tails)
    liked = valid * float(1.0 / (1.0 + np.exp(-rates.like - 0.3)))
    rest = 1.0 - valid
    z = np.linspace(-2.0, 2.0, 99)
    watch = np.where(
        np.arange(99) < 45, rates.skip_mu - 0.05 + 0.9 * rates.skip_sd * z, rates.watch_mu
    )
    chance = np.array(moods.return_classes) * 0.95
    share = preset.population.daily_share()
    weight = np.array([share, 1.0 - share]) * chance
    gaps = GapMixture(weight / weight.sum(), chance).pmf(GAP_DAYS)
    follows = rates.follow_liked * liked + rates.follow * valid
    joint = {
        **TARGET.joint,
        "long_view|valid_play": long / valid,
        "like|valid_play": liked / valid,
        "comment|valid_play": rates.comment,
        "share|valid_play": rates.share,
        "follow|valid_play": follows / valid,
        "follow|like": rates.follow_liked,
    }
    return replace(
        TARGET,
        rates={
            "valid_play": valid,
            "long_view": long,
            "like": liked + rest * rates.like_skipped,
            "comment": valid * rates.comment + rest * rates.comment_skipped,
            "share": valid * rates.share + rest * rates.share_skipped,
            "follow": follows + rest * rates.follow_skipped,
            "not_interested": 1.1 * rates.not_interested,
        },
        joint=joint,
        watch_mean_s=valid * float(np.exp(rates.watch_mu + 0.5 * rates.watch_sd**2)),
        watch_zero=(1.0 - engaged) * rates.zero,
        log_watch=tuple(np.sort(watch).tolist()),
        gaps=tuple(np.round(1e7 * gaps).astype(int).tolist()),
        session_cards=float(1.1 + np.exp(-moods.exit)),
    )


@pytest.fixture(scope="module")
def truth() -> Preset:
    draft, _ = daily()
    return replace(draft, population=POPULATION, moods=replace(draft.moods, exit=-3.0))


@pytest.fixture(scope="module")
def wrong(truth: Preset) -> Preset:
    rates = replace(
        truth.rates,
        watch_mu=truth.rates.watch_mu + 0.3,
        watch_sd=1.2,
        skip_mu=0.5,
        skip_sd=0.5,
        zero=0.15,
        like=-3.0,
        share=0.01,
        comment_skipped=0.001,
        follow_liked=0.1,
        not_interested=0.002,
    )
    moods = replace(truth.moods, exit=-2.0, return_classes=(0.8, 0.6))
    return replace(truth, intercept=-0.5, rates=rates, moods=moods)


def test_a_wrong_draft_is_moved_to_the_moments_of_the_truth(truth: Preset, wrong: Preset) -> None:
    target = respond(truth)
    found, simulated = calibrate(wrong, target, respond, n_rounds=25)
    assert found.intercept == pytest.approx(truth.intercept, abs=0.01)
    assert found.moods.exit == pytest.approx(truth.moods.exit, abs=0.01)
    assert found.moods.return_classes == pytest.approx(truth.moods.return_classes, abs=0.01)
    for name in ("watch_mu", "watch_sd", "skip_mu", "skip_sd", "zero", "like", "follow_liked"):
        assert getattr(found.rates, name) == pytest.approx(getattr(truth.rates, name), rel=0.02)
    for name, rate in target.rates.items():
        assert simulated.rates[name] == pytest.approx(rate, rel=0.01)
    assert found.moments == target


def shaken(n_cards: int, seed: int) -> Callable[[Preset, int], LogStatistics]:
    """Return `respond` with the noise that counting few cards has, other users by other noise."""

    def respond_with_noise(preset: Preset, users: int) -> LogStatistics:
        found = respond(preset)
        again = hash((seed, users, preset.intercept, preset.rates.watch_sd))
        rng = np.random.default_rng(abs(again))
        off = rng.normal(0.0, 3.0 / np.sqrt(n_cards), 9)
        rates = {
            name: rate * float(np.exp(each))
            for (name, rate), each in zip(found.rates.items(), off, strict=False)
        }
        return replace(
            found,
            n=n_cards,
            rates=rates,
            joint={**found.joint, "long_view|valid_play": rates["long_view"] / rates["valid_play"]},
            watch_mean_s=found.watch_mean_s * float(np.exp(off[7])),
            watch_zero=found.watch_zero * float(np.exp(off[8])),
        )

    return respond_with_noise


@pytest.mark.parametrize("n_cards", [40_000, 1_000_000])
@pytest.mark.slow
def test_noise_does_not_lead_the_rounds_astray(truth: Preset, wrong: Preset, n_cards: int) -> None:
    """Of six runs none is farther off than 10 standard deviations of what it is told."""
    target = respond(truth)
    for seed in range(6):
        _, found = calibrate(wrong, target, shaken(n_cards, seed), n_rounds=14)
        off = [knob.statistic(found) - knob.statistic(target) for knob in watching()]
        assert np.max(np.abs(off)) < max(10.0 * 3.0 / np.sqrt(n_cards), 0.03), seed


def test_an_answer_within_the_noise_teaches_nothing() -> None:
    matrix, step = np.diag([1.0, 0.5]), np.array([0.001, 0.0])
    assert learn(matrix, step, np.array([-0.004, 0.003]), noise=0.01) is matrix
    assert learn(matrix, np.zeros(2), np.array([0.1, 0.1]), noise=0.01) is matrix


def test_an_answer_beyond_the_noise_is_what_the_matrix_gives_back() -> None:
    matrix, step = np.diag([1.0, 0.5]), np.array([0.2, 0.1])
    answered = np.array([0.25, 0.1])
    learned = learn(matrix, step, answered, noise=0.01)
    np.testing.assert_allclose(learned @ answered, step, atol=1e-12)


@pytest.mark.parametrize("answered", [[1e-9, 0.9], [-0.05, 0.1], [0.02, -0.4]])
def test_no_answer_makes_the_matrix_singular(answered: list[float]) -> None:
    """The determinant of the inverse grows by no more than 1 / LEAST_REGULAR."""
    matrix, step = np.eye(2), np.array([0.5, 0.0])
    learned = learn(matrix, step, np.array(answered), noise=0.01)
    assert abs(np.linalg.det(learned)) == pytest.approx(1.0 / LEAST_REGULAR)


def test_what_is_returned_is_not_a_last_round_that_went_astray(
    truth: Preset, wrong: Preset
) -> None:
    """Other users than the first in rounds 1 to 5; those of round 6 are in another world."""
    target = respond(truth)
    far = replace(target, watch_mean_s=3.0 * target.watch_mean_s)
    found = calibrate(wrong, target, lambda p, k: far if k == 6 else respond(p), n_rounds=20)[1]
    assert found.watch_mean_s == pytest.approx(target.watch_mean_s, rel=0.01)


def test_slow_constants_stay(truth: Preset, wrong: Preset) -> None:
    found, _ = calibrate(wrong, respond(truth), respond, n_rounds=3)
    moved = {"exit", "return_classes", "daily_share"}
    kept = set(type(truth.moods).__struct_fields__) - moved
    for name in kept:
        assert getattr(found.moods, name) == getattr(wrong.moods, name)
    assert found.priors == wrong.priors
    assert found.uploads == wrong.uploads


def test_the_share_of_the_daily_moves_in_every_cohort(truth: Preset, wrong: Preset) -> None:
    draft = replace(
        wrong,
        population=replace(
            POPULATION,
            cohorts={
                name: replace(cohort, daily_share=0.6 * cohort.daily_share)
                for name, cohort in POPULATION.cohorts.items()
            },
        ),
        moods=truth.moods,
    )
    found, _ = calibrate(draft, respond(truth), respond, n_rounds=25)
    assert found.population.daily_share() == pytest.approx(POPULATION.daily_share(), abs=0.01)
    assert found.moods.daily_share == pytest.approx(found.population.daily_share())
    shares = [cohort.daily_share for cohort in found.population.cohorts.values()]
    assert shares[0] > shares[1]


def test_a_class_of_few_gaps_does_not_move_alone(truth: Preset, wrong: Preset) -> None:
    """Of a twenty-fifth of the gaps nobody can tell how its own chance answers."""
    gaps = GapMixture(np.array([0.04, 0.96]), np.array([0.93, 0.35])).pmf(GAP_DAYS)
    target = replace(respond(truth), gaps=tuple(np.round(1e7 * gaps).astype(int).tolist()))
    found, _ = calibrate(wrong, target, respond, n_rounds=15)
    assert found.population == wrong.population
    assert max(found.moods.return_classes) < 0.95


def test_one_class_of_gaps_moves_both_classes_of_return_alike(truth: Preset, wrong: Preset) -> None:
    geometric = GapMixture(np.array([1.0]), np.array([0.4])).pmf(GAP_DAYS)
    target = replace(respond(truth), gaps=tuple(np.round(1e7 * geometric).astype(int).tolist()))
    found, simulated = calibrate(wrong, target, respond, n_rounds=15)
    before, after = (
        np.log(np.divide(classes, np.subtract(1.0, classes)))
        for classes in ((0.8, 0.6), found.moods.return_classes)
    )
    assert np.ptp(after - before) == pytest.approx(0.0, abs=1e-9)
    assert found.population == wrong.population
    days = np.arange(1, GAP_DAYS + 1)
    means = [np.average(days, weights=gaps.gaps) for gaps in (target, simulated)]
    assert means[0] == pytest.approx(means[1], rel=0.02)
