"""Records of an audit of fair start and breakout, as `GET /v1/audit` and `--json` answer it.

Counts are of uploads (`env.fair_start.audience`), the items that were new to the public when they
arrived. A share or quantile without data is None, so that no invented number is read as a
measurement.
"""

import msgspec

from env.vocabulary import CreatorId, ItemId


class GuaranteeBody(msgspec.Struct, frozen=True):
    """Delivery of the guaranteed audience to the uploads of one home country, or of all.

    Attributes:
        market: home country; empty: all, or uploads with an unknown home.
        uploads: uploads with a guarantee, fulfilled or not.
        owed: guaranteed impressions, in total.
        paid: delivered impressions, each upload counted up to its guarantee.
        full: uploads with a fulfilled guarantee.
        over: uploads past their deadline.
        met: uploads among `over` that were fulfilled before the deadline.
        met_share: met / over.
        late: uploads past their deadline with a shortfall.
        withdrawn: uploads taken down or delisted before fulfilment; excluded from all other counts.
        p50_h: hours from upload until half of them are fulfilled; None: not half of them yet.
        p90_h: the same for 90%.
        max_h: longest time to fulfilment.
        curve: share fulfilled by then, at equal time steps from 0 to `curve_h`.
        curve_h: hours that the curve spans.
        share: share of the market's cards reserved now; None: several markets together.
        overdrawn: whether the market is over-committed: it needs more than the budget.
        needed: share needed when over-committed; None: it is not, or no cards are shown.
        unreachable: whether uploads are late although cards are reserved, because no eligible user
            is left, as in a home with fewer users than the guarantee.
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
    """Spread of impressions over listed videos, or over their creators.

    Attributes:
        n: number of videos or creators.
        n_shown: those with at least one impression.
        gini: Gini index; 0: all equal, towards 1: one has everything.
        bottom_share: share of the impressions held by the 80% with the fewest.
        lorenz: share of the impressions held by the k% with the fewest, k from 0 to 100.
    """

    n: int
    n_shown: int
    impressions: int
    gini: float | None
    bottom_share: float | None
    lorenz: tuple[float, ...]


class DayBody(msgspec.Struct, frozen=True):
    """Promotions of one UTC day into pools 1, 2 and 3."""

    day: str
    promoted: tuple[int, int, int]


class PoolsBody(msgspec.Struct, frozen=True):
    """Flow through the pools; tuples of four are indexed by level, 0 to 3.

    Attributes:
        at: active uploads at the level.
        reached: uploads that ever reached it.
        stopped: uploads stopped there.
        spent: stopped uploads by the highest level they reached.
        reasons: the commonest reasons for stopping, with counts.
        days: the latest days with promotions, in order.
    """

    at: tuple[int, ...]
    reached: tuple[int, ...]
    stopped: tuple[int, ...]
    spent: tuple[int, ...]
    reasons: dict[str, int]
    days: tuple[DayBody, ...]


class BreakoutBody(msgspec.Struct, frozen=True):
    """Promotions in hindsight: the feed's judgement of itself, see `serve.audit.breakout`.

    Attributes:
        judged: uploads with enough evidence.
        bar: lowest uplift in their best tenth; None: fewer than ten are judged.
        best: uploads in that tenth.
        promoted: judged uploads that reached level 2.
        precision: share of `promoted` in the best tenth.
        recall: share of the best tenth that reached level 2.
        false_kills: uploads of the best tenth that were stopped at level 0.
    """

    judged: int
    bar: float | None
    best: int
    promoted: int
    precision: float | None
    recall: float | None
    false_kills: int


class FilteredUploadBody(msgspec.Struct, frozen=True):
    """An upload with rate-limited impressions, which are no evidence."""

    item_id: ItemId
    counted: float
    cut: int


class SurgeBody(msgspec.Struct, frozen=True):
    """A market with more new accounts than usual, some of whose impressions are not trained on.

    Attributes:
        market: country; empty: unknown.
        heard: impressions by new accounts of items out of trial that were trained on, since traffic
            shares were last frozen.
        unheard: the same, not trained on.
    """

    market: str
    heard: int
    unheard: int


class GuardsBody(msgspec.Struct, frozen=True):
    """Impressions that the guards removed from the evidence.

    Attributes:
        counted: impressions of uploads that count as evidence; a promotion forgets half of them.
        cut: impressions not counted, because their source was over its rate limit.
        items: uploads with the most `cut`, the most first.
        surges: user markets in which new accounts are rate-limited now, the most `unheard` first.
    """

    counted: float
    cut: int
    items: tuple[FilteredUploadBody, ...]
    surges: tuple[SurgeBody, ...]


class UploadBody(msgspec.Struct, frozen=True):
    """One upload: `env.fair_start.reach.UploadState` and the figures derived from it.

    Attributes:
        owed: guaranteed impressions.
        due_ms: deadline of the guarantee.
        paid_ms: time of fulfilment; 0: not yet.
        hours_to_paid: hours from upload to fulfilment.
        late: whether it is past the deadline with a shortfall.
        gone: whether it and all its near-duplicates are taken down or delisted.
        level_ms: time of entering each level; 0: never.
        stopped: reason why it is no longer offered; empty: it is.
        uplift: posterior mean of its reward above an ordinary item.
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
    """The whole audit, as of one version of the fold.

    Attributes:
        version: version of the published policy; 0: none was published.
        offset: last log line in the fold.
        clock_ms: latest time in the log, by which deadlines are judged.
        within_h: hours within which the audience is guaranteed.
        budget: largest share of a market's cards that may be reserved.
        market: home country audited; empty: all.
        floor: delivery over all uploads.
        markets: delivery by home, the most uploads first.
        creators: exposure over creators; videos of unknown creators are left out.
        uploads: some of them, the latest first.
        next: last listed upload if more follow, else empty.
    """

    version: int
    offset: int
    clock_ms: int
    within_h: float
    budget: float
    market: str
    floor: GuaranteeBody
    markets: tuple[GuaranteeBody, ...]
    videos: ExposureBody
    creators: ExposureBody
    pools: PoolsBody
    breakout: BreakoutBody
    guards: GuardsBody
    n_uploads: int
    uploads: tuple[UploadBody, ...]
    next: str = ""
