"""What an audit of fair start and breakout says: the answer of `GET /v1/audit`, and `--json`.

Counts are of uploads (`env.audiences`): items that came as new to the public. None stands where
there is nothing to take a share or a quantile of; a number made up in its place would be read as
one.
"""

import msgspec

from env.vocabulary import CreatorId, ItemId


class FloorBody(msgspec.Struct, frozen=True):
    """How the audience that uploads are owed was delivered, to those of one home or to all.

    Attributes:
        market: the home country; empty: of all, or of those whose home is unknown.
        uploads: that are owed an audience, or had it.
        owed: impressions promised to them, all together.
        paid: impressions of these that were delivered; more than an upload is owed do not count.
        full: uploads that have all they are owed.
        over: uploads whose time is over.
        met: those of `over` that had all they are owed within their time.
        met_share: met / over.
        late: uploads whose time is over and that are still owed something.
        withdrawn: uploads that were taken down or unlisted before they had it; counted nowhere
            else here.
        p50_h: hours from upload until half of them have what they are owed; None: not yet so many.
        p90_h: the same for nine in ten.
        max_h: the longest that it took one that has it.
        curve: share of uploads that have it by then, at equal steps of time from 0 to `curve_h`.
        curve_h: hours that the curve spans.
        share: part of the market's cards that is reserved now; None: of all markets together.
        overdrawn: whether more than the budget would be needed.
        needed: what would be needed, where it is more; None: it is not, or no cards are shown.
        unreachable: whether uploads are late although cards are kept free for them: nobody is left
            there who may be shown them, as where a home has fewer people than they are owed.
    """

    market: str
    uploads: int
    owed: int
    paid: int
    full: int
    over: int
    met: int
    met_share: float | None
    late: int
    withdrawn: int
    p50_h: float | None
    p90_h: float | None
    max_h: float | None
    curve: tuple[float, ...]
    curve_h: float
    share: float | None
    overdrawn: bool
    needed: float | None
    unreachable: bool = False


class ExposureBody(msgspec.Struct, frozen=True):
    """How impressions spread over listed videos, or over those who made them.

    Attributes:
        n: of them.
        n_shown: of them with an impression at least.
        impressions: of all.
        gini: 0: all have the same; towards 1: one has everything.
        bottom_share: part of the impressions that the 80% with the fewest have.
        lorenz: part of the impressions that the k% with the fewest have, k from 0 to 100.
    """

    n: int
    n_shown: int
    impressions: int
    gini: float | None
    bottom_share: float | None
    lorenz: tuple[float, ...]


class DayBody(msgspec.Struct, frozen=True):
    """Promotions of one day, UTC: into pools 1, 2 and 3."""

    day: str
    promoted: tuple[int, int, int]


class PoolsBody(msgspec.Struct, frozen=True):
    """The way through the pools, by level: four numbers are of levels 0 to 3.

    Attributes:
        at: uploads that are there and go on.
        reached: uploads that ever were there.
        stopped: uploads that were stopped there.
        spent: stopped uploads, by the highest level to which they had come.
        reasons: why, and how many; the commonest.
        days: promotions, the latest days on which there were any, in order.
    """

    at: tuple[int, ...]
    reached: tuple[int, ...]
    stopped: tuple[int, ...]
    spent: tuple[int, ...]
    reasons: dict[str, int]
    days: tuple[DayBody, ...]


class BreakoutBody(msgspec.Struct, frozen=True):
    """How promotions look from now: the feed's judgement of itself, see `serve.breakout`.

    Attributes:
        judged: uploads with enough evidence.
        bar: least uplift of the best tenth of them; None: fewer than ten are judged.
        best: uploads of that tenth.
        promoted: judged uploads that reached level 2.
        precision: part of `promoted` that is in the best tenth.
        recall: part of the best tenth that reached level 2.
        false_kills: uploads of the best tenth that were stopped at level 0.
    """

    judged: int
    bar: float | None
    best: int
    promoted: int
    precision: float | None
    recall: float | None
    false_kills: int


class CutBody(msgspec.Struct, frozen=True):
    """An upload of whose impressions some were no evidence."""

    item_id: ItemId
    counted: float
    cut: int


class SurgeBody(msgspec.Struct, frozen=True):
    """A market to which more young accounts come than usual, so that some teach nothing.

    Attributes:
        market: a country; empty: unknown.
        heard: impressions by young accounts of what is out of trial, since shares were last looked
            at, that were learned from.
        unheard: those that were not.
    """

    market: str
    heard: int
    unheard: int


class GuardsBody(msgspec.Struct, frozen=True):
    """What the guards took out of the evidence.

    Attributes:
        counted: impressions of uploads that are evidence; half of them is forgotten at a promotion.
        cut: those that were not: their source had its part already.
        items: uploads with the most of the latter, the most first.
        surges: markets of viewers in which young accounts are bounded now, the most unheard first.
    """

    counted: float
    cut: int
    items: tuple[CutBody, ...]
    surges: tuple[SurgeBody, ...]


class UploadBody(msgspec.Struct, frozen=True):
    """One upload: `env.reach.UploadState`, with what follows from it.

    Attributes:
        owed: impressions promised.
        due_ms: by when.
        paid_ms: when it had them; 0: not yet.
        hours_to_paid: from upload until then.
        late: its time is over, and it is still owed something.
        gone: it is taken down or unlisted, and so are its near-duplicates.
        level_ms: when it came to each level; 0: never.
        stopped: why it is no longer offered; empty: it is.
        uplift: posterior mean of what it earns above an ordinary item.
        chance: posterior probability that it is above its level's bar.
    """

    item_id: ItemId
    creator: CreatorId
    country: str
    language: str
    born_ms: int
    owed: int
    due_ms: int
    impressions: int
    paid_ms: int
    hours_to_paid: float | None
    late: bool
    gone: bool
    level: int
    level_ms: tuple[int, ...]
    stopped: str
    counted: float
    cut: int
    uplift: float
    uplift_sd: float
    chance: float


class Audit(msgspec.Struct, frozen=True):
    """All of it, as of one version of the fold.

    Attributes:
        version: of the policy with which the fold was published; 0: nothing was.
        offset: of the last line of the log that the fold knows.
        clock_ms: the latest time that the fold has heard of; late is late by then.
        within_h: hours in which an audience is owed.
        budget: the most of a market's cards that may be reserved.
        market: home of all that is told here; empty: all homes.
        floor: of all together.
        markets: by home, the most uploads first.
        videos: exposure over videos.
        creators: exposure over creators; videos whose creator is unknown are left out.
        n_uploads: there are.
        uploads: some of them, the latest first.
        next: last of them, after which more follow; empty: there are no more.
    """

    version: int
    offset: int
    clock_ms: int
    within_h: float
    budget: float
    market: str
    floor: FloorBody
    markets: tuple[FloorBody, ...]
    videos: ExposureBody
    creators: ExposureBody
    pools: PoolsBody
    breakout: BreakoutBody
    guards: GuardsBody
    n_uploads: int
    uploads: tuple[UploadBody, ...]
    next: str = ""
