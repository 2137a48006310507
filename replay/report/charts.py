"""Charts of HTML reports as SVG text: intervals, histograms, ratios, curves and stages.

Each is a function from numbers to one `<svg>` that needs no script, font or file. Colours come from
the page's style by class, so that they follow its light and dark themes.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760
_LABEL = 190
_ROW = 28
_NOTE = 170


class Bar(NamedTuple):
    """A row of `intervals`: a value with its interval, or a note that says why there is none."""

    label: str  # text at the left
    value: float | None  # None if there is no value
    low: float  # lower end
    high: float  # upper end
    note: str  # text at the right
    kind: str = "plain"  # colour class: "main", "plain", "logged" or "forced"


class Curve(NamedTuple):
    """A line of `curves`."""

    label: str
    note: str  # beside the label
    values: Sequence[float]  # in [0, 1], at equal steps from the left end to the right end
    kind: str = "main"  # colour class: "main", "ink", "even" (dashed) or "0" to "5"


class Stage(NamedTuple):
    """A bar of `stages`: how many came, and of these how many went on and were stopped."""

    label: str
    came: int
    went_on: int
    stopped: int


def intervals(rows: Sequence[Bar], reference: float | None, title: str) -> str:
    """Return values with their intervals, one per row, on one axis.

    Args:
        rows: if none has a value, only the notes are drawn.
        reference: position of a dashed line, such as the logged reward; None: no line.
        title: text for screen readers.
    """
    ends = [end for row in rows if row.value is not None for end in (row.low, row.high)]
    if reference is not None:
        ends.append(reference)
    scale = _Scale(ends or [0.0, 1.0], _LABEL, WIDTH - _NOTE)
    height = _ROW * len(rows) + 30
    parts = [_axis(scale, height - 24)]
    if reference is not None:
        x = scale.x(reference)
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="4" y2="{height - 24}"/>')
    for place, row in enumerate(rows):
        parts.append(_interval(row, scale, _ROW * place + 16))
    return _svg(height, title, parts)


def pairs(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float], title: str
) -> str:
    """Return a histogram of two shares side by side, with numbers above the bars."""
    highest = max([*first, *second, 1e-9])
    step, height = (WIDTH - 20) / len(labels), 190
    parts = []
    for place, label in enumerate(labels):
        x = 10 + step * place
        for values, kind, shift in ((first, "quiet", 0.08), (second, "main", 0.5)):
            share = values[place]
            tall, left = 130 * share / highest, x + step * shift
            top = 160 - tall
            parts.append(_rect(left, top, step * 0.4, tall, f"fill-{kind}"))
            if share >= 0.005:
                middle = left + step * 0.2
                parts.append(_text(middle, top - 4, f"{100 * share:.0f}%", "small", "middle"))
        parts.append(_text(x + step / 2, 178, label, "small", "middle"))
    parts.append(f'<line class="axis" x1="10" x2="{WIDTH - 10}" y1="160" y2="160"/>')
    return _svg(height, title, parts)


def ratios(values: Sequence[float], half_width: float | None, title: str) -> str:
    """Return bars of observed over expected amounts, with the band explained by chance.

    Args:
        values: 1 where as expected.
        half_width: half width of the band around 1; None: no band.
    """
    band = half_width or 0.0
    reach = max([abs(value - 1.0) for value in values] + [2.0 * band, 0.05]) * 1.15
    step, height, middle = (WIDTH - 60) / len(values), 150, 70
    parts = []
    if band:
        tall = 60 * band / reach
        parts.append(_rect(50, middle - tall, WIDTH - 60, 2 * tall, "band"))
    for place, value in enumerate(values):
        tall = 60 * (value - 1.0) / reach
        top, kind = (
            middle - max(tall, 0.0),
            "main" if not band or abs(value - 1) <= band else "warn",
        )
        parts.append(_rect(50 + step * (place + 0.15), top, step * 0.7, abs(tall), f"fill-{kind}"))
    parts.append(f'<line class="axis" x1="50" x2="{WIDTH - 10}" y1="{middle}" y2="{middle}"/>')
    for value in (1.0 + reach / 1.15, 1.0, 1.0 - reach / 1.15):
        y = middle - 60 * (value - 1.0) / reach
        parts.append(_text(44, y + 4, f"{value:.2f}", "small", "end"))
    return _svg(height, title, parts)


def course(
    labels: Sequence[str], values: Sequence[float], errors: Sequence[float], title: str
) -> str:
    """Return values over time, with whiskers of 1.96 standard errors."""
    ends = [v + side * 1.96 * e for v, e in zip(values, errors, strict=True) for side in (-1, 1)]
    low, high = min(ends), max(ends)
    room, height = max(high - low, 1e-12), 190
    step = (WIDTH - 80) / max(len(values), 1)

    def y(value: float) -> float:
        return round(150 - 130 * (value - low) / room, 1)

    points, parts = [], []
    for place, (value, error) in enumerate(zip(values, errors, strict=True)):
        x = round(70 + step * (place + 0.5), 1)
        points.append(f"{x},{y(value)}")
        top, bottom = y(value + 1.96 * error), y(value - 1.96 * error)
        parts.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<circle class="fill-main" cx="{x}" cy="{y(value)}" r="4"/>')
        parts.append(_text(x, 176, labels[place], "small", "middle"))
    parts.insert(0, f'<polyline class="line" points="{" ".join(points)}"/>')
    parts += [
        _text(60, y(value) + 4, f"{value:.3f}", "small", "end")
        for value in (low, (low + high) / 2, high)
    ]
    return _svg(height, title, parts)


def curves(
    lines: Sequence[Curve],
    ticks: Sequence[tuple[float, str]],
    mark: tuple[float, str] | None,
    title: str,
) -> str:
    """Return curves of shares, with their names and notes beside them.

    Args:
        lines: the first is drawn on top.
        ticks: places of the horizontal axis, in [0, 1] from its left to its right end, with labels.
        mark: place and label of a dashed vertical line; None: no line.
    """
    left, right, top, bottom = 56, WIDTH - 210, 26, 246
    parts = []
    for place, label in ticks:
        x = left + place * (right - left)
        parts.append(
            _line("grid", x, top, x, bottom) + _text(x, bottom + 18, label, "small", "middle")
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(_line("grid", left, y, right, y))
        parts.append(_text(left - 8, y + 4, f"{share:.0%}", "small", "end"))
    if mark is not None:
        x = left + mark[0] * (right - left)
        parts.append(_line("reference", x, top, x, bottom))
        parts.append(_text(x - 6, top - 8, mark[1], "small", "end"))
    parts += [_curve(line, left, right, top, bottom) for line in reversed(lines)]
    for row, line in enumerate(lines):
        y = top + 14 + 22 * row
        parts.append(_text(right + 16, y, _shortened(line.label, 12), f"name-{line.kind}", "start"))
        parts.append(_text(WIDTH - 4, y, line.note, "small", "end"))
    return _svg(max(bottom + 30, top + 22 * len(lines) + 10), title, parts)


def stages(rows: Sequence[Stage], title: str) -> str:
    """Return a bar for each stage, split by who went on, is there, and was stopped.

    A band leads those who went on to the next bar. Heights are shares of the first stage.
    """
    step, wide, top, tall = WIDTH / len(rows), 44.0, 34.0, 150.0
    most = max(rows[0].came, 1)
    parts = []
    for place, row in enumerate(rows):
        x, y, stays = step * place, top, row.came - row.went_on - row.stopped
        is_last = place == len(rows) - 1
        parts.append(_text(x, 16, row.label, "label", "start"))
        if row.went_on and not is_last:
            parts.append(_band(x + wide, x + step, top, tall * row.went_on / most))
        shares = (
            (row.went_on, "main"),
            (stays, "main" if is_last else "quiet"),
            (row.stopped, "bad"),
        )
        for n, kind in shares:
            parts.append(_rect(x, y, wide, tall * n / most, f"fill-{kind}"))
            y += tall * n / most + (2 if n else 0)
        notes = [f"{row.came:,} came"]
        notes += [] if is_last else [f"{row.went_on:,} went on"]
        notes += [f"{stays:,} are there", f"{row.stopped:,} stopped"]
        for line, note in enumerate(notes):
            kind = "small" if line else "label"
            parts.append(_text(x + wide + 8, top + 14 + 17 * line, note, kind, "start"))
    return _svg(top + tall + 16, title, parts)


class _Scale:
    def __init__(self, ends: Sequence[float], left: float, right: float) -> None:
        low, high = min(ends), max(ends)
        room = (high - low) or max(abs(high), 1e-3)
        self._low, self._high = low - 0.06 * room, high + 0.06 * room
        self._left, self._right = left, right

    def x(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._left + share * (self._right - self._left), 1)

    def ticks(self) -> list[float]:
        rough = (self._high - self._low) / 6
        base = 10.0 ** math.floor(math.log10(rough))
        step = next(base * k for k in (1, 2, 5, 10) if base * k >= rough)
        first = math.ceil(self._low / step)
        return [i * step for i in range(first, math.floor(self._high / step) + 1)]


def _axis(scale: _Scale, bottom: float) -> str:
    ticks = scale.ticks()
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]))) if len(ticks) > 1 else 3
    lines = []
    for tick in ticks:
        x = scale.x(tick)
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="4" y2="{bottom}"/>')
        lines.append(_text(x, bottom + 16, f"{tick:.{digits}f}", "small", "middle"))
    return "".join(lines)


def _interval(row: Bar, scale: _Scale, y: float) -> str:
    label = _text(_LABEL - 10, y + 4, _shortened(row.label), "label", "end")
    if row.value is None:
        return label + _text(_LABEL + 8, y + 4, row.note, "small refused", "start")
    low, high, x = scale.x(row.low), scale.x(row.high), scale.x(row.value)
    return (
        f'{label}<line class="stroke-{row.kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        f'<circle class="fill-{row.kind}" cx="{x}" cy="{y}" r="5"/>'
        + _text(WIDTH - _NOTE + 12, y + 4, row.note, "small", "start")
    )


def _curve(line: Curve, left: float, right: float, top: float, bottom: float) -> str:
    n = max(len(line.values) - 1, 1)
    points = " ".join(
        f"{left + (right - left) * place / n:.1f},{bottom - (bottom - top) * share:.1f}"
        for place, share in enumerate(line.values)
    )
    return f'<polyline class="curve curve-{line.kind}" points="{points}"/>'


def _band(start: float, end: float, top: float, tall: float) -> str:
    """Return a band between the tops of two bars."""
    return _rect(start, top, end - start, tall, "band")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _shortened(label: str, most: int = 26) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    size = f'width="{width:.1f}" height="{max(height, 0.0):.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    name = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )
