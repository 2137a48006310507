"""The audit as one HTML page: charts, the statements in words, and the tables.

Frame, charts and style are those of an evaluation report.
"""

from collections.abc import Sequence
from html import escape

from replay.report.charts import Curve, Stage, curves, stages
from replay.report.page import bullets, figure, page, section
from serve.audit.picture import POOLS, headline, source
from serve.audit.response import Audit, ExposureBody, GuaranteeBody
from serve.audit.words import TextTable, sentences, tables

N_CURVES = 6
"""Largest number of homes whose curves are drawn: as many as there are colours."""

_OWN_STYLE = (
    "main { max-width: 1000px; } td, th { padding-right: 14px; text-align: right; } "
    "td:first-child, th:first-child { text-align: left; } section { overflow-x: auto; }"
)

_QUARTERS = ((0.0, "0%"), (0.25, "25%"), (0.5, "50%"), (0.75, "75%"), (1.0, "100%"))


def audit_html(audit: Audit) -> str:
    """Return the page as HTML."""
    question = "Does every upload get its audience, and who breaks out?"
    parts = [
        f"<header><h1>{question}</h1><p>{escape(headline(audit))}</p></header>",
        section("In pictures", *_charts(audit)),
        section("In words", bullets(sentences(audit))),
        *(section(each.title.capitalize(), _table(each)) for each in tables(audit)),
        f"<footer>{escape(source(audit))} Written by nextswipe.</footer>",
    ]
    return page("Fair start and breakout", "".join(parts), _OWN_STYLE)


def _charts(audit: Audit) -> list[str]:
    charts = [_stages(audit)]
    if audit.videos.lorenz:
        charts.insert(0, _lorenz(audit))
    if audit.floor.uploads:
        charts.insert(0, _waits(audit))
    return charts


def _waits(audit: Audit) -> str:
    title = "How soon uploads have the audience they are owed: share of them, by hours since upload"
    lines = [_wait(audit.market or "all", audit.floor, "ink")]
    homes = [market for market in audit.markets if market.uploads][:N_CURVES]
    if len(homes) > 1:
        named = enumerate(homes)
        lines += [_wait(home.market or "no home", home, str(hue)) for hue, home in named]
    whole_h = audit.floor.curve_h
    ticks = [(share, f"{share * whole_h:.3g} h") for share, _ in _QUARTERS]
    mark = audit.within_h / whole_h, f"time allowed: {audit.within_h:g} h"
    return figure(curves(lines, ticks, mark, title), title)


def _wait(name: str, home: GuaranteeBody, kind: str) -> Curve:
    note = "" if home.p50_h is None else f"half by {home.p50_h:.1f} h"
    return Curve(name, note, home.curve, kind)


def _lorenz(audit: Audit) -> str:
    title = "Who gets the impressions: share held by those with the fewest, by share of them"
    spreads = (("videos", audit.videos, "main"), ("creators", audit.creators, "0"))
    lines = [_spread(*spread) for spread in spreads if spread[1].lorenz]
    equal = Curve("all the same", "", (0.0, 1.0), "even")
    return figure(curves([*lines, equal], _QUARTERS, None, title), title)


def _spread(name: str, spread: ExposureBody, kind: str) -> Curve:
    return Curve(name, f"Gini {spread.gini or 0.0:.2f}", spread.lorenz, kind)


def _stages(audit: Audit) -> str:
    title = "The way through the pools: uploads that came, went on, are there, and were stopped"
    pools = audit.pools
    onward: Sequence[int] = (*pools.reached[1:], 0)
    rows = [Stage(*each) for each in zip(POOLS, pools.reached, onward, pools.spent, strict=True)]
    return figure(stages(rows, title), title)


def _table(cells: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in cells.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells.rows
    )
    return f"<table><tr>{head}</tr>{rows}</table>"
