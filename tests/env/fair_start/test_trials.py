"""The test that a pool owes whom it takes in: paid after all debts, waited for, or given up."""

import msgspec
import pytest
from auditions import DAY_MS, HOUR_MS

from env.fair_start.budget import Demand, MarketKey
from env.fair_start.settings import Pools
from env.fair_start.trial import TEST_PRICE, UploadTrial
from env.fair_start.verdict import Verdicts
from env.vocabulary import CreatorId, ItemId

POOLS = Pools(tests=(200, 50), early=0.99, hopeless=0.1)
PROMISING, GOOD, BEST, ORDINARY = 0.12, 0.2, 0.7, 0.0


def a_trial(owed: int = 100) -> UploadTrial:
    name = ItemId("a")
    return UploadTrial(0, name, CreatorId(""), "GB", "en", {name: "en"}, 0, owed, DAY_MS, 0)


def show(trial: UploadTrial, uplift: float, n: int, pools: Pools = POOLS, at_ms: int = 1) -> None:
    """Show it to so many who all earn the same; uploads differ as their prior says, by .12."""
    known = Verdicts(trim=0.1)
    for _ in range(n):
        trial.show(at_ms, counts=True)
        trial.learn(uplift, known, pools, at_ms)


def promoted() -> UploadTrial:
    trial = a_trial()
    show(trial, PROMISING, 100)
    assert trial.level == 1
    return trial


def test_who_is_promoted_is_owed_a_test_and_is_shown_for_it() -> None:
    trial = promoted()
    assert (trial.debt, trial.test(1), trial.is_owing) == (0, 200, True)
    assert trial.show(1, counts=True)
    assert trial.test(1) == 199
    trial.evidence.cut += 1
    assert not trial.show(1, counts=False)
    assert trial.test(1) == 199, "what a guard cuts off pays no test either"


def test_a_test_begins_after_what_is_owed_yet() -> None:
    trial = a_trial(owed=300)
    show(trial, PROMISING, 100)
    assert (trial.level, trial.debt, trial.test(1)) == (1, 200, 200)
    show(trial, PROMISING, 200)
    assert (trial.debt, trial.test(1)) == (0, 200)


def test_the_verdict_waits_for_the_test() -> None:
    trial = promoted()
    show(trial, GOOD, 200 - 1)
    assert (trial.level, trial.test(1)) == (1, 1)
    show(trial, GOOD, 1)
    assert (trial.level, trial.test(1)) == (2, 50)
    at_once = a_trial()
    pools = Pools(tests=(0, 0))
    show(at_once, PROMISING, 100, pools)
    show(at_once, GOOD, 190, pools)
    assert at_once.level >= 2


def test_what_is_all_but_certain_does_not_wait() -> None:
    trial = promoted()
    show(trial, BEST, 60)
    assert trial.level >= 2


def test_a_test_that_can_hardly_be_passed_is_given_up() -> None:
    trial = promoted()
    show(trial, ORDINARY, 60)
    assert (trial.level, trial.top, trial.test(1), trial.is_owing) == (1, 1, 0, False)
    assert not trial.stopped, "it was not found to be below what it has proved"


def test_a_test_lapses_and_is_judged_by_what_there_is() -> None:
    trial, late_ms = promoted(), 3 * DAY_MS + 1
    assert (trial.test(late_ms - 1), trial.test(late_ms)) == (200, 0)
    assert (trial.price(late_ms - 1), trial.price(late_ms)) == (TEST_PRICE, 0.0)
    here = MarketKey("GB", "en")
    assert Demand.of([trial], {here: 100.0}, DAY_MS, late_ms).at(here).share == 0.0
    show(trial, GOOD, 179)
    assert trial.level == 1
    show(trial, GOOD, 1, at_ms=late_ms)
    assert trial.level == 2


def test_what_starts_anew_or_is_sent_back_is_owed_no_test() -> None:
    changed, poor = promoted(), promoted()
    changed.restart(1)
    show(poor, -2.0, 40)
    for trial in (changed, poor):
        assert (trial.level, trial.test(1)) == (0, 0)


def test_the_open_pool_owes_no_test() -> None:
    trial = a_trial()
    show(trial, 2.0, 400)
    assert (trial.level, trial.test(1), trial.is_over) == (3, 0, True)


def test_a_debt_goes_before_a_test_however_little_it_suits() -> None:
    trial, new = promoted(), a_trial()
    assert trial.price(1) == TEST_PRICE
    assert new.price(0) - 1.0 >= TEST_PRICE + 1.0, "a match is between -1 and 1"
    show(trial, GOOD, 200)
    assert (trial.level, trial.price(1)) == (2, TEST_PRICE)


@pytest.mark.parametrize("now_h", [1.0, 71.0])
def test_a_test_is_reserved_for_but_never_late_nor_an_alarm(now_h: float) -> None:
    trial, here = promoted(), MarketKey("GB", "en")
    now_ms = round(now_h * HOUR_MS)
    needed = Demand.of([trial], {here: 100.0}, DAY_MS, now_ms).at(here)
    assert needed.share == pytest.approx(200 / 12 / 100.0), "200 in half a day"
    assert (needed.even, needed.late) == (0.0, False)
    other = Demand.of([trial], {MarketKey("GB", "cy"): 100.0}, DAY_MS, now_ms)
    assert other.at(MarketKey("GB", "cy")).share == needed.share, "pool 1 is the country"


def test_a_state_of_before_tests_is_read() -> None:
    trial = promoted()
    row = msgspec.to_builtins(trial)
    old = msgspec.convert(row[:-1], UploadTrial)
    assert (old.level, old.test(1), old.is_owing) == (1, 0, False)


def test_arguments_of_a_test_are_refused_out_of_range() -> None:
    with pytest.raises(ValueError, match="tests must be"):
        Pools(tests=(-1, 0))
    with pytest.raises(ValueError, match="early must be"):
        Pools(early=0.4)
    with pytest.raises(ValueError, match="hopeless must be"):
        Pools(hopeless=0.5)
