"""Draws one moment of a simulation as an image: a phone with its card, and the user beside it.

`render_frame` draws a `Moment` for `render_mode="rgb_array"`; state hidden from the server stands
in a box of its own. Pillow is in the extra `world` and is imported when drawing; its built-in
typeface gives the same picture on every machine.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from env.render.palette import (
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
from env.render.still import Moment, StillCard, StillResponse, Swipe, clock, count, span

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont


PHONE_W, PHONE_H = 296, 592
_RIM, _CORNER = 9, 40
_HEART: Colour = (238, 70, 96)
_GOLD: Colour = (255, 214, 92)
_TALL = PHONE_H - 2 * _RIM
_N_SPOTS = 7


def draw_phone(ink: "Ink", x: float, y: float, still: Moment) -> None:
    """Draw the phone with its upper left corner at (x, y)."""
    ink.box(x, y, PHONE_W, PHONE_H, INK, _CORNER)
    left, top = x + _RIM, y + _RIM
    if still.last is None:
        ink.box(left, top, PHONE_W - 2 * _RIM, _TALL, mix_colours(INK, PAPER, 0.12), _CORNER - _RIM)
        ink.text(x + PHONE_W / 2, y + PHONE_H / 2, "nextswipe", 26, PAPER, "mm")
    else:
        _draw_card(ink, left, top, still.last)
    ink.box(x + PHONE_W / 2 - 42, y + 16, 84, 20, INK, 10)
    ink.text(left + 22, top + 10, clock(still.hour), 14, PAPER)


def _draw_card(ink: "Ink", x: float, y: float, swipe: Swipe) -> None:
    card, reply, wide = swipe.card, swipe.reply, PHONE_W - 2 * _RIM
    colour = topic_colour(card.topic)
    _draw_video(ink, x, y, card, colour)
    _draw_buttons(ink, x + wide - 34, y + _TALL - 274, card, reply)
    ink.text(x + 18, y + _TALL - 104, f"@creator{card.creator}", 17, PAPER)
    length = span(card.duration_s) if card.duration_s else "unknown length"
    about = (TOPIC_NAMES[card.topic], card.language, length)
    ink.text(x + 18, y + _TALL - 78, "  ·  ".join(word for word in about if word), 14, PAPER)
    if reply.not_interested:
        ink.box(x + 18, y + 52, 118, 26, BAD, 13)
        ink.text(x + 77, y + 65, "not interested", 14, PAPER, "mm")
    _draw_progress(ink, x + 18, y + _TALL - 42, wide - 36, swipe)


def _draw_video(ink: "Ink", x: float, y: float, card: StillCard, colour: Colour) -> None:
    """Draw a placeholder for the video: the topic's colour and name, and the item's own pattern."""
    wide, dark = PHONE_W - 2 * _RIM, mix_colours(colour, INK, 0.78)
    for k in range(_TALL):
        inset = _inset(min(k, _TALL - 1 - k) + 0.5)
        shade = mix_colours(colour, dark, k / _TALL)
        ink.box(x + inset, y + k, wide - 2 * inset, 1, shade)
    pattern = np.random.Generator(np.random.Philox(card.serial))
    for k in range(_N_SPOTS):
        across, radius = pattern.uniform([50.0, 14.0], [wide - 50.0, 46.0])
        down = y + 130 + k * 190 / _N_SPOTS
        under = mix_colours(colour, dark, (down - y) / _TALL)
        ink.disc(x + across, down, radius, mix_colours(under, PAPER, 0.06 + 0.07 * (k % 3)))
    ink.text(x + wide / 2, y + 212, TOPIC_NAMES[card.topic], 36, PAPER, "mm")


def _inset(depth: float) -> float:
    """Return the inset of a round corner in a row at this depth below the edge."""
    radius = _CORNER - _RIM
    if depth >= radius:
        return 0.0
    return float(radius - np.sqrt(radius**2 - (radius - depth) ** 2))


def _draw_buttons(ink: "Ink", x: float, y: float, card: StillCard, reply: StillResponse) -> None:
    marks = ((reply.like, "like"), (reply.comment, "comment"), (reply.share, "share"))
    for k, (is_done, name) in enumerate(marks):
        colour = (_HEART if name == "like" else _GOLD) if is_done else PAPER
        _draw_mark(ink, name, x, y + 50 * k, colour)
    if card.like_share is not None:
        ink.text(x, y + 21, f"{card.like_share:.1%}", 11, PAPER, "mm")
    _draw_creator(ink, x, y - 46, has_followed=reply.follow)


def _draw_creator(ink: "Ink", x: float, y: float, *, has_followed: bool) -> None:
    ink.disc(x, y, 18, PAPER)
    ink.disc(x, y - 4, 6, GREY)
    ink.box(x - 10, y + 4, 20, 9, GREY, 4.5)
    ink.disc(x, y + 18, 8, _GOLD if has_followed else _HEART)
    if has_followed:
        ink.line([(x - 4, y + 18), (x - 1, y + 21), (x + 4, y + 15)], INK, 2)
    else:
        ink.line([(x - 4, y + 18), (x + 4, y + 18)], PAPER, 2)
        ink.line([(x, y + 14), (x, y + 22)], PAPER, 2)


def _draw_mark(ink: "Ink", name: str, x: float, y: float, colour: Colour) -> None:
    if name == "like":
        ink.disc(x - 6, y - 4, 7, colour)
        ink.disc(x + 6, y - 4, 7, colour)
        ink.shape([(x - 12.2, y - 0.6), (x + 12.2, y - 0.6), (x, y + 13)], colour)
    elif name == "comment":
        ink.box(x - 13, y - 10, 26, 19, colour, 8)
        ink.shape([(x - 6, y + 7), (x + 3, y + 7), (x - 8, y + 14)], colour)
    else:
        ink.shape([(x + 13, y - 1), (x + 1, y - 12), (x + 1, y + 10)], colour)
        ink.line([(x - 11, y + 11), (x - 8, y + 2), (x + 3, y - 1)], colour, 5)


def _draw_progress(ink: "Ink", x: float, y: float, wide: float, swipe: Swipe) -> None:
    card, watch_s = swipe.card, swipe.reply.watch_s
    times = watch_s / card.duration_s if card.duration_s else float(watch_s > 0.0)
    ink.box(x, y, wide, 4, mix_colours(INK, FAINT, 0.35), 2)
    ink.box(x, y, max(4.0, wide * min(times, 1.0)), 4, PAPER, 2)
    loops = f"  (loop {times:.1f}x)" if times > 1.0 else ""
    ink.text(x, y + 10, f"{span(watch_s)} watched{loops}", 12, PAPER)


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


def render_frame(still: Moment) -> npt.NDArray[np.uint8]:
    """Return a still as an image, shape (HEIGHT, WIDTH, 3).

    Raises:
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(
            "render_mode='rgb_array' draws with Pillow, which is not installed: "
            "make install EXTRAS=world"
        ) from error
    image = Image.new("RGB", (WIDTH * SHARPNESS, HEIGHT * SHARPNESS), PAPER)
    ink = Ink(ImageDraw.Draw(image))
    draw_phone(ink, _MARGIN, (HEIGHT - PHONE_H) / 2.0, still)
    _draw_user(ink, 34.0, still)
    _draw_reply(ink, 128.0, still)
    _draw_visit(ink, 212.0, still)
    _draw_hidden(ink, 338.0, still)
    _draw_calendar(ink, 566.0, still)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), dtype=np.uint8)


def _draw_user(ink: Ink, y: float, still: Moment) -> None:
    ink.bold(_LEFT, y, f"Day {still.day + 1}, {clock(still.hour)}", 26)
    visit = f"visit {still.session}, card {len(still.swipes)}"
    ink.text(_LEFT + _WIDE, y + 8, visit, 16, GREY, "ra")
    since = f"registered {count(still.tenure_days, 'day')} ago" if still.tenure_days else "new here"
    who = (still.cohort.replace("_", " "), still.country, still.language, still.device, since)
    ink.text(_LEFT, y + 42, f"Person {still.seed}", 16)
    ink.text(_LEFT, y + 63, "  ·  ".join(word for word in who if word), 14, GREY)


def _draw_reply(ink: Ink, y: float, still: Moment) -> None:
    ink.line([(_LEFT, y), (_LEFT + _WIDE, y)], FAINT, 1)
    ink.text(_LEFT, y + 14, "What they did", 13, GREY)
    ink.bold(_LEFT, y + 32, *_say(still))
    if still.ending():
        ink.text(_LEFT + _WIDE, y + 35, f"Then {still.ending()}.", 15, BAD, "ra")


def _say(still: Moment) -> tuple[str, int, Colour]:
    if still.last is None:
        return "opened the app", 20, INK
    reply = still.last.reply
    did = f"watched {span(reply.watch_s)}" if reply.watch_s > 0.5 else "swiped away at once"
    words = ", ".join((did, *reply.words()))
    return words, 20, BAD if reply.not_interested else INK


def _draw_visit(ink: Ink, y: float, still: Moment) -> None:
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


def _draw_hidden(ink: Ink, y: float, still: Moment) -> None:
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


def _draw_calendar(ink: Ink, y: float, still: Moment) -> None:
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
