"""The phone of a rendered frame, with the last card and the user's response to it."""

from typing import TYPE_CHECKING

import numpy as np

from env.palette import (
    BAD,
    FAINT,
    GREY,
    INK,
    PAPER,
    TOPIC_NAMES,
    Colour,
    mix_colours,
    topic_colour,
)
from env.still import Card, Reply, Still, Swipe, clock, span

if TYPE_CHECKING:
    from env.render import Ink

PHONE_W, PHONE_H = 296, 592
_RIM, _CORNER = 9, 40
_HEART: Colour = (238, 70, 96)
_GOLD: Colour = (255, 214, 92)
_TALL = PHONE_H - 2 * _RIM
_N_SPOTS = 7


def draw_phone(ink: "Ink", x: float, y: float, still: Still) -> None:
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


def _draw_video(ink: "Ink", x: float, y: float, card: Card, colour: Colour) -> None:
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


def _draw_buttons(ink: "Ink", x: float, y: float, card: Card, reply: Reply) -> None:
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
