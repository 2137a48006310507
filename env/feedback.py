"""The table of feedback kinds: a row for each event about a card, with its meaning to each part.

The wire, the user fold, the join, the reward, the exports and the simulated world read their lists
here. A new kind is a row, its name in `env.records.FeedbackKind` and, where it has them, its flag
in `Feedback` and its weight in `Reward`. Rows and bits are stored: a new row goes last.
"""

from dataclasses import dataclass
from typing import Literal

from env.records import FeedbackKind

Display = Literal["", "begins", "ends"]
Consequence = Literal["", "follow_creator", "turn_away"]


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind of feedback; every kind implies that the card was seen."""

    kind: FeedbackKind  # its name on the wire and in the log
    meaning: str
    has_seconds: bool = False  # carries a dwell in `value`; all others carry 0
    display: Display = ""  # begins or ends the time of the card on screen
    answers: bool = False  # says how the card was watched, so that its watching counts
    is_reaction: bool = False  # a deliberate act: a flag of `Feedback`, with a weight in `Reward`
    bit: int = 0  # of a reaction, in a user's stored open cards; a power of 2
    signal: float = 0.0  # what it says about interest; below 0: against it
    consequence: Consequence = ""  # to the user's state, beside moving interests by `signal`
    is_drawn: bool = False  # users of the simulated world answer with it


ROWS = (
    KindRow("impression", "the card came on screen", display="begins"),
    KindRow("dwell", "seconds on the card so far", has_seconds=True, answers=True),
    KindRow("like", "liked it", is_reaction=True, bit=1, signal=1.0, is_drawn=True),
    KindRow("comment", "wrote about it", is_reaction=True, bit=2, signal=1.0, is_drawn=True),
    KindRow("share", "sent it to others", is_reaction=True, bit=4, signal=1.5, is_drawn=True),
    KindRow(
        "follow",
        "follows its creator",
        is_reaction=True,
        bit=8,
        signal=1.0,
        consequence="follow_creator",
        is_drawn=True,
    ),
    KindRow(
        "not_interested",
        "wants less of it",
        is_reaction=True,
        bit=16,
        signal=-2.0,
        consequence="turn_away",
        is_drawn=True,
    ),
    KindRow("product_click", "opened its product", is_reaction=True, bit=32, signal=0.5),
    KindRow("leave", "the card is gone and none follows it", display="ends", answers=True),
)

KINDS: dict[str, KindRow] = {row.kind: row for row in ROWS}
REACTIONS = tuple(row.kind for row in ROWS if row.is_reaction)
DRAWN_REACTIONS = tuple(row.kind for row in ROWS if row.is_drawn)
"""Reactions of simulated users, in the order of their events."""

PLAYS = ("valid_play", "long_view")
"""Events that are derived from a dwell, by `env.reward`'s thresholds."""

SIMULATED_EVENTS = (*PLAYS, *DRAWN_REACTIONS)
