"""The audit of fair start and breakout: does every upload get its audience, and who gets the rest.

It is computed from what the fold of the log says (`env.audiences`, `env.items`) and from nothing
else, so whoever has the log can compute it again: `nextswipe audit --from-log`. One function makes
it for the command line, the page and `GET /v1/audit`.

A market is the home of uploads, not of viewers: what is owed is owed in the home, and whose videos
get impressions is asked by where they come from. Of uploads whose trial is over the fold remembers
the latest (`env.audiences.MAX_REMEMBERED`); older ones are counted nowhere here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from env.audience_args import AudienceArgs
from env.reach import UploadState
from env.traffic import Heard
from env.vocabulary import ItemId
from serve.audit_wire import Audit, FloorBody
from serve.breakout import judge_breakout
from serve.codec import ProblemError
from serve.exposure import Exposed
from serve.floors import Need, Schedule
from serve.folds import Folds, Shown
from serve.pool_counts import count_cuts, count_pools

DEFAULT_UPLOADS = 100
MAX_UPLOADS = 1_000


@dataclass(frozen=True)
class Findings:
    """What an audit is made of, taken from the fold at one moment.

    Attributes:
        market: home of all that is told here; empty: all homes.
        uploads: of these homes.
        clock_ms: the latest time that the fold has heard of.
        shares: by home, the part of its cards that is reserved now.
        overdrawn: homes that would need more than the budget, and how much; of several languages
            the one that needs the most.
        exposed: impressions of the listed items of these homes.
        gone: those of the uploads that are taken down or unlisted.
        args: of the fold.
        version: of the policy with which it was published; 0: nothing was.
        offset: of the last line of the log that it knows.
        unreachable: homes where uploads are late although cards are kept free for them.
        heard: by market of the viewers, of whom all is learned that is out of trial.
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
    def of(cls, folds: Folds, shown: Shown) -> "Findings":
        """Take what the folds say; nothing of it moves afterwards."""
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


def make_audit(findings: Findings, *, after: str = "", limit: int | None = None) -> Audit:
    """Return the audit.

    Args:
        findings: of the fold.
        after: upload behind which those that are told begin; empty: at the latest.
        limit: uploads told at most; None: all of them.

    Raises:
        ValueError: there is no upload `after`.
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
        floor=schedule.floor(uploads, Need(findings.market, None, bool(findings.overdrawn))),
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
    """Return the audit that a query asks for, `market`, `after` and `limit`.

    What moves under a replica's hands is taken at once; what takes long is done off the loop.

    Raises:
        ProblemError: 422, a parameter is not what it should be.
    """
    market, limit = parameters.get("market", ""), parameters.get("limit", str(DEFAULT_UPLOADS))
    if market and not is_home(market):
        raise ProblemError(422, f"expected a country as GB, got {market}", "market")
    is_number = limit.isascii() and limit.isdecimal() and len(limit) < 5
    if not is_number or int(limit) > MAX_UPLOADS:
        raise ProblemError(422, f"expected 0 to {MAX_UPLOADS}, got {limit}", "limit")
    shown = Shown.of(folds, market)

    def work() -> Audit:
        findings = Findings.of(folds, shown)
        return make_audit(findings, after=parameters.get("after", ""), limit=int(limit))

    try:
        return await asyncio.to_thread(work)
    except ValueError as error:
        raise ProblemError(422, str(error), "after") from error


def is_home(text: str) -> bool:
    """Return whether a text can be a home: two capital letters, as ISO 3166 has them.

    >>> is_home("GB"), is_home("gb"), is_home("")
    (True, False, False)
    """
    return len(text) == 2 and text.isascii() and text.isalpha() and text.isupper()


def _markets(findings: Findings, schedule: Schedule) -> tuple[FloorBody, ...]:
    """Return the floors by home, the one with the most uploads first."""
    overdrawn = findings.overdrawn
    homes: dict[str, list[UploadState]] = {home: [] for home in findings.shares}
    for upload in findings.uploads:
        homes[upload.country].append(upload)
    floors = [
        schedule.floor(
            of_home,
            Need(
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
    """Return the country of a market that is named as by `Audiences.overdrawn`."""
    return place.partition("/")[0]


def _shown(
    uploads: Sequence[UploadState], after: str, limit: int | None
) -> tuple[Sequence[UploadState], str]:
    """Return the uploads to tell of, the latest first, and the last of them if more follow."""
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
