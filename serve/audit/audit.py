"""The audit of fair start and breakout: delivery of guarantees, exposure and promotions.

It is computed from the fold of the log alone (`env.fair_start.audience`, `env.items.statistics`),
so it can be
recomputed from the log: `nextswipe audit --from-log`. One function serves the command line, the
page and `GET /v1/audit`. Meaning of markets, and limits: `docs/decisions/audit-fair-start.md`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from env.fair_start.reach import UploadState
from env.fair_start.settings import AudienceArgs
from env.fair_start.traffic import Heard
from env.vocabulary import ItemId
from serve.audit.breakout import count_cuts, count_pools, judge_breakout
from serve.audit.exposure import Exposed, ItemColumns
from serve.audit.floor import ReservationNeed, Schedule
from serve.audit.response import Audit, GuaranteeBody
from serve.learn.served import Folds
from serve.wire.codec import ProblemError

DEFAULT_UPLOADS = 100
MAX_UPLOADS = 1_000


@dataclass(frozen=True)
class AuditInputs:
    """Inputs of an audit, taken from the fold at one moment.

    Attributes:
        market: home country audited; empty: all.
        clock_ms: latest time in the log.
        shares: share of cards reserved now, by home.
        overdrawn: share needed by each over-committed home; the maximum over its languages.
        exposed: impressions of the listed items of these homes.
        gone: uploads that are taken down or delisted.
        version: version of the published policy; 0: none was published.
        offset: last log line in the fold.
        unreachable: homes where uploads are late although cards are reserved.
        heard: impressions of items out of trial, by user market.
    """

    market: str
    uploads: Sequence[UploadState]
    clock_ms: int
    shares: Mapping[str, float]
    overdrawn: Mapping[str, float]
    exposed: Exposed
    gone: frozenset[ItemId]
    args: AudienceArgs
    version: int = 0
    offset: int = 0
    unreachable: frozenset[str] = frozenset()
    heard: Mapping[str, Heard] = field(default_factory=dict)

    @classmethod
    def of(cls, folds: Folds, shown: ItemColumns) -> "AuditInputs":
        """Copy the findings from the folds; later changes of the folds do not affect them."""
        audiences, market = folds.audiences, shown.market
        uploads = [u for u in audiences.uploads() if not market or u.country == market]
        overdrawn: dict[str, float] = {}
        for place, share in audiences.overdrawn().items():
            home = _home_of(place)
            if not market or home == market:
                overdrawn[home] = max(share, overdrawn.get(home, 0.0))
        unreachable = frozenset(map(_home_of, audiences.unreachable()))
        homes = {upload.country for upload in uploads} | overdrawn.keys()
        homes |= {market} if market else set()
        return cls(
            market=market,
            uploads=uploads,
            clock_ms=audiences.clock_ms,
            shares={home: audiences.reserved(home) for home in sorted(homes)},
            overdrawn=overdrawn,
            exposed=shown.exposed,
            gone=shown.gone(u.item_id for u in uploads),
            args=folds.args,
            version=folds.version,
            offset=folds.offset,
            unreachable=unreachable,
            heard={k: h for k, h in audiences.heard.items() if not market or k == market},
        )


def make_audit(findings: AuditInputs, *, after: str = "", limit: int | None = None) -> Audit:
    """Return the audit.

    Args:
        after: item after which the listed uploads begin; empty: at the latest upload.
        limit: number of uploads listed; None: all.

    Raises:
        ValueError: no upload has the id `after`.
    """
    fair, uploads = findings.args.fair_start, findings.uploads
    schedule = Schedule(findings.clock_ms, fair.within_h, findings.gone)
    shown, following = _shown(uploads, after, limit)
    return Audit(
        version=findings.version,
        offset=findings.offset,
        clock_ms=findings.clock_ms,
        within_h=fair.within_h,
        budget=fair.budget,
        market=findings.market,
        floor=schedule.floor(
            uploads, ReservationNeed(findings.market, None, bool(findings.overdrawn))
        ),
        markets=_markets(findings, schedule),
        videos=findings.exposed.videos(),
        creators=findings.exposed.by_creator(),
        pools=count_pools(uploads),
        breakout=judge_breakout(uploads, findings.args.pools.at_least),
        guards=count_cuts(uploads, findings.heard),
        n_uploads=len(uploads),
        uploads=tuple(map(schedule.upload, shown)),
        next=following,
    )


async def answer_audit(folds: Folds, parameters: Mapping[str, str]) -> Audit:
    """Return the audit for the query parameters `market`, `after` and `limit`.

    State that the replica may change is copied at once; the long computation runs on a thread.

    Raises:
        ProblemError: 422, a parameter is invalid.
    """
    market, limit = parameters.get("market", ""), parameters.get("limit", str(DEFAULT_UPLOADS))
    if market and not is_home(market):
        raise ProblemError(422, f"expected a country as GB, got {market}", "market")
    is_number = limit.isascii() and limit.isdecimal() and len(limit) < 5
    if not is_number or int(limit) > MAX_UPLOADS:
        raise ProblemError(422, f"expected 0 to {MAX_UPLOADS}, got {limit}", "limit")
    shown = ItemColumns.of(folds, market)

    def work() -> Audit:
        findings = AuditInputs.of(folds, shown)
        return make_audit(findings, after=parameters.get("after", ""), limit=int(limit))

    try:
        return await asyncio.to_thread(work)
    except ValueError as error:
        raise ProblemError(422, str(error), "after") from error


def is_home(text: str) -> bool:
    """Return whether a text has the form of a country code: two capital letters (ISO 3166).

    >>> is_home("GB"), is_home("gb"), is_home("")
    (True, False, False)
    """
    return len(text) == 2 and text.isascii() and text.isalpha() and text.isupper()


def _markets(findings: AuditInputs, schedule: Schedule) -> tuple[GuaranteeBody, ...]:
    """Return the delivery by home, the one with the most uploads first."""
    overdrawn = findings.overdrawn
    homes: dict[str, list[UploadState]] = {home: [] for home in findings.shares}
    for upload in findings.uploads:
        homes[upload.country].append(upload)
    floors = [
        schedule.floor(
            of_home,
            ReservationNeed(
                home,
                findings.shares[home],
                home in overdrawn,
                overdrawn.get(home, 0.0),
                home in findings.unreachable,
            ),
        )
        for home, of_home in homes.items()
    ]
    return tuple(sorted(floors, key=lambda floor: -floor.uploads))


def _home_of(place: str) -> str:
    """Return the country of a market named as in `Audiences.overdrawn`."""
    return place.partition("/")[0]


def _shown(
    uploads: Sequence[UploadState], after: str, limit: int | None
) -> tuple[Sequence[UploadState], str]:
    """Return the listed uploads, the latest first, and the last id if more follow."""
    ordered = sorted(uploads, key=lambda u: (-u.born_ms, u.item_id))
    start = 0
    if after:
        places = (place for place, u in enumerate(ordered) if u.item_id == after)
        start = next(places, -1) + 1
        if not start:
            raise ValueError(f"expected the item_id of an upload, got {after}")
    end = len(ordered) if limit is None else start + limit
    shown = ordered[start:end]
    return shown, shown[-1].item_id if shown and end < len(ordered) else ""
