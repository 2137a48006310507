"""The picture of an audit: delivery of guarantees, spread of impressions, and the rollout stages.

It has three panels: the share of uploads with their guaranteed audience by hours since upload and
home country, the Lorenz curves of impressions, and the flow through the pools. matplotlib is in the
extra `world` and is imported when a picture is drawn. Equal audits give equal pictures.
"""

import datetime as dt
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from env.render.still import count
from serve.audit.response import Audit, ExposureBody, GuaranteeBody

if TYPE_CHECKING:
    from matplotlib.axes import Axes


INK, SOFT, LINE = "#1c2430", "#5d6878", "#d9dee6"
MAIN, QUIET, BAD = "#2563c9", "#c3d4f2", "#c9574b"
VIDEOS, CREATORS = "#2563c9", "#d07a1c"
MARKETS = ("#d07a1c", "#1b8a6b", "#8a4fb5", "#b83a5e", "#5c7f1f", "#3c8fb0")
POOLS = ("Pool 0: first audience", "Pool 1: home country", "Pool 2: neighbours", "Pool 3: open")
TICKS, PERCENTS = (0.0, 0.25, 0.5, 0.75, 1.0), ("0%", "25%", "50%", "75%", "100%")
N_REASONS = 5
N_ALARMS = 5
_BAR, _GAP = 0.24, 0.012


def draw_audit(file: Path, audit: Audit) -> None:
    """Write the picture.

    Args:
        file: its suffix sets the format: .png, .svg or .pdf.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "audit"}):
        figure = Figure(figsize=(11.6, 9.8), dpi=120, facecolor="white")
        FigureCanvasAgg(figure)
        for draw, place in _PANELS.items():
            draw(figure.add_axes(place), audit)
        figure.text(0.02, 0.957, _title(audit), fontsize=18, fontweight="bold", color=INK)
        figure.text(0.02, 0.926, headline(audit), fontsize=11.5, color=SOFT)
        figure.text(0.02, 0.012, source(audit), fontsize=8.5, color=SOFT)
        kind = file.suffix[1:].lower()
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(file, format=kind, metadata=dated)


def headline(audit: Audit) -> str:
    """Return a one-line summary of how the delivery guarantee is kept."""
    floor = audit.floor
    if not floor.uploads:
        return "No upload is owed an audience yet."
    words = [f"{count(floor.owed, 'impression')} promised to {count(floor.uploads, 'upload')}"]
    if floor.met_share is not None:
        words.append(
            f"{floor.met_share:.1%} of the {floor.over:,} whose time is over had theirs in time"
        )
    words.append(f"{floor.late:,} late now")
    alarms = [market.market or "unknown" for market in audit.markets if market.overdrawn]
    if alarms:
        more = f" and {len(alarms) - N_ALARMS} more" if len(alarms) > N_ALARMS else ""
        words.append(f"alarm in {', '.join(alarms[:N_ALARMS])}{more}")
    return "; ".join(words)


def source(audit: Audit) -> str:
    """Return the log position and the policy version that the audit describes."""
    at = dt.datetime.fromtimestamp(audit.clock_ms / 1000, dt.UTC)
    return (
        f"From the log up to line {audit.offset:,}, {at:%Y-%m-%d %H:%M} UTC; policy version "
        f"{audit.version}."
    )


def _title(audit: Audit) -> str:
    of = f" from {audit.market}" if audit.market else ""
    return f"Fair start and breakout of uploads{of}"


def _draw_floors(axis: "Axes", audit: Audit) -> None:
    hours = np.linspace(0.0, audit.floor.curve_h, len(audit.floor.curve))
    several = [market for market in audit.markets if market.uploads]
    lines = [(audit.floor, audit.market or "all", INK)]
    if len(several) > 1:
        lines += [
            (market, market.market or "no home", colour)
            for market, colour in zip(several, MARKETS, strict=False)
        ]
    for floor, _, colour in reversed(lines) if audit.floor.uploads else ():
        width = 3.0 if colour == INK else 1.8
        axis.plot(hours, floor.curve, color=colour, lw=width, clip_on=False, zorder=3)
    axis.axvline(audit.within_h, color=SOFT, lw=1.1, ls=(0, (4, 3)))
    axis.annotate(
        f"time allowed: {audit.within_h:g} h", (audit.within_h, 1.03), xytext=(-6, 0),
        textcoords="offset points", ha="right", fontsize=9, color=SOFT,
    )  # fmt: skip
    axis.set_xlim(0.0, audit.floor.curve_h)
    axis.set_ylim(0.0, 1.09)
    axis.set_yticks(TICKS, PERCENTS)
    axis.set_xlabel("hours since upload", fontsize=10, color=SOFT)
    _frame(axis, "How soon uploads have the audience they are owed")
    if audit.floor.uploads:
        _name_floors(axis, lines)
    else:
        _say(axis, "no upload is owed an audience yet")


def _name_floors(axis: "Axes", lines: list[tuple[GuaranteeBody, str, str]]) -> None:
    """Label the curves beside the panel, the fastest first."""
    axis.text(1.02, 1.0, "half by", transform=axis.transAxes, fontsize=9, color=SOFT, va="top")
    lines = sorted(lines, key=lambda line: np.inf if line[0].p50_h is None else line[0].p50_h)
    for row, (floor, name, colour) in enumerate(lines):
        by = "–" if floor.p50_h is None else f"{floor.p50_h:.1f} h"
        weight = "bold" if colour == INK else "normal"
        for x, text, side in ((1.02, name, "left"), (1.17, by, "right")):
            axis.text(
                x, 0.92 - 0.075 * row, text, transform=axis.transAxes, fontsize=10, color=colour,
                fontweight=weight, va="top", ha=side,
            )  # fmt: skip


def _draw_lorenz(axis: "Axes", audit: Audit) -> None:
    axis.plot([0.0, 1.0], [0.0, 1.0], color=SOFT, lw=1.0, ls=(0, (4, 3)))
    axis.annotate(
        "all the same", (0.3, 0.3), xytext=(0, 5), textcoords="offset points", rotation=45,
        rotation_mode="anchor", transform_rotates_text=True, ha="center", fontsize=9, color=SOFT,
    )  # fmt: skip
    spreads = (("videos", audit.videos, VIDEOS), ("creators", audit.creators, CREATORS))
    for row, (name, spread, colour) in enumerate(spreads):
        if not spread.lorenz:
            continue
        shares = np.linspace(0.0, 1.0, len(spread.lorenz))
        axis.plot(shares, spread.lorenz, color=colour, lw=2.4)
        axis.text(0.04, 0.93 - 0.12 * row, _spread(name, spread), fontsize=9.5, color=colour,
                  va="center", linespacing=1.25)  # fmt: skip
    axis.set_xlim(0.0, 1.0)
    axis.set_ylim(0.0, 1.0)
    axis.set_xticks(TICKS, PERCENTS)
    axis.set_yticks(TICKS, PERCENTS)
    axis.set_xlabel("of them, those with the fewest impressions first", fontsize=10, color=SOFT)
    _frame(axis, "Who gets the impressions")
    if not audit.videos.lorenz:
        _say(axis, "nothing was shown yet", 0.86)


def _spread(name: str, spread: ExposureBody) -> str:
    return (
        f"{spread.n:,} {name}: Gini {spread.gini or 0.0:.2f}\n"
        f"bottom 80% get {spread.bottom_share or 0.0:.0%}"
    )


def _draw_flow(axis: "Axes", audit: Audit) -> None:
    """Draw one bar per level, split into uploads that went on, are still tried, or were stopped."""
    pools = audit.pools
    n = max(pools.reached[0], 1)
    for level, reached in enumerate(pools.reached):
        onward = pools.reached[level + 1] if level + 1 < len(pools.reached) else 0
        spent = pools.spent[level]
        stays = reached - onward - spent
        top, left = 1.0, float(level)
        parts = ((onward, MAIN), (stays, QUIET if level + 1 < len(pools.reached) else MAIN))
        for part, colour in (*parts, (spent, BAD)):
            tall = part / n
            axis.bar(left, tall, _BAR, top - tall, align="edge", color=colour, lw=0)
            if colour == MAIN and onward and level + 1 < len(pools.reached):
                _draw_band(axis, left + _BAR, left + 1.0, top, tall)
            top -= tall + (_GAP if part else 0.0)
        axis.text(left, 1.13, POOLS[level], fontsize=10.5, fontweight="bold", color=INK)
        _write_level(axis, left, (reached, onward, stays, spent), n, is_last=level == 3)
    axis.set_xlim(0.0, 3.95)
    axis.set_ylim(-0.04, 1.2)
    axis.set_axis_off()
    axis.set_title(
        "The way through the pools", loc="left", fontsize=12.5, fontweight="bold", color=INK, pad=6
    )


def _draw_band(axis: "Axes", start: float, end: float, top: float, tall: float) -> None:
    """Draw the flow to the next level as a smooth band between the tops of two bars."""
    steps = np.linspace(0.0, 1.0, 40)
    rise = (1.0 - top) * steps**2 * (3.0 - 2.0 * steps)
    x = start + (end - start) * steps
    axis.fill_between(x, top + rise, top + rise - tall, color=MAIN, alpha=0.16, lw=0)


def _write_level(
    axis: "Axes", left: float, counts: tuple[int, int, int, int], n: int, *, is_last: bool
) -> None:
    reached, onward, stays, spent = counts
    lines = [(f"{reached:,}", INK, 15.0, "bold")]
    if is_last:
        lines += [(f"{reached / n:.1%} of all uploads", SOFT, 9.5, "normal")]
    else:
        share = f" ({onward / reached:.0%})" if reached else ""
        lines += [(f"{onward:,} went on{share}", MAIN, 9.5, "normal")]
    lines += [
        (f"{stays:,} {'are there' if is_last else 'still tried'}", SOFT, 9.5, "normal"),
        (f"{spent:,} stopped", BAD, 9.5, "normal"),
    ]
    height = 0.93
    for text, colour, size, weight in lines:
        axis.text(
            left + _BAR + 0.035, height, text, fontsize=size, color=colour, fontweight=weight,
            va="center",
        )  # fmt: skip
        height -= 0.135 if size > 10 else 0.105


def _write_reasons(axis: "Axes", audit: Audit) -> None:
    """Write the reasons why uploads were stopped, one bar per reason."""
    axis.set_axis_off()
    _head(axis, "Why uploads were stopped")
    reasons = list(audit.pools.reasons.items())[:N_REASONS]
    most = max((n for _, n in reasons), default=1)
    for row, (reason, n) in enumerate(reasons):
        y = 0.72 - 0.2 * row
        axis.barh(y, 0.36 * n / most, 0.12, 0.6, color=BAD, lw=0)
        axis.text(0.0, y, textwrap.shorten(reason, 46), fontsize=9.5, color=INK, va="center")
        axis.text(0.61 + 0.36 * n / most, y, f"{n:,}", fontsize=9.5, color=SOFT, va="center")
    axis.set_xlim(0.0, 1.05)
    axis.set_ylim(0.0, 1.0)
    if not reasons:
        axis.text(0.0, 0.72, "none was", fontsize=9.5, color=SOFT, va="center")


def _write_breakout(axis: "Axes", audit: Audit) -> None:
    axis.set_axis_off()
    _head(axis, "Promotions, by what is known now")
    breakout = audit.breakout
    rows = [
        (_percent(breakout.precision), "of those that reached pool 2 are in the best tenth"),
        (_percent(breakout.recall), "of the best tenth reached pool 2"),
        (f"{breakout.false_kills:,}", "of the best tenth were stopped in pool 0"),
    ]
    if breakout.bar is None:
        rows = [("–", f"{breakout.judged:,} with enough evidence: too few to tell")]
    for row, (figure, words) in enumerate(rows):
        y = 0.72 - 0.23 * row
        axis.text(0.12, y, figure, fontsize=12, fontweight="bold", color=MAIN, ha="right",
                  va="center")  # fmt: skip
        axis.text(0.15, y, words, fontsize=9.5, color=INK, va="center")
    axis.set_xlim(0.0, 1.0)
    axis.set_ylim(0.0, 1.0)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _head(axis: "Axes", title: str) -> None:
    axis.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=INK, pad=2)


def _frame(axis: "Axes", title: str) -> None:
    axis.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=INK, pad=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(LINE)
    axis.tick_params(colors=SOFT, labelsize=9.5, length=0)
    axis.grid(True, color=LINE, lw=0.7)
    axis.set_axisbelow(True)


def _say(axis: "Axes", text: str, height: float = 0.5) -> None:
    axis.text(
        0.5,
        height,
        text,
        transform=axis.transAxes,
        ha="center",
        va="center",
        fontsize=12,
        color=SOFT,
    )


_PANELS = {
    _draw_floors: (0.065, 0.555, 0.45, 0.295),
    _draw_lorenz: (0.645, 0.555, 0.325, 0.295),
    _draw_flow: (0.065, 0.222, 0.905, 0.245),
    _write_reasons: (0.065, 0.045, 0.47, 0.115),
    _write_breakout: (0.645, 0.045, 0.325, 0.115),
}
"""Position of each panel: left, bottom, width and height, as fractions of the figure."""
