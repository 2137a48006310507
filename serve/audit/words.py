"""The audit as table cells and sentences, shared by the terminal and the HTML page."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from env.render.still import count
from serve.audit.picture import POOLS
from serve.audit.response import (
    Audit,
    BreakoutBody,
    ExposureBody,
    GuaranteeBody,
    SurgeBody,
    UploadBody,
)

NONE = "–"
_LOUD = 0.2
"""Share of new accounts' impressions not trained on, above which a sentence reports it."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table as text: title, column names and rows."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(audit: Audit) -> list[TextTable]:
    """Return the audit's non-empty tables, in reading order."""
    found = [
        _owed(audit),
        _waits(audit),
        _exposure(audit),
        _pools(audit),
        _reasons(audit),
        _days(audit),
        _cuts(audit),
        _surges(audit),
        _uploads(audit),
    ]
    return [cells for cells in found if cells.rows]


def sentences(audit: Audit) -> list[str]:
    """Return the statements that no table makes: alarms, quality of promotions, guards."""
    alarms = [_alarm(floor, audit.budget) for floor in audit.markets if floor.overdrawn]
    alarms += [_unreachable(floor) for floor in audit.markets if floor.unreachable]
    guards = audit.guards
    alarms += [_surge(surge) for surge in guards.surges if _is_loud(surge)]
    said = f"guards: {count(guards.cut, 'impression')} of uploads were no evidence"
    return [*alarms, _breakout(audit.breakout), said]


def _alarm(floor: GuaranteeBody, budget: float) -> str:
    needed = (
        "no cards are shown there"
        if floor.needed is None
        else f"{floor.needed:.1%} of the cards would be needed"
    )
    return f"alarm in {_home(floor.market)}: {needed}, and the budget is {budget:.1%}"


def _unreachable(floor: GuaranteeBody) -> str:
    return (
        f"alarm in {_home(floor.market)}: cards are kept free for late uploads and nobody is left "
        "there who may be shown them"
    )


def _is_loud(surge: SurgeBody) -> bool:
    return surge.unheard > _LOUD * (surge.heard + surge.unheard)


def _surge(surge: SurgeBody) -> str:
    n = surge.heard + surge.unheard
    return (
        f"surge in {_home(surge.market)}: of {count(n, 'impression')} by young accounts "
        f"{surge.unheard:,} taught nothing, as more came than usual; if they are yours, "
        "guards.enabled = false lets them"
    )


def _breakout(breakout: BreakoutBody) -> str:
    if breakout.bar is None:
        n = count(breakout.judged, "upload")
        return f"breakout: {n} with enough evidence, too few for a best tenth"
    return (
        f"breakout, judged by what is known now of {breakout.judged:,} uploads: precision "
        f"{percent(breakout.precision)} of {breakout.promoted:,} that reached pool 2, recall "
        f"{percent(breakout.recall)} of the best {breakout.best:,}, false kills "
        f"{breakout.false_kills:,}"
    )


def _floors(audit: Audit) -> list[tuple[str, GuaranteeBody]]:
    """Return named delivery records: all homes and each home, or the only one."""
    homes = [(_home(floor.market), floor) for floor in audit.markets]
    return homes if len(homes) == 1 else [("all", audit.floor), *homes]


def _owed(audit: Audit) -> TextTable:
    columns = ("home", "uploads", "owed", "paid", "in time", "late", "reserved")
    rows = [
        (
            name,
            f"{floor.uploads:,}",
            f"{floor.owed:,}",
            f"{floor.paid:,}",
            percent(floor.met_share),
            f"{floor.late:,}",
            percent(floor.share) + " !" * floor.overdrawn,
        )
        for name, floor in _floors(audit)
    ]
    return TextTable("the audience owed", columns, rows)


def _waits(audit: Audit) -> TextTable:
    columns = ("home", "half by", "90% by", "longest", "time is over of")
    rows = [
        (
            name,
            _hours(floor.p50_h),
            _hours(floor.p90_h),
            _hours(floor.max_h),
            f"{floor.over:,}",
        )
        for name, floor in _floors(audit)
        if floor.uploads
    ]
    return TextTable("how long uploads wait for it", columns, rows)


def _exposure(audit: Audit) -> TextTable:
    columns = ("over", "listed", "shown", "impressions", "Gini", "bottom 80% have")
    rows = [_spread("videos", audit.videos), _spread("creators", audit.creators)]
    return TextTable("who gets the impressions", columns, rows)


def _spread(name: str, spread: ExposureBody) -> tuple[str, ...]:
    gini = NONE if spread.gini is None else f"{spread.gini:.3f}"
    counts = (f"{n:,}" for n in (spread.n, spread.n_shown, spread.impressions))
    return (name, *counts, gini, percent(spread.bottom_share))


def _pools(audit: Audit) -> TextTable:
    pools = audit.pools
    rows = [
        (name, f"{reached:,}", f"{at:,}", f"{stopped:,}")
        for name, reached, at, stopped in zip(
            POOLS, pools.reached, pools.at, pools.stopped, strict=True
        )
    ]
    return TextTable("the pools", ("pool", "came to it", "are there", "stopped there"), rows)


def _reasons(audit: Audit) -> TextTable:
    rows = [(reason, f"{n:,}") for reason, n in audit.pools.reasons.items()]
    return TextTable("why uploads were stopped", ("reason", "uploads"), rows)


def _days(audit: Audit) -> TextTable:
    rows = [(day.day, *(f"{n:,}" for n in day.promoted)) for day in audit.pools.days]
    return TextTable("promotions", ("day", "to pool 1", "to pool 2", "to pool 3"), rows)


def _cuts(audit: Audit) -> TextTable:
    rows = [(cut.item_id, f"{cut.cut:,}", f"{cut.counted:,.0f}") for cut in audit.guards.items]
    columns = ("upload", "cut off", "evidence now")
    return TextTable("impressions that guards cut off", columns, rows)


def _surges(audit: Audit) -> TextTable:
    rows = [(_home(s.market), f"{s.heard:,}", f"{s.unheard:,}") for s in audit.guards.surges]
    return TextTable("young accounts beyond the usual", ("market", "heard", "not heard"), rows)


def _uploads(audit: Audit) -> TextTable:
    columns = ("upload", "home", "came (UTC)", "paid", "after", "pool", "stopped", "uplift")
    title = f"the latest {len(audit.uploads):,} of {audit.n_uploads:,} uploads"
    return TextTable(title, columns, [_upload(upload) for upload in audit.uploads])


def _upload(upload: UploadBody) -> tuple[str, ...]:
    came = dt.datetime.fromtimestamp(upload.born_ms / 1000, dt.UTC)
    return (
        upload.item_id,
        _home(upload.country),
        f"{came:%Y-%m-%d %H:%M}",
        f"{min(upload.impressions - upload.cut, upload.owed):,} of {upload.owed:,}",
        "late" if upload.late else "taken down" if upload.gone else _hours(upload.hours_to_paid),
        f"{upload.level}",
        upload.stopped,
        f"{upload.uplift:+.3f}",
    )


def percent(share: float | None) -> str:
    """Return a share as text."""
    return NONE if share is None else f"{share:.1%}"


def _home(country: str) -> str:
    return country or "unknown"


def _hours(hours: float | None) -> str:
    return NONE if hours is None else f"{hours:.1f} h"
