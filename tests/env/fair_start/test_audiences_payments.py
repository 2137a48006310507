"""The controller: debts are paid in time where they can be, and it says so where they cannot."""

import numpy as np
import pytest
from auditions import DAY_MS, HOUR_MS, START_MS, Feed, debut, shown

from env.fair_start.audience import Audiences
from env.fair_start.budget import (
    ALARM_MS,
    MAX_MARKETS,
    SETTLE_MS,
    UNFED_MS,
    Demand,
    MarketKey,
    MarketPacing,
    Needed,
    PacingController,
)
from env.fair_start.settings import AudienceArgs, FairStart
from env.fair_start.trial import AIM, UploadTrial
from env.vocabulary import CreatorId, Floats, ItemId

OWED = 10
GB = MarketKey("GB", "en")


def asked(debt: int) -> float:
    """Return the impressions that are reserved for a debt: two standard deviations more."""
    return float(debt + 2.0 * np.sqrt(debt))


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


def demand_of(share: float) -> Demand:
    """Return a demand for this share of the cards of GB, on any schedule."""
    return Demand(np.zeros(9), {"GB": np.array([share, 0.0, *[share] * 7])}, {})


def a_debt(home: MarketKey, debt: int, due_h: float = 24.0, level: int = 0) -> UploadTrial:
    """Return an upload that is owed so many, at the time 0, and had the 24 h before it is due."""
    due_ms = round(due_h * HOUR_MS)
    born_ms = due_ms - DAY_MS
    me = ItemId("a"), CreatorId("c"), home.country, home.language, {ItemId("a"): home.language}
    return UploadTrial(0, *me, born_ms, debt, due_ms, born_ms, level=level)


def needed_at(place: MarketKey, owing: list[UploadTrial], rates: dict[MarketKey, float]) -> Needed:
    return Demand.of(owing, rates, DAY_MS, 0).at(place)


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


def test_what_users_choose_by_themselves_need_not_be_reserved() -> None:
    feed = Feed(args_of(), share_of_debt=0.04, an_hour=300, organic=0.02)
    feed.run(60)
    assert (hours_to_pay(feed.audiences) <= 24.0).all()
    assert np.mean(feed.shares[-len(feed.shares) // 3 :]) == pytest.approx(0.02, abs=0.008)


@pytest.mark.slow
def test_over_the_budget_it_is_said_and_the_earliest_are_served_first() -> None:
    feed = Feed(args_of(), share_of_debt=0.2, an_hour=100)
    feed.run(96)
    assert feed.audiences.overdrawn()["GB/en"] > 0.2
    assert feed.shares[-1] == 0.1
    uploads = feed.audiences.uploads()
    paid = np.array([upload.paid_ms > 0 for upload in uploads])
    # Half of what is owed fits, so about half are paid: the first half, bar who is just about to.
    n_paid = int(paid.sum())
    assert 0.35 * len(uploads) < n_paid < 0.55 * len(uploads)
    assert paid[: int(0.8 * n_paid)].all()
    assert not paid[int(1.3 * n_paid) :].any()
    # Nobody waits with nothing for long, however many are late.
    a_day_ago = feed.audiences.clock_ms - DAY_MS
    assert all(upload.impressions for upload in uploads if upload.born_ms < a_day_ago)


def test_a_market_with_hardly_any_traffic_has_a_share_and_an_alarm() -> None:
    audiences = Audiences(args_of())
    audiences.put(debut("a", country="SG"))
    assert audiences.share("SG", "en") == 0.1
    assert audiences.overdrawn() == {}
    audiences.fold(shown("old", START_MS, country="SG"))
    audiences.fold(shown("old", START_MS + 6 * HOUR_MS, country="SG"))
    assert audiences.overdrawn() == {}
    audiences.fold(shown("old", START_MS + 6 * HOUR_MS + ALARM_MS, country="SG"))
    assert audiences.share("SG", "en") == 0.1
    assert 0.1 < audiences.overdrawn()["SG/en"] < 100.0


def test_without_debts_nothing_is_reserved() -> None:
    audiences = traffic(500, 10_000)
    for country in ("GB", "XX", ""):
        assert (audiences.share(country, "en"), audiences.reserved(country)) == (0.0, 0.0)


def test_the_needed_share_is_the_debt_over_the_traffic_of_the_time_left() -> None:
    audiences = traffic(7200, 36_000)  # 100 an hour for three days
    for k in range(6):
        audiences.put(debut(f"u{k}", audiences.clock_ms))
    # Six debts in 80% of 24 h, of which 100 impressions an hour are shown.
    expected = 6 * asked(OWED) / (AIM * 24.0) / 100.0
    assert audiences.share("GB", "en") == pytest.approx(expected, rel=0.02)
    assert audiences.share("US", "en") == 0.0


def test_a_debt_without_a_home_is_spread_over_all_markets() -> None:
    audiences = Audiences(args_of())
    for k in range(7200):
        country = ("GB", "GB", "GB", "US")[k % 4]
        audiences.fold(shown("old", START_MS + k * 36_000, country=country))
    for k in range(6):
        audiences.put(debut(f"u{k}", audiences.clock_ms, country=""))
    expected = 6 * asked(OWED) / (AIM * 24.0) / 100.0
    for country in ("GB", "US", "never heard of"):
        assert audiences.share(country, "en") == pytest.approx(expected, rel=0.02)
        assert audiences.reserved(country) == pytest.approx(expected, rel=0.02)


MY_EN, MY_MS, MY, US = (
    MarketKey("MY", "en"),
    MarketKey("MY", "ms"),
    MarketKey("MY", ""),
    MarketKey("US", "en"),
)
RATES = {MY_EN: 30.0, MY_MS: 60.0, MY: 10.0, US: 100.0}


@pytest.mark.parametrize(
    ("home", "level", "expected"),
    [
        (MY_EN, 0, {MY_EN: 1 / 40, MY_MS: 0.0, MY: 1 / 40, US: 0.0}),
        (MY_MS, 0, {MY_EN: 0.0, MY_MS: 1 / 70, MY: 1 / 70, US: 0.0}),
        (MY, 0, {MY_EN: 1 / 100, MY_MS: 1 / 100, MY: 1 / 100, US: 0.0}),
        (MY_EN, 1, {MY_EN: 1 / 100, MY_MS: 1 / 100, MY: 1 / 100, US: 0.0}),
        (MarketKey("", "en"), 0, {MY_EN: 1 / 200, MY_MS: 1 / 200, MY: 1 / 200, US: 1 / 200}),
        (
            MarketKey("SG", "en"),
            0,
            {MY_EN: 0.0, MarketKey("SG", "en"): 1.0, MarketKey("SG", "zh"): 0.0},
        ),
    ],
)
def test_a_debt_is_spread_over_those_who_may_be_shown_the_upload(
    home: MarketKey, level: int, expected: dict[MarketKey, float]
) -> None:
    owing = [a_debt(home, 24, level=level)]
    for place, an_hour in expected.items():
        needed = needed_at(place, owing, RATES)
        assert needed.even == pytest.approx(an_hour)
        assert needed.share == pytest.approx(an_hour * asked(24) / 24 / AIM)
        assert not needed.late


def test_debts_that_a_user_can_pay_add_up() -> None:
    owing = [a_debt(home, 24) for home in (MY_EN, MY_EN, MY_MS, MY, MarketKey("", ""))]
    assert needed_at(MY_EN, owing, RATES).even == pytest.approx(2 / 40 + 1 / 100 + 1 / 200)
    unknown = needed_at(MY, owing, RATES).even
    assert unknown == pytest.approx(2 / 40 + 1 / 70 + 1 / 100 + 1 / 200)


def test_an_even_schedule_takes_the_earliest_deadlines_first() -> None:
    def even(*debts: tuple[int, float]) -> float:
        owing = [a_debt(GB, debt, due_h) for debt, due_h in debts]
        return needed_at(GB, owing, {GB: 100.0}).even

    assert even((60, 12.0)) == pytest.approx(60 / 12 / 100)
    assert even((60, 12.0), (60, 24.0)) == pytest.approx(60 / 12 / 100)
    assert even((60, 12.0), (180, 24.0)) == pytest.approx(240 / 24 / 100)
    # What is about due, or late, is no emergency; what is very late is as if it were new.
    assert even((6, 0.1)) == even((6, -5.0)) == pytest.approx(6 / 6 / 100)
    assert even((48, -25.0)) == pytest.approx(48 / 24 / 100)
    assert needed_at(GB, [a_debt(GB, 1, -0.1)], {GB: 100.0}).late


def test_the_last_of_a_debt_is_reserved_for_within_the_hour() -> None:
    """What is alone in its market, near its time, must not hang on a draw that fails."""
    for left_h, within_h in ((3.0, 1.0), (12.0, 12.0 - 0.2 * 24.0)):
        needed = needed_at(GB, [a_debt(GB, 4, left_h)], {GB: 100.0})
        assert needed.share == pytest.approx(asked(4) / within_h / 100.0)


def test_where_two_languages_are_spoken_slots_are_reserved_for_who_can_pay() -> None:
    audiences = Audiences(args_of())
    for k in range(7200):
        language = ("ms", "ms", "ms", "en")[k % 4]
        at_ms = START_MS + k * 36_000
        audiences.fold(shown("old", at_ms, country="MY", language=language))
    audiences.put(debut("a", audiences.clock_ms, country="MY", language="en-MY"))
    expected = asked(OWED) / (AIM * 24.0) / 25.0
    assert audiences.share("MY", "en") == pytest.approx(expected, rel=0.02)
    assert audiences.share("MY", "ms") == 0.0
    assert audiences.reserved("MY") == pytest.approx(expected / 4, rel=0.05)


def test_a_market_is_overdrawn_once_it_has_been_for_half_an_hour() -> None:
    over, under = demand_of(0.11), demand_of(0.09)
    payments = PacingController(markets={GB: MarketPacing(START_MS, 200.0, 2.0)})
    payments.settle(over, 0.1, START_MS)
    assert payments.overdrawn(START_MS + ALARM_MS - 1) == []
    assert payments.overdrawn(START_MS + ALARM_MS) == [GB]
    payments.settle(under, 0.1, START_MS + ALARM_MS)
    assert payments.overdrawn(START_MS + ALARM_MS) == []
    payments.settle(over, 0.1, START_MS + ALARM_MS + SETTLE_MS)
    assert payments.overdrawn(START_MS + 2 * ALARM_MS) == []


@pytest.mark.parametrize("fed", [True, False])
def test_debts_for_which_nobody_is_left_are_named(*, fed: bool) -> None:
    """One is late: slots show others that are owed, or everybody has been shown what there is."""
    audiences = traffic(100, 36_000)
    audiences.put(debut("a", audiences.clock_ms))
    last = 100 * 26
    for k in range(100, last):
        audiences.fold(shown("old", START_MS + k * 36_000))
    assert audiences.unreachable() == ()
    for k in range(last, last + UNFED_MS // 36_000):
        at_ms = START_MS + k * 36_000
        if fed and k % 100 == 0:
            audiences.put(debut(f"u{k}", at_ms))
        audiences.fold(shown(f"u{k - k % 100}" if k % 10 == 0 else "old", at_ms))
    assert audiences.unreachable() == (() if fed else ("GB/en",))


def test_debts_of_one_market_reserve_nothing_in_another() -> None:
    audiences = traffic(1000, 10_000)
    audiences.put(debut("a", audiences.clock_ms, country="TH"))
    assert audiences.share("GB", "en") == 0.0


def test_what_nobody_may_be_shown_does_not_wind_up_the_integral() -> None:
    audiences = traffic(100, 36_000)
    for k in range(40):
        audiences.put(debut(f"idle{k}", audiences.clock_ms))
    for k in range(100, 100 * 48):
        audiences.fold(shown("old", START_MS + k * 36_000))
        assert audiences._payments.markets[GB].dual <= 0.1
    # They are late by as much as they had time: they ask no more for the market's slots than new
    # ones would, and have not been forgotten.
    assert audiences.overdrawn()["GB/en"] == pytest.approx(40 * OWED / 24.0 / 100.0, rel=0.05)
    for k in range(40):
        for _ in range(OWED):
            audiences.fold(shown(f"idle{k}", audiences.clock_ms))
    assert audiences.share("GB", "en") == 0.0
    for k in range(48 * 100, 60 * 100):
        audiences.fold(shown("old", START_MS + k * 36_000))
    assert audiences._payments.markets[GB].dual == 0.0


def test_a_new_rate_of_traffic_is_learned_within_a_day() -> None:
    market = MarketPacing(START_MS)
    for k in range(1, 48 * 10 + 1):
        market.age(START_MS + k * HOUR_MS // 10)
        market.shown += 1.0
    assert market.rate() == pytest.approx(10.0, rel=0.05)
    for k in range(1, 24 * 40 + 1):
        market.age(START_MS + 48 * HOUR_MS + k * HOUR_MS // 40)
        market.shown += 1.0
    assert 30.0 < market.rate() < 40.0


def test_the_rate_is_right_from_the_first_hour() -> None:
    market = MarketPacing(START_MS)
    for k in range(1, 101):
        market.age(START_MS + k * HOUR_MS // 100)
        market.shown += 1.0
    assert market.rate() == pytest.approx(100.0, rel=0.05)


def test_the_integral_moves_by_what_is_missing_and_stays_within_its_bounds() -> None:
    payments = PacingController()
    payments.show(GB, START_MS, paying=False)
    payments.settled_ms = START_MS
    demand = demand_of(0.06)
    payments.settle(demand, 0.1, START_MS + SETTLE_MS)
    one = payments.markets[GB].dual
    assert one == pytest.approx(0.2 * 0.06 / 12.0)
    for k in range(2, 5000):
        payments.settle(demand, 0.1, START_MS + k * SETTLE_MS)
    assert payments.markets[GB].dual == 0.1
    payments.settle(demand, 0.1, START_MS + 5000 * SETTLE_MS + 30 * DAY_MS)
    for k in range(5001, 9000):
        at_ms = START_MS + k * SETTLE_MS + 30 * DAY_MS
        payments.show(GB, at_ms, paying=True)
        payments.settle(demand, 0.1, at_ms)
    assert payments.markets[GB].dual == 0.0


def test_countries_without_bound_share_a_market() -> None:
    payments = PacingController()
    for k in range(3000):
        payments.show(MarketKey("GB", f"c{k}"), START_MS, paying=False)
    assert len(payments.markets) <= MAX_MARKETS + 1
    assert payments.markets[MarketKey("", "")].shown == 3000 - MAX_MARKETS


def test_no_budget_reserves_nothing_and_owes_all_the_same() -> None:
    audiences = Audiences(args_of(budget=0.0))
    audiences.put(debut("a"))
    audiences.fold(shown("old", START_MS))
    assert audiences.share("GB", "en") == 0.0
    audiences.fold(shown("old", START_MS + 2 * HOUR_MS))
    audiences.fold(shown("old", START_MS + 2 * HOUR_MS + ALARM_MS))
    assert audiences.overdrawn()["GB/en"] > 0.0
