"""Draws one moment of a simulation as an image: a phone with its card, and the user beside it.

`render_frame` draws a `Still` for `render_mode="rgb_array"`; state hidden from the server stands in
a box of its own. Pillow is in the extra `world` and is imported when drawing; its built-in typeface
gives the same picture on every machine.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from env.palette import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    GREY,
    INK,
    PAPER,
    TOPIC_NAMES,
    Colour,
    mix_colours,
    topic_colour,
)
from env.phone import PHONE_H, PHONE_W, draw_phone
from env.still import Still, Swipe, clock, count, span

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 960, 640
SHARPNESS = 2
"""Scale of the drawing before it is scaled down, since Pillow's shapes have hard edges."""

_MARGIN = 40
_LEFT = _MARGIN + PHONE_W + 44
_WIDE = WIDTH - _MARGIN - _LEFT
_N_TOPICS_SHOWN = 6
_N_BARS = 48
_MOST_SATIATION = 2.0
_MOST_LOAD = 2.4
_LONGEST_BAR_S = 120.0


class Ink:
    """Draws in pixels of the finished frame, independent of the sharpness."""

    def __init__(self, draw: "ImageDraw") -> None:
        """Wrap a Pillow drawing."""
        self._draw = draw
        self._fonts: dict[int, FreeTypeFont] = {}

    def text(
        self, x: float, y: float, words: str, size: int, colour: Colour = INK, anchor: str = "la"
    ) -> None:
        """Write a line; `anchor` is Pillow's."""
        font = self._font(size)
        self._draw.text((x * SHARPNESS, y * SHARPNESS), words, colour, font, anchor)

    def bold(self, x: float, y: float, words: str, size: int, colour: Colour = INK) -> None:
        """Write a line with a heavier stroke, from its upper left corner."""
        place = (x * SHARPNESS, y * SHARPNESS)
        width = size * SHARPNESS / 40.0
        self._draw.text(place, words, colour, self._font(size), "la", stroke_width=width)

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: Colour | None,
        radius: float = 0.0,
        outline: Colour | None = None,
    ) -> None:
        """Draw a rectangle with round corners."""
        corners = tuple(SHARPNESS * value for value in (x, y, x + w, y + h))
        self._draw.rounded_rectangle(corners, radius * SHARPNESS, fill, outline, SHARPNESS)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Draw a disc around a point."""
        corners = tuple(SHARPNESS * v for v in (x - radius, y - radius, x + radius, y + radius))
        self._draw.ellipse(corners, fill)

    def shape(self, points: list[tuple[float, float]], fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(SHARPNESS * x, SHARPNESS * y) for x, y in points], fill)

    def line(self, points: list[tuple[float, float]], fill: Colour, width: float) -> None:
        """Draw a line through points."""
        scaled = [(SHARPNESS * x, SHARPNESS * y) for x, y in points]
        self._draw.line(scaled, fill, round(width * SHARPNESS), joint="curve")

    def _font(self, size: int) -> "FreeTypeFont":
        from PIL import ImageFont

        if size not in self._fonts:
            font = ImageFont.load_default(size * SHARPNESS)
            self._fonts[size] = cast("FreeTypeFont", font)
        return self._fonts[size]


def render_frame(still: Still) -> npt.NDArray[np.uint8]:
    """Return a still as an image, shape (HEIGHT, WIDTH, 3).

    Raises:
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(
            "render_mode='rgb_array' draws with Pillow, which is not installed: "
            'pip install "nextswipe[world]"'
        ) from error
    image = Image.new("RGB", (WIDTH * SHARPNESS, HEIGHT * SHARPNESS), PAPER)
    ink = Ink(ImageDraw.Draw(image))
    draw_phone(ink, _MARGIN, (HEIGHT - PHONE_H) / 2.0, still)
    _draw_person(ink, 34.0, still)
    _draw_reply(ink, 128.0, still)
    _draw_visit(ink, 212.0, still)
    _draw_hidden(ink, 338.0, still)
    _draw_calendar(ink, 566.0, still)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), dtype=np.uint8)


def _draw_person(ink: Ink, y: float, still: Still) -> None:
    ink.bold(_LEFT, y, f"Day {still.day + 1}, {clock(still.hour)}", 26)
    visit = f"visit {still.session}, card {len(still.swipes)}"
    ink.text(_LEFT + _WIDE, y + 8, visit, 16, GREY, "ra")
    since = f"registered {count(still.tenure_days, 'day')} ago" if still.tenure_days else "new here"
    who = (still.cohort.replace("_", " "), still.country, still.language, still.device, since)
    ink.text(_LEFT, y + 42, f"Person {still.seed}", 16)
    ink.text(_LEFT, y + 63, "  ·  ".join(word for word in who if word), 14, GREY)


def _draw_reply(ink: Ink, y: float, still: Still) -> None:
    ink.line([(_LEFT, y), (_LEFT + _WIDE, y)], FAINT, 1)
    ink.text(_LEFT, y + 14, "What they did", 13, GREY)
    ink.bold(_LEFT, y + 32, *_say(still))
    if still.ending():
        ink.text(_LEFT + _WIDE, y + 35, f"Then {still.ending()}.", 15, BAD, "ra")


def _say(still: Still) -> tuple[str, int, Colour]:
    if still.last is None:
        return "opened the app", 20, INK
    reply = still.last.reply
    did = f"watched {span(reply.watch_s)}" if reply.watch_s > 0.5 else "swiped away at once"
    words = ", ".join((did, *reply.words()))
    return words, 20, BAD if reply.not_interested else INK


def _draw_visit(ink: Ink, y: float, still: Still) -> None:
    """Draw a bar for each card: its colour is the topic, its height the watch time."""
    ink.line([(_LEFT, y), (_LEFT + _WIDE, y)], FAINT, 1)
    ink.text(
        _LEFT, y + 14, "This visit, card by card (taller: watched longer; dot: reacted)", 13, GREY
    )
    total = f"{count(len(still.swipes), 'card')}, {span(still.watched_s)}"
    ink.text(_LEFT + _WIDE, y + 14, total, 13, GREY, "ra")
    step, floor = _WIDE / _N_BARS, y + 108
    ink.line([(_LEFT, floor), (_LEFT + _WIDE, floor)], FAINT, 1)
    for k, swipe in enumerate(still.swipes[-_N_BARS:]):
        tall = 4.0 + 62.0 * _bar_height(swipe)
        x, colour = _LEFT + k * step, topic_colour(swipe.card.topic)
        ink.box(x, floor - tall, step - 2.5, tall, colour, 2)
        if swipe.reply.not_interested:
            ink.disc(x + (step - 2.5) / 2.0, floor - tall - 6.0, 2.5, BAD)
        elif swipe.reply.words():
            ink.disc(x + (step - 2.5) / 2.0, floor - tall - 6.0, 2.5, INK)


def _bar_height(swipe: Swipe) -> float:
    reach = np.log1p(swipe.reply.watch_s) / np.log1p(_LONGEST_BAR_S)
    return float(min(reach, 1.0))


def _draw_hidden(ink: Ink, y: float, still: Still) -> None:
    ink.box(_LEFT - 14, y, _WIDE + 28, 212, mix_colours(PAPER, INK, 0.05), 12)
    rested = ", at the start of the next visit" if still.gap_days else ""
    ink.text(_LEFT, y + 12, f"Hidden from the server{rested}", 13, GREY)
    content = still.satisfaction
    shown = mix_colours(BAD, FAIR, 2.0 * content)
    if content > 0.5:
        shown = mix_colours(FAIR, GOOD, 2.0 * content - 1.0)
    _draw_gauge(ink, y + 42, "satisfaction", content, 1.0, shown)
    _draw_gauge(ink, y + 72, "mental load", still.load, _MOST_LOAD, GREY)
    ink.text(_LEFT, y + 108, "had enough of", 15)
    for k, topic in enumerate(still.fullest()[:_N_TOPICS_SHOWN]):
        _draw_satiation(ink, y + 108 + 30 * (k % 3), k // 3, topic, still.satiation[topic])


def _draw_gauge(ink: Ink, y: float, name: str, value: float, most: float, colour: Colour) -> None:
    x, wide = _LEFT + 122, _WIDE - 122 - 52
    ink.text(_LEFT, y, name, 15)
    ink.box(x, y + 2, wide, 14, FAINT, 7)
    if value > 0.0:
        ink.box(x, y + 2, max(14.0, wide * min(value / most, 1.0)), 14, colour, 7)
    ink.text(_LEFT + _WIDE, y, f"{value:.2f}", 15, INK, "ra")


def _draw_satiation(ink: Ink, y: float, column: int, topic: int, value: float) -> None:
    if value < 0.01:
        return
    x = _LEFT + 122 + column * 215
    ink.box(x, y + 2, 90, 14, FAINT, 7)
    reach = max(14.0, 90 * min(value / _MOST_SATIATION, 1.0))
    ink.box(x, y + 2, reach, 14, topic_colour(topic), 7)
    ink.text(x + 98, y, f"{TOPIC_NAMES[topic]} {value:.1f}", 14)


def _draw_calendar(ink: Ink, y: float, still: Still) -> None:
    """Draw a mark for each day of the episode: visited, missed or to come."""
    step = _WIDE / still.horizon_days
    side = min(step - 2.0, 14.0)
    visited = set(still.visits)
    ink.text(_LEFT, y, f"{count(len(visited), 'day')} with a visit so far", 13, GREY)
    ink.text(_LEFT + _WIDE, y, f"day {still.day + 1} of {still.horizon_days}", 13, GREY, "ra")
    for day in range(still.horizon_days):
        x = _LEFT + day * step
        if day in visited:
            ink.box(x, y + 20, side, 14, INK if day != still.day else GOOD, 2)
        elif day <= still.day:
            ink.box(x, y + 20, side, 14, None, 2, GREY)
        else:
            ink.box(x, y + 20, side, 14, FAINT, 2)
