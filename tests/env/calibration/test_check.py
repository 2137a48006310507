import numpy as np
import pytest
from msgspec.structs import replace

from env.calibration.checks import (
    Check,
    check,
    check_cohorts,
    check_fit,
    check_holdout,
    check_moments,
    follow_lift,
    gap_divergence,
)
from env.calibration.recipes import daily
from env.world.log_statistics import SIGNALS, LogStatistics

_, TARGET = daily()


def failed(rows: list[Check]) -> set[str]:
    return {row.name for row in rows if not row.passed}


def test_a_world_with_the_targets_own_moments_passes() -> None:
    rows = check_moments(TARGET, TARGET)
    assert failed(rows) == set()
    assert {row.group for row in rows} == {"V1"}
    assert {row.name for row in rows} >= set(SIGNALS)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"rates": {**TARGET.rates, "like": 1.06 * TARGET.rates["like"]}}, {"like"}),
        ({"rates": {**TARGET.rates, "like": 1.04 * TARGET.rates["like"]}}, set()),
        ({"joint": {**TARGET.joint, "follow|like": 0.03}}, {"follow given like, lift"}),
        ({"watch_mean_s": 1.06 * TARGET.watch_mean_s}, {"watch mean, s"}),
        ({"log_watch": tuple(x + 0.11 for x in TARGET.log_watch)}, {"ln watch, W1"}),
        ({"log_watch": tuple(x + 0.09 for x in TARGET.log_watch)}, set()),
        ({"gaps": (600_000, *TARGET.gaps[1:])}, {"gaps, divergence"}),
        ({"session_cards": 0.94 * TARGET.session_cards}, {"session, cards"}),
        ({"session_tail": 1.3 * TARGET.session_tail}, {"session, tail slope"}),
    ],
)
def test_a_moment_out_of_its_band_fails_alone(change: dict[str, object], names: set[str]) -> None:
    assert failed(check_moments(replace(TARGET, **change), TARGET)) == names


def test_sessions_of_a_card_or_two_have_no_tail_to_check() -> None:
    short = replace(TARGET, session_cards=1.2, session_tail=-1.4)
    other = replace(short, session_tail=-2.0)
    assert failed(check_moments(other, short)) == set()
    assert "session, tail slope" not in {row.name for row in check_moments(short, short)}


def test_rare_events_of_a_fit_are_held_as_near_as_its_cards_can_tell() -> None:
    """Of 100,000 cards, 100 shares: one standard error is 10%, so 30 above 5% still pass."""
    rates = {**TARGET.rates, "share": 0.001}
    target = replace(TARGET, rates=rates)
    for factor, n, names in (
        (1.3, 100_000, set()),
        (1.3, 10**7, {"share"}),
        (1.4, 10**5, {"share"}),
    ):
        found = replace(target, n=n, rates={**rates, "share": factor * 0.001})
        assert {name for name in failed(check_fit(found, target)) if name == "share"} == names
    often = replace(target, n=100_000, rates={**rates, "valid_play": 1.06 * rates["valid_play"]})
    assert failed(check_fit(often, target)) == {"valid_play"}
    assert {row.group for row in check_fit(target, target)} == {"fit"}


def test_what_is_only_told_fails_nothing() -> None:
    assert Check("V5", "x", 0.5, 0.8, 1.0, "unjudged").passed


def test_what_is_no_number_fails() -> None:
    assert not check("V1", "x", float("nan"), 0.0, 1.0).passed


def test_a_lift_is_by_how_much_likelier_a_follow_is_after_a_like() -> None:
    assert follow_lift(TARGET) == pytest.approx(0.0249 / TARGET.rates["follow"])


def test_days_that_did_not_occur_in_a_short_log_are_no_contradiction() -> None:
    few = replace(TARGET, gaps=tuple(np.round(np.array(TARGET.gaps) / 1e4).astype(int).tolist()))
    assert few.gaps[-1] == 0
    assert gap_divergence(few, TARGET) < 0.05


def test_cohorts_are_held_against_the_presets_shares_and_those_against_the_targets() -> None:
    shares = {"a": 0.7, "b": 0.3}
    assert failed(check_cohorts([700, 300], shares, shares)) == set()
    assert failed(check_cohorts([800, 200], shares, shares)) == {
        "cohorts drawn, most standard errors off"
    }
    assert failed(check_cohorts([700, 300], shares, {"a": 0.7})) == {"cohort shares, most off"}
    assert len(check_cohorts([700, 300], shares, {})) == 1


def test_a_prediction_of_rare_events_is_as_good_as_the_later_log_can_tell() -> None:
    later: LogStatistics = replace(TARGET, n=10_000)
    near = replace(TARGET, rates={**TARGET.rates, "share": 1.9 * TARGET.rates["share"]})
    far = replace(TARGET, rates={**TARGET.rates, "share": 3.0 * TARGET.rates["share"]})
    assert failed(check_holdout(near, later)) == set()
    assert failed(check_holdout(far, later)) == {"share"}
    assert failed(check_holdout(near, replace(TARGET, n=10_000_000))) == {"share"}
    rarer = 0.94 * TARGET.rates["valid_play"]
    clicks = replace(TARGET, rates={**TARGET.rates, "valid_play": rarer})
    assert failed(check_holdout(clicks, later)) == {"valid_play"}
