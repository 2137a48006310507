import numpy as np
import pytest
from swipes import make_log

from env.calibration.recipes import (
    KUAIRAND_DAILY,
    KUAIRAND_JOINT,
    KUAIRAND_RATES,
    daily,
    kuairand_target,
    with_assumed_visits,
)
from env.world.log_statistics import RARE
from env.world.presets import Cohort, Population


def test_the_published_rates_and_conditional_rates_agree() -> None:
    """P(signal, valid play) is at most P(signal); long views are nearly all within it."""
    valid = KUAIRAND_RATES["valid_play"]
    for name in ("long_view", *RARE):
        both = KUAIRAND_JOINT[f"{name}|valid_play"] * valid
        assert both <= KUAIRAND_RATES[name]
    long = KUAIRAND_JOINT["long_view|valid_play"] * valid
    assert long == pytest.approx(KUAIRAND_RATES["long_view"], rel=0.006)


def test_the_target_of_kuairand_takes_its_watch_times_from_a_sample() -> None:
    rng = np.random.default_rng(1)
    play_s = np.exp(rng.normal(1.6, 1.4, 5_000))
    target = kuairand_target(make_log(np.arange(5_000), np.arange(5_000), play_s), 0)
    assert target.rates == KUAIRAND_RATES
    longer = np.mean(np.exp(target.log_watch) > 7.0)
    assert longer == pytest.approx(KUAIRAND_RATES["valid_play"], abs=0.02)
    assert set(target.assumed) == {"session_cards", "session_tail"}


def test_the_order_of_cohorts_is_assumed_around_the_mean_that_gaps_tell() -> None:
    names = sorted(KUAIRAND_DAILY)
    cohorts = {name: Cohort(share=1.0 / len(names), daily_share=0.5) for name in names}
    found = with_assumed_visits(Population(cohorts=cohorts), 0.3)
    assert found.daily_share() == pytest.approx(0.3, abs=1e-9)
    shares = {name: cohort.daily_share for name, cohort in found.cohorts.items()}
    assert shares["full_active"] > shares["high_active"] > shares["low_active"]


def test_the_daily_app_watches_as_the_donation_study_says() -> None:
    draft, target = daily()
    assert target.watch_mean_s == pytest.approx(16.3, abs=0.3)
    assert target.watch_zero == pytest.approx(0.05 * 0.4, abs=0.002)
    assert sum(draft.population.shares().values()) == pytest.approx(1.0)
