"""The table of signals: a row for each kind of feedback, with its meaning to each part.

The wire, the user fold, the join, the reward, the exports and the simulated world read it. `ROWS`
are the shipped kinds; settings add rows and override keys of these. Rows and bits are stored, so
a new row goes last. Rules and rejected alternatives: `docs/decisions/signals.md`.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from env.currencies import CURRENCIES
from env.records import FeedbackKind
from env.vocabulary import Feedback

Display = Literal["", "begins", "ends"]
Consequence = Literal["", "follow_creator", "turn_away"]
Value = Literal["none", "number", "money"]

MAX_WINDOW_S = 30 * 86_400.0
MAX_SIGNALS = 100
MAX_AMOUNT = 1e9
"""Bound of all values: sums of `DIGITS` decimals are exact below it, whatever their order."""

DIGITS = 6
MAX_WEIGHT = 1e3
MAX_INTEREST = 10.0
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COLUMNS = (
    "action arm at_ms closed_ms country decision_id device duration_s dwell_s hour item_id "
    "language left long_view n_actions network page_id policy position propensity reward seen "
    "session slot user valid_play weekday"
)
RESERVED = frozenset(_COLUMNS.split())
"""Names that no signal may have: an export has a column of each, beside one for each signal."""


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The settings of one kind of feedback: a table `[signals.NAME]`."""

    value: Value = "none"  # what an event carries
    unit: str = ""  # of a number
    currency: str = ""  # of money, ISO 4217
    least: float = 0.0  # of a value; others are refused
    most: float = 0.0
    weight: float = 0.0  # in the reward: of a flag, or per unit of a value
    window_s: float = 7 * 86_400.0  # how long after its page an event is accepted, 1 s to 30 days
    undoes: str = ""  # the signal that it takes back
    needs_impression: bool = False  # the card must have been reported on screen before
    interest: float = 0.0  # what it says about the user's interest, once a card
    merge: Literal["", "most", "sum"] = ""  # of several values; empty: money sums, a number is most


class SignalTally(msgspec.Struct, frozen=True, omit_defaults=True):
    """How reports of one signal merge, and what that is worth: all that a learner knows of it."""

    name: FeedbackKind
    merge: Literal["flag", "most", "sum", "undo"] = "flag"
    weight: float = 0.0  # per unit
    least: float = 0.0  # a merged value is worth no less than this one, and no more than `most`
    most: float = 1.0
    undoes: FeedbackKind = ""

    def worth(self, value: float) -> float:
        """Return the reward of a merged value.

        >>> SignalTally("gift", "sum", weight=0.5, least=0.0, most=10.0).worth(12.0)
        5.0
        """
        return self.weight * min(max(value, self.least), self.most)

    def merged(self, feedback: Feedback, value: float) -> Feedback:
        """Return the feedback with one more report of this signal; 0 is the value of a flag.

        >>> gift = SignalTally("gift", "sum")
        >>> gift.merged(gift.merged(Feedback(), 1.1), 2.2).others
        (('gift', 3.3),)
        """
        if self.merge == "undo":
            return _without(feedback, self.undoes)
        others = dict(feedback.others)
        if self.merge == "flag":
            others[self.name] = 1.0
        elif self.merge == "most":
            others[self.name] = max(others.get(self.name, -math.inf), value)
        else:  # rounded, so that the order in which decimals are added does not matter
            others[self.name] = round(others.get(self.name, 0.0) + value, DIGITS)
        return msgspec.structs.replace(feedback, others=tuple(sorted(others.items())))


def _without(feedback: Feedback, kind: FeedbackKind) -> Feedback:
    if kind in REACTIONS:
        return msgspec.structs.replace(feedback, **{kind: False})
    others = tuple(other for other in feedback.others if other[0] != kind)
    return msgspec.structs.replace(feedback, others=others)


@dataclass(frozen=True, slots=True)
class KindRow:
    """One shipped kind of feedback; every kind implies that the card was seen."""

    kind: FeedbackKind  # its name on the wire and in the log
    meaning: str
    signal: Signal  # its settings as shipped
    has_seconds: bool = False  # carries a dwell in `value`
    display: Display = ""  # begins or ends the time of the card on screen
    answers: bool = False  # says how the card was watched, so that its watching counts
    is_reaction: bool = False  # a deliberate act that is a flag of `Feedback`
    bit: int = 0  # in a user's stored open cards; a power of 2
    consequence: Consequence = ""  # to the user's state, beside moving interests
    is_drawn: bool = False  # users of the simulated world answer with it

    @property
    def is_fixed(self) -> bool:
        """Whether the log of the first release had it, which fixes its value."""
        return self.is_reaction or self.answers or bool(self.display)

    @property
    def is_watching(self) -> bool:
        """Whether it says how long the card was watched, which has rewards of its own."""
        return self.answers or bool(self.display)


_SEEN = Signal(window_s=MAX_WINDOW_S)
_SECONDS = Signal("number", "s", most=86_400.0, window_s=MAX_WINDOW_S)
_LENGTH = Signal("number", "characters", least=1.0, most=2000.0, weight=0.0005)
_PURCHASE = Signal(
    "money",
    currency="USD",
    most=1000.0,
    weight=0.01,
    window_s=MAX_WINDOW_S,
    needs_impression=True,
    interest=1.5,
)


def _act(weight: float, interest: float) -> Signal:
    return Signal(weight=weight, interest=interest, window_s=MAX_WINDOW_S)


def _undo(kind: FeedbackKind) -> Signal:
    return Signal(undoes=kind, window_s=MAX_WINDOW_S)


ROWS = (
    KindRow("impression", "the card came on screen", _SEEN, display="begins"),
    KindRow("dwell", "seconds on the card so far", _SECONDS, has_seconds=True, answers=True),
    KindRow("like", "liked it", _act(0.5, 1.0), is_reaction=True, bit=1, is_drawn=True),
    KindRow("comment", "wrote about it", _act(0.5, 1.0), is_reaction=True, bit=2, is_drawn=True),
    KindRow("share", "sent it to others", _act(1.0, 1.5), is_reaction=True, bit=4, is_drawn=True),
    KindRow(
        "follow",
        "follows its creator",
        _act(1.0, 1.0),
        is_reaction=True,
        bit=8,
        consequence="follow_creator",
        is_drawn=True,
    ),
    KindRow(
        "not_interested",
        "wants less of it",
        _act(-1.0, -2.0),
        is_reaction=True,
        bit=16,
        consequence="turn_away",
        is_drawn=True,
    ),
    KindRow("product_click", "opened its product", _act(0.5, 0.5), is_reaction=True, bit=32),
    KindRow("leave", "the card is gone and none follows it", _SEEN, display="ends", answers=True),
    KindRow("save", "kept it for later", _act(0.5, 1.0), bit=64),
    KindRow("unsave", "keeps it no longer", _undo("save")),
    KindRow("unlike", "took the like back", _undo("like")),
    KindRow("unfollow", "follows its creator no longer", _undo("follow")),
    # Watching to the end is what valid_play and long_view reward already.
    KindRow("complete", "watched it to its end", _act(0.0, 0.25), bit=128),
    KindRow("replay", "watched it again", _act(0.25, 0.5), bit=256),
    KindRow("profile_visit", "opened its creator's page", _act(0.25, 0.5), bit=512),
    KindRow("comment_length", "length of the comment's text", _LENGTH),
    KindRow("report", "reported it to you", _act(-2.0, -2.0), bit=1024, consequence="turn_away"),
    KindRow("purchase", "bought its product", _PURCHASE, bit=2048),
)

KINDS: dict[str, KindRow] = {row.kind: row for row in ROWS}
FIRST_KINDS = tuple(row.kind for row in ROWS if row.is_fixed)
"""Kinds of the first release's logs."""

REACTIONS = tuple(row.kind for row in ROWS if row.is_reaction)
"""Kinds with a flag of their own in `Feedback`; all others are in `Feedback.others`."""

DRAWN_REACTIONS = tuple(row.kind for row in ROWS if row.is_drawn)
"""Reactions of simulated users, in the order of their events."""

DISPLAYS: Mapping[str, Display] = {row.kind: row.display for row in ROWS if row.display}

PLAYS = ("valid_play", "long_view")
"""Events that are derived from a dwell, by `env.reward`'s thresholds."""

SIMULATED_EVENTS = (*PLAYS, *DRAWN_REACTIONS)


class SignalError(ValueError):
    """A row that cannot be used; the message names the row, the key and the reason."""


class Signals:
    """The signals of one installation: shipped rows, as overridden, and its own.

    Attributes:
        rows: settings by name, the shipped ones first.
        tallies: of all signals without a field of their own in `Feedback`, in the order of `rows`.
    """

    def __init__(self, rows: Mapping[str, Signal]) -> None:
        """Check the rows; shipped ones that are missing stand as shipped.

        Raises:
            SignalError: a row cannot be used.
        """
        shipped = {row.kind: row.signal for row in ROWS}
        self.rows: dict[str, Signal] = {**shipped, **rows}
        _check_number(self.rows)
        for name, signal in self.rows.items():
            _check(name, signal, self.rows)
        self.tallies = tuple(
            _tally(name, signal)
            for name, signal in self.rows.items()
            if name not in KINDS or not KINDS[name].is_fixed
        )
        self._carried = {name: _carried(name, signal) for name, signal in self.rows.items()}

    def weight(self, name: str) -> float:
        """Return a signal's weight in the reward."""
        return self.rows[name].weight

    def carried(self, kind: FeedbackKind) -> tuple[float | None, FeedbackKind | None]:
        """Return the `interest` and `undoes` of an event's record: None where they are as shipped.

        A record carries them, so that a user's state depends on the log only.
        """
        return self._carried[kind]

    def interests(self) -> tuple[tuple[str, float], ...]:
        """Return the interests that are not as shipped, by name."""
        carried = ((name, interest) for name, (interest, _) in self._carried.items())
        return tuple(sorted((name, each) for name, each in carried if each is not None))

    def refusal(self, kind: FeedbackKind, value: float | None, currency: str) -> str:
        """Return the reason why an event must not be accepted; empty if it may.

        >>> SHIPPED.refusal("lik", None, "").partition(",")[0]
        "kind: unknown signal 'lik'; did you mean like? Known are impression"
        """
        signal = self.rows.get(kind)
        if signal is None:
            near = difflib.get_close_matches(kind, self.rows, n=1)
            hint = f"did you mean {near[0]}? Known are " if near else "known are "
            return f"kind: unknown signal {kind[:64]!r}; {hint}{', '.join(self.rows)}"
        if signal.value == "none":
            if value:
                return f"value: expected none with {kind}, got {value:g}"
            return f"currency: expected none with {kind}, got {currency}" if currency else ""
        unit = signal.currency or signal.unit
        if value is None:
            return f"value: expected {unit} with {kind}, got none"
        if not signal.least <= value <= signal.most:
            return (
                f"value: expected {signal.least:g} to {signal.most:g} {unit} with {kind}, "
                f"got {value:g}"
            )
        if currency not in ("", signal.currency):
            return f"currency: expected {signal.currency or 'none'} with {kind}, got {currency}"
        return ""


def by_name(tallies: Iterable[SignalTally]) -> dict[str, SignalTally]:
    """Return tallies by the names of their signals."""
    return {tally.name: tally for tally in tallies}


def _tally(name: str, signal: Signal) -> SignalTally:
    if signal.undoes:
        return SignalTally(name, "undo", undoes=signal.undoes)
    if signal.value == "none":
        return SignalTally(name, weight=signal.weight)
    merge = signal.merge or ("sum" if signal.value == "money" else "most")
    return SignalTally(name, merge, signal.weight, signal.least, signal.most)


def _carried(name: str, signal: Signal) -> tuple[float | None, FeedbackKind | None]:
    shipped = KINDS[name].signal if name in KINDS else Signal()
    return (
        signal.interest if signal.interest != shipped.interest else None,
        signal.undoes if signal.undoes != shipped.undoes else None,
    )


# --- checks of rows ---


def _check_number(rows: Mapping[str, Signal]) -> None:
    own = len(rows) - len(ROWS)
    if own > MAX_SIGNALS:
        raise SignalError(f"signals: expected at most {MAX_SIGNALS} signals of your own, got {own}")


def _check(name: str, signal: Signal, rows: Mapping[str, Signal]) -> None:
    """Raise SignalError, naming the key, unless a row can be used."""
    if not NAME.fullmatch(name):
        raise SignalError(
            f"signals.{name}: expected a name of at most 32 small letters, digits and _, "
            "that begins with a letter"
        )
    if name in RESERVED:
        raise SignalError(
            f"signals.{name}: this name is that of a column of exports; choose another"
        )
    if name in KINDS and KINDS[name].is_fixed:
        _check_fixed(KINDS[name], signal)
    _check_value(name, signal)
    _check_bounds(name, signal)
    if signal.undoes:
        _check_undo(name, signal, rows)


def _check_fixed(row: KindRow, signal: Signal) -> None:
    for key in ("value", "unit", "currency", "least", "most", "undoes", "merge"):
        _require(
            getattr(signal, key) == getattr(row.signal, key),
            row.kind,
            key,
            f"{getattr(row.signal, key)!r}, as logs since the first release have it",
            getattr(signal, key),
        )
    if row.is_watching:
        for key in ("weight", "interest"):
            told = "0: watching counts by reward.valid_play and reward.long_view"
            _require(getattr(signal, key) == 0.0, row.kind, key, told, getattr(signal, key))
    if row.display == "begins":
        _require(
            not signal.needs_impression,
            row.kind,
            "needs_impression",
            "false: it is the report that a card is on screen",
            signal.needs_impression,
        )


def _check_value(name: str, signal: Signal) -> None:
    has_value = signal.value != "none"
    if signal.value == "money":
        expected = "the money's ISO 4217 code, like USD"
        _require(signal.currency in CURRENCIES, name, "currency", expected, signal.currency)
    else:
        expected = 'none, unless value = "money"'
        _require(not signal.currency, name, "currency", expected, signal.currency)
    if signal.value == "number":
        expected = "the number's unit, of 1 to 32 characters"
        _require(0 < len(signal.unit) <= 32, name, "unit", expected, signal.unit)
    else:
        _require(not signal.unit, name, "unit", 'none, unless value = "number"', signal.unit)
    if not has_value:
        expected = 'none, unless value = "number" or "money"'
        _require(not signal.merge, name, "merge", expected, signal.merge)
        _require(signal.least == 0.0, name, "least", expected, signal.least)
        _require(signal.most == 0.0, name, "most", expected, signal.most)
        return
    _require(
        abs(signal.least) <= MAX_AMOUNT, name, "least", f"at most {MAX_AMOUNT:g}", signal.least
    )
    _require(
        signal.least < signal.most <= MAX_AMOUNT,
        name,
        "most",
        f"above least, {signal.least:g}, and at most {MAX_AMOUNT:g}",
        signal.most,
    )


def _check_bounds(name: str, signal: Signal) -> None:
    w, i = signal.weight, signal.interest
    _require(abs(w) <= MAX_WEIGHT, name, "weight", f"-{MAX_WEIGHT:g} to {MAX_WEIGHT:g}", w)
    _require(abs(i) <= MAX_INTEREST, name, "interest", f"-{MAX_INTEREST:g} to {MAX_INTEREST:g}", i)
    _require(
        1.0 <= signal.window_s <= MAX_WINDOW_S,
        name,
        "window_s",
        f"1 to {MAX_WINDOW_S:.0f} seconds, 30 days",
        signal.window_s,
    )


def _check_undo(name: str, signal: Signal, rows: Mapping[str, Signal]) -> None:
    undone = signal.undoes
    can = [
        other
        for other, row in rows.items()
        if other != name and not row.undoes and not (other in KINDS and KINDS[other].is_watching)
    ]
    _require(undone in can, name, "undoes", f"another signal, one of {', '.join(can)}", undone)
    expected = f"none: it takes {undone} back"
    _require(signal.value == "none", name, "value", expected, signal.value)
    _require(signal.weight == 0.0, name, "weight", expected, signal.weight)
    _require(signal.interest == 0.0, name, "interest", expected, signal.interest)


def _require(holds: bool, name: str, key: str, expected: str, got: object) -> None:
    if not holds:
        raise SignalError(f"signals.{name}.{key}: expected {expected}, got {got!r}")


SHIPPED = Signals({})
