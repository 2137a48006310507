"""The items that a user answered last, each with one number that says how it was taken.

The ring is what a user is recognised by among others (`env.features.collaborative`). It holds the
short key of an item and the answer's value in a byte, so a user who answers is known from the next
page on, without any training. Values and rejected alternatives: `docs/decisions/collaborative.md`.
"""

import struct
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from env.feedback import KINDS, REACTIONS
from env.reward import is_long_view, is_valid_play
from env.vocabulary import Feedback, Floats, ShortKeys

MAX_ANSWERS = 100
STEP = 0.25
"""Values are stored in whole steps; those of today's feedback kinds are exact."""

Interests = Mapping[str, float]
"""The interest of signals by name, where it is not as shipped."""

NO_INTERESTS: Interests = MappingProxyType({})

_MOST = 127
_ROW = struct.Struct("<Ib")
_ROWS = np.dtype([("key", "<u4"), ("value", "i1")])


def value_of(feedback: Feedback, duration_s: float, interests: Interests = NO_INTERESTS) -> float:
    """Return how a card was taken: half for a valid play, half for a long view, plus interests.

    It is `OpenCard.value` of the same card, where its events had these interests.

    >>> value_of(Feedback(seen=True, left=True, dwell_s=20.0, like=True), 60.0)
    2.0
    """
    played = is_valid_play(feedback.dwell_s, duration_s)
    long = is_long_view(feedback.dwell_s, duration_s)
    told = [kind for kind in REACTIONS if getattr(feedback, kind)]
    told += [kind for kind, _ in feedback.others]
    return 0.5 * played + 0.5 * long + sum(_interest(kind, interests) for kind in told)


def _interest(kind: str, interests: Interests) -> float:
    shipped = KINDS[kind].signal.interest if kind in KINDS else 0.0
    return interests.get(kind, shipped)


def quantise_value(value: float) -> int:
    """Return a value in whole steps, from -127 to 127."""
    return max(-_MOST, min(_MOST, round(value / STEP)))


def put_answer(ring: bytes, key: int, value: float) -> bytes:
    """Return the ring with an answer moved or added to its end, the oldest dropped.

    Args:
        ring: as this returned it; empty at first.
        key: `env.records.item_key` of the item.
        value: of the answer, `value_of`.
    """
    row = _ROW.pack(key & 0xFFFFFFFF, quantise_value(value))
    place = ring.find(row[:4])
    while place % _ROW.size and place >= 0:  # a match across two rows
        place = ring.find(row[:4], place + 1)
    before = ring if place < 0 else ring[:place] + ring[place + _ROW.size :]
    return (before + row)[-MAX_ANSWERS * _ROW.size :]


def read_answers(ring: bytes) -> tuple[ShortKeys, Floats]:
    """Return the short keys of the items answered and the values, (n,) each, oldest first."""
    rows = np.frombuffer(ring, dtype=_ROWS)
    return rows["key"], rows["value"].astype(np.float64) * STEP
