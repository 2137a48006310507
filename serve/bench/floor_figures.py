"""How much `serve.bench.floor` simulates, and what it measured."""

import msgspec


class FloorSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        people: who come in turn. Somebody pays an upload once, so in a market of 2% of them the
            visits of a day must be several times G.
        cards_a_day: drawn for all people together; who leaves sees no more of their page.
        items: there at the start.
        pages_a_visit: see `WorldSize`.
        warm_days: before the first upload, above 0; what is seen then says what a day is.
        days: with uploads at `owed_share`; those of the last day's length are not judged.
        owed_share: impressions owed to uploads, of all impressions.
        surge_share: the same on the day of the surge.
        drain_days: after it, without uploads, at most.
        again: how often each page with a reserved slot is drawn once more to judge the draws.
    """

    people: int = 20_000
    cards_a_day: int = 200_000
    items: int = 4_096
    shard: int = 250
    pages_a_visit: int = 2
    warm_days: float = 0.25
    days: float = 2.0
    owed_share: float = 0.04
    surge_share: float = 0.2
    drain_days: float = 2.0
    again: int = 2


class MarketFloor(msgspec.Struct, frozen=True):
    """What became of the uploads of a market.

    Attributes:
        judged: uploads whose time is over.
        met_share: part of them that got what they were owed in time; 1 of none.
        wait_p50_h: hours until they had it, median of those that have.
        owed_share: impressions owed per impression in the market while uploads came.
    """

    market: str
    judged: int
    met_share: float
    wait_p50_h: float | None
    owed_share: float


class Surge(msgspec.Struct, frozen=True):
    """What a day of too many uploads did.

    Attributes:
        uploads: of that day.
        alarm: some market was said to be overdrawn.
        alarm_before: turns before the surge at which some market was.
        paid_share: part that has got what it was owed by the end.
        gini_waiting: of the time until then, see the module.
        starved: uploads without any impression after their first 24 hours.
        wait_p50_h: median of the same times.
        days: from the surge's beginning to the end of the bench.
    """

    uploads: int
    alarm: bool
    alarm_before: int
    paid_share: float
    gini_waiting: float
    starved: int
    wait_p50_h: float
    days: float


class FloorResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        cards: seen in the promising world.
        judged: uploads whose 24 hours are over, before the surge.
        met_share: part of them that got what they were owed in time.
        page_cost: 1 - worth of a page's card / the same if nothing were reserved, at that moment
            and by the same learner, while uploads came.
        page_cost_se: its error by person.
        cost: 1 - reward with the promise / reward in a world without, exact, while uploads came.
        cost_se: its error by person, and nothing of what the two learners found by luck.
        markets: the same promises by the uploads' home.
        redrawn_pages: pages with a reserved slot, all drawn again.
        redrawn_mismatches: decisions of theirs that did not come again.
        reserved_draws: draws of reserved slots that p is of.
        reserved_p: chance of draws as far from their distribution as these, by chi-square.
    """

    size: FloorSize
    preset: str
    seed: int
    cards: int
    judged: int
    met_share: float
    page_cost: float
    page_cost_se: float
    cost: float
    cost_se: float
    markets: list[MarketFloor]
    surge: Surge
    redrawn_pages: int
    redrawn_mismatches: int
    reserved_draws: int
    reserved_p: float
