"""The controller: debts are paid in time where they can be, and it says so where they cannot."""

import numpy as np
import pytest
from auditions import DAY_MS, HOUR_MS, START_MS, Feed, debut, shown

from env.audience_args import AudienceArgs, FairStart
from env.audiences import Audiences
from env.payments import MAX_MARKETS, SETTLE_MS, Market, Payments
from env.vocabulary import Floats

OWED = 10


def args_of(budget: float = 0.1, impressions: int = OWED) -> AudienceArgs:
    return AudienceArgs(FairStart(impressions=impressions, budget=budget))


def hours_to_pay(audiences: Audiences) -> Floats:
    """Return the hours to the last owed impression of all that came over a day ago; nan: unpaid."""
    return np.array(
        [
            (upload.paid_ms - upload.born_ms) / HOUR_MS if upload.paid_ms else np.nan
            for upload in audiences.uploads()
            if audiences.clock_ms - upload.born_ms > DAY_MS
        ]
    )


def traffic(n: int, every_ms: int, begin_ms: int = START_MS, country: str = "GB") -> Audiences:
    audiences = Audiences(args_of())
    for k in range(n):
        audiences.fold(shown("old", begin_ms + k * every_ms, country=country))
    return audiences


@pytest.mark.parametrize("found", [1.0, 0.6])
def test_within_the_budget_nearly_all_are_paid_in_time(found: float) -> None:
    feed = Feed(args_of(), share_of_debt=0.04, an_hour=300, found=found)
    feed.run(60)
    hours = hours_to_pay(feed.audiences)
    assert len(hours) > 40
    assert (hours <= 24.0).mean() >= 0.95
    # It settles where what is reserved and found is what is owed: .04, in the last day within the
    # chance of which places are found.
    last = np.array(feed.shares[-len(feed.shares) // 3 :])
    assert last.mean() * found == pytest.approx(0.04, abs=0.005)
    assert last.max() <= 0.1
    assert feed.audiences.overdrawn() == {}


def test_what_people_choose_by_themselves_need_not_be_reserved() -> None:
    feed = Feed(args_of(), share_of_debt=0.04, an_hour=300, organic=0.02)
    feed.run(60)
    assert (hours_to_pay(feed.audiences) <= 24.0).all()
    assert np.mean(feed.shares[-len(feed.shares) // 3 :]) == pytest.approx(0.02, abs=0.008)


def test_over_the_budget_it_is_said_and_the_earliest_are_served_first() -> None:
    feed = Feed(args_of(), share_of_debt=0.2, an_hour=100)
    feed.run(96)
    assert feed.audiences.overdrawn()["GB"] > 0.2
    assert feed.shares[-1] == 0.1
    uploads = feed.audiences.uploads()
    paid = np.array([upload.paid_ms > 0 for upload in uploads])
    # Half of what is owed fits, so about half are paid: the first half, bar who is just about to.
    n_paid = int(paid.sum())
    assert 0.35 * len(uploads) < n_paid < 0.55 * len(uploads)
    assert paid[: int(0.8 * n_paid)].all()
    assert not paid[int(1.3 * n_paid) :].any()


def test_a_market_with_hardly_any_traffic_has_a_share_and_an_alarm() -> None:
    audiences = Audiences(args_of())
    audiences.put(debut("a", country="SG"))
    assert audiences.share("SG") == 0.1
    assert audiences.overdrawn() == {}
    audiences.fold(shown("old", START_MS, country="SG"))
    audiences.fold(shown("old", START_MS + 6 * HOUR_MS, country="SG"))
    assert audiences.share("SG") == 0.1
    assert 0.1 < audiences.overdrawn()["SG"] < 100.0


def test_without_debts_nothing_is_reserved() -> None:
    audiences = traffic(500, 10_000)
    assert [audiences.share(c) for c in ("GB", "XX", "")] == [0.0, 0.0, 0.0]


def test_the_needed_share_is_the_debt_over_the_traffic_of_the_time_left() -> None:
    audiences = traffic(7200, 36_000)  # 100 an hour for three days
    for k in range(6):
        audiences.put(debut(f"u{k}", audiences.clock_ms))
    # Six debts of 20 in 80% of 24 h, of which 100 impressions an hour are shown.
    assert audiences.share("GB") == pytest.approx(6 * OWED / (0.8 * 24.0) / 100.0, rel=0.02)
    assert audiences.share("US") == 0.0


def test_a_debt_without_a_home_is_spread_over_all_markets() -> None:
    audiences = Audiences(args_of())
    for k in range(7200):
        country = ("GB", "GB", "GB", "US")[k % 4]
        audiences.fold(shown("old", START_MS + k * 36_000, country=country))
    for k in range(6):
        audiences.put(debut(f"u{k}", audiences.clock_ms, country=""))
    expected = 6 * OWED / (0.8 * 24.0) / 100.0
    for country in ("GB", "US", "never heard of"):
        assert audiences.share(country) == pytest.approx(expected, rel=0.02)


def test_debts_of_one_market_reserve_nothing_in_another() -> None:
    audiences = traffic(1000, 10_000)
    audiences.put(debut("a", audiences.clock_ms, country="TH"))
    assert audiences.share("GB") == 0.0


def test_what_nobody_may_be_shown_does_not_wind_up_the_integral() -> None:
    audiences = traffic(100, 36_000)
    for k in range(40):
        audiences.put(debut(f"idle{k}", audiences.clock_ms, language="cy"))
    for k in range(100, 100 * 48):
        audiences.fold(shown("old", START_MS + k * 36_000))
        assert audiences._payments.markets["GB"].dual <= 0.1
    # They are late by as much as they had time: they ask no more for the market's slots than new
    # ones would, and have not been forgotten.
    assert audiences.overdrawn()["GB"] == pytest.approx(40 * OWED / 24.0 / 100.0, rel=0.05)
    for k in range(40):
        for _ in range(OWED):
            audiences.fold(shown(f"idle{k}", audiences.clock_ms))
    assert audiences.share("GB") == 0.0
    for k in range(48 * 100, 60 * 100):
        audiences.fold(shown("old", START_MS + k * 36_000))
    assert audiences._payments.markets["GB"].dual == 0.0


def test_a_new_rate_of_traffic_is_learned_within_a_day() -> None:
    market = Market(START_MS)
    for k in range(1, 48 * 10 + 1):
        market.age(START_MS + k * HOUR_MS // 10)
        market.shown += 1.0
    assert market.rate() == pytest.approx(10.0, rel=0.05)
    for k in range(1, 24 * 40 + 1):
        market.age(START_MS + 48 * HOUR_MS + k * HOUR_MS // 40)
        market.shown += 1.0
    assert 30.0 < market.rate() < 40.0


def test_the_rate_is_right_from_the_first_hour() -> None:
    market = Market(START_MS)
    for k in range(1, 101):
        market.age(START_MS + k * HOUR_MS // 100)
        market.shown += 1.0
    assert market.rate() == pytest.approx(100.0, rel=0.05)


def test_the_integral_moves_by_what_is_missing_and_stays_within_its_bounds() -> None:
    payments = Payments()
    payments.show("GB", START_MS, paying=False)
    payments.settled_ms = START_MS
    payments.settle({"GB": 0.06}, 0.1, START_MS + SETTLE_MS)
    one = payments.markets["GB"].dual
    assert one == pytest.approx(0.2 * 0.06 / 12.0)
    for k in range(2, 5000):
        payments.settle({"GB": 0.06}, 0.1, START_MS + k * SETTLE_MS)
    assert payments.markets["GB"].dual == 0.1
    payments.settle({"GB": 0.06}, 0.1, START_MS + 5000 * SETTLE_MS + 30 * DAY_MS)
    for k in range(5001, 9000):
        at_ms = START_MS + k * SETTLE_MS + 30 * DAY_MS
        payments.show("GB", at_ms, paying=True)
        payments.settle({"GB": 0.06}, 0.1, at_ms)
    assert payments.markets["GB"].dual == 0.0


def test_countries_without_bound_share_a_market() -> None:
    payments = Payments()
    for k in range(1000):
        payments.show(f"c{k}", START_MS, paying=False)
    assert len(payments.markets) <= MAX_MARKETS + 1
    assert payments.markets[""].shown > 600


def test_no_budget_reserves_nothing_and_owes_all_the_same() -> None:
    audiences = Audiences(args_of(budget=0.0))
    audiences.put(debut("a"))
    audiences.fold(shown("old", START_MS))
    assert audiences.share("GB") == 0.0
    audiences.fold(shown("old", START_MS + 2 * HOUR_MS))
    assert audiences.overdrawn()["GB"] > 0.0
