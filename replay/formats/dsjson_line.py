"""The fields of a dsjson line, each checked and refused under its own name.

See also `docs/decisions/dsjson.md`.
"""

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import numpy as np

from replay.log.format import LinePosition
from replay.source import MAX_ACTIONS, MAX_SLOTS

SAME_TOLERANCE = 1e-3
"""Largest relative difference between the logged propensity and the logged pmf."""


class Label(msgspec.Struct, frozen=True):
    """The choice and its outcome."""

    action: int  # index among the candidates, from 0
    probability: float  # probability of the choice as logged, in (0, 1]
    cost: float  # finite; the negative of a reward


class DsjsonDecision(msgspec.Struct, frozen=True):
    """A decision as a line holds it."""

    decision_id: str  # `EventId`; empty if missing
    timestamp: str  # as logged; empty if missing
    ranking: tuple[int, ...]  # indices of all candidates, from 0, in the order of `a`
    pmf: tuple[float, ...]  # probability of each, in the order of `ranking`; empty if not logged
    label: Label | None  # None if no outcome was joined
    pdrop: float  # share of such lines that were dropped from the log, in [0, 1)
    skip_learn: bool  # the choice was never shown (a deferred action that was not activated)
    context: bytes  # `c` as logged, JSON
    rest: dict[str, bytes]  # every other member as logged, JSON by name

    @property
    def n_actions(self) -> int:
        """Number of candidates."""
        return len(self.ranking)

    @property
    def row_weight(self) -> float:
        """Number of decisions that this one stands for, 1 / (1 - pdrop)."""
        return 1.0 / (1.0 - self.pdrop)

    @property
    def at_ms(self) -> int:
        """Unix milliseconds; 0 if not logged."""
        return parse_timestamp(self.timestamp) if self.timestamp else 0

    @property
    def propensity(self) -> float:
        """The probability of the choice under the policy alone, in (0, 1].

        Some joiners multiply the logged probability by 1 - pdrop; a logged pmf reveals it.

        Raises:
            ValueError: there is no label.
        """
        if self.label is None:
            raise ValueError(f"decision {self.decision_id!r} has no label")
        expected = self.probability_of(self.label.action)
        survived = 1.0 if expected is None else expected * (1.0 - self.pdrop)
        if expected is not None and is_same(self.label.probability, survived):
            return expected
        return self.label.probability

    def probability_of(self, action: int) -> float | None:
        """Return the logged probability of a candidate; None where no pmf is logged."""
        return self.pmf[self.ranking.index(action)] if self.pmf else None


class DanglingOutcome(msgspec.Struct, frozen=True):
    """An outcome on a line of its own that no joiner matched to a decision, kept as raw JSON."""

    line: bytes


DsjsonLine = DsjsonDecision | DanglingOutcome


def parse_timestamp(text: str) -> int:
    """Return Unix milliseconds of an ISO 8601 time (UTC if without a zone), or raise ValueError."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000.0)


def is_same(got: float, expected: float) -> bool:
    """Whether two numbers, one of them perhaps in single precision, are the same probability."""
    return abs(got - expected) <= SAME_TOLERANCE * expected


PMF_TOLERANCE = 1e-4
"""Tolerance of a pmf's sum, for numbers in single precision."""

LABELS = {
    "_label_cost": "cost",
    "_label_probability": "probability",
    "_label_action": "number",
    "_labelindex": "index",
}
"""Role of each label member by its lower-case name; VW compares the names without case."""

_SPELLED = {
    "cost": "_label_cost",
    "probability": "_label_probability",
    "number": "_label_Action",
    "index": "_labelIndex",
}

T = TypeVar("T")


class _Candidates(msgspec.Struct):
    multi: list[msgspec.Raw] | None = msgspec.field(name="_multi", default=None)
    slots: list[msgspec.Raw] | None = msgspec.field(name="_slots", default=None)


class Fields:
    """The members of a line, decoded one at a time; every method may raise ValueError."""

    def __init__(self, place: LinePosition, members: dict[str, msgspec.Raw]) -> None:
        """Take the members of a line and its place in the file."""
        self._place = place
        self._members = members
        self._names = {LABELS.get(name.lower(), name): name for name in members}

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def get(self, key: str, kind: type[T], default: T) -> T:
        """Return a member decoded as this type, or the default if it is missing."""
        name = self._names.get(key)
        return default if name is None else self._decode(self._members[name], kind, name)

    def bad(self, problem: str, key: str) -> ValueError:
        """Return the error for a field, under the name that it has in the line."""
        return self._place.bad(problem, self._names.get(key, _SPELLED.get(key, key)))

    def count_actions(self, context: msgspec.Raw, name: str) -> int:
        """Return the number of candidates of a context, at least 1."""
        found = self._decode(context, _Candidates, name)
        if found.slots is not None:
            raise self.bad(
                "expected one choice a line, got decisions of several slots; write each slot as a "
                "decision of its own, with its own candidates",
                "_slots",
            )
        if not found.multi:
            raise self.bad("expected at least one candidate, got none", "_multi")
        if len(found.multi) > MAX_ACTIONS:
            n = len(found.multi)
            raise self.bad(f"expected at most {MAX_ACTIONS:,} candidates, got {n:,}", "_multi")
        return len(found.multi)

    def check_version(self, expected: str) -> None:
        """Raise ValueError for another version; some systems write it as a number."""
        version = str(self.get("Version", object, expected))
        if version != expected:
            raise self.bad(f"expected version {expected!r}, got {version!r}", "Version")

    def ranking(self, n_actions: int) -> tuple[int, ...]:
        """Return the candidates' indices, from 0, in the order of `a`."""
        numbers = self.get("a", tuple[int, ...], ())
        if not numbers:
            raise self.bad(f"expected the ranking of {n_actions} candidates, got none", "a")
        if sorted(numbers) != list(range(1, n_actions + 1)):
            raise self.bad(
                f"expected each of the candidates 1 to {n_actions} once, got {_shown(numbers)}", "a"
            )
        return tuple(number - 1 for number in numbers)

    def pmf(self, n_actions: int) -> tuple[float, ...]:
        """Return the probabilities in the order of the ranking; empty if none are logged."""
        key = "p" if "p" in self else "_p"
        if key not in self:
            return ()
        pmf = self.get(key, tuple[float, ...], ())
        if len(pmf) != n_actions:
            raise self.bad(f"expected {n_actions} probabilities, got {len(pmf)}", key)
        if not all(0.0 <= p <= 1.0 for p in pmf):
            raise self.bad(f"expected probabilities in [0, 1], got {_shown(pmf)}", key)
        if not abs(sum(pmf) - 1.0) <= PMF_TOLERANCE:
            raise self.bad(f"expected probabilities that sum to 1, got {sum(pmf):.6g}", key)
        return pmf

    def label(self, n_actions: int, *, numbered: bool) -> Label | None:
        """Return the complete label, or None if there is none.

        Args:
            numbered: `_label_Action` counts from 1 and must agree with `_labelIndex`; in VW's plain
                JSON it is ignored where the index is present.
        """
        if not self.has_label:
            return None
        for key in ("cost", "probability"):
            if key not in self:
                raise self.bad("expected a label with its cost and probability, got none", key)
        cost = self.get("cost", float, np.nan)
        if not np.isfinite(cost):
            raise self.bad(f"expected a finite number, got {cost}", "cost")
        probability = self.get("probability", float, np.nan)
        if not 0.0 < probability <= 1.0:
            raise self.bad(f"expected a propensity in (0, 1], got {probability:g}", "probability")
        return Label(self._chosen(n_actions, numbered=numbered), probability, cost)

    @property
    def has_label(self) -> bool:
        """Whether any member of a label is present."""
        return any(key in self for key in _SPELLED)

    def check_place(self, n_actions: int) -> None:
        """Raise ValueError for a slot, a floor or eligible indices out of range.

        These are members of our own export. A `slot` that is not a number belongs to another system
        and is ignored.
        """
        slot = self.get("slot", object, 0)
        if isinstance(slot, int) and not 0 <= slot < MAX_SLOTS:
            raise self.bad(f"expected a place from 0 to {MAX_SLOTS - 1}, got {slot}", "slot")
        eps = self.get("eps", float, 0.0)
        if not 0.0 <= eps <= 1.0:
            raise self.bad(f"expected a floor in [0, 1], got {eps:g}", "eps")
        eligible = self.get("eligible", tuple[int, ...], ())
        if not all(0 <= place < n_actions for place in eligible):
            raise self.bad(f"expected places from 0 to {n_actions - 1}", "eligible")

    def pdrop(self) -> float:
        """Return the share of such lines that were dropped, in [0, 1)."""
        pdrop = self.get("pdrop", float, 0.0)
        if not 0.0 <= pdrop < 1.0:
            raise self.bad(f"expected a probability in [0, 1), got {pdrop:g}", "pdrop")
        return pdrop

    def timestamp(self) -> str:
        """Return the time as logged; empty if missing."""
        text = self.get("Timestamp", str, "")
        try:
            if text:
                parse_timestamp(text)
        except (ValueError, OverflowError):
            raise self.bad(f"expected a time as ISO 8601, got {text!r}", "Timestamp") from None
        return text

    def check_agreement(self, expected: float | None, label: Label | None, pdrop: float) -> None:
        """Raise ValueError if the propensity is neither the pmf's nor that times 1 - pdrop."""
        if label is None or expected is None:
            return
        if not any(is_same(label.probability, e) for e in (expected, expected * (1.0 - pdrop))):
            raise self.bad(
                f"expected {expected:g} as p has it, got {label.probability:g}; was the pmf "
                "changed after the draw?",
                "probability",
            )

    def _chosen(self, n_actions: int, *, numbered: bool) -> int:
        number = self.get("number", int, 0)
        index = self.get("index", int, number - 1)
        if not 0 <= index < n_actions:
            key = "index" if "index" in self else "number"
            raise self.bad(
                f"expected one of {n_actions} candidates, got candidate {index + 1}", key
            )
        if numbered and "number" in self and number != index + 1:
            raise self.bad(f"expected {index + 1}, _labelIndex and 1, got {number}", "number")
        return index

    def _decode(self, raw: msgspec.Raw, kind: type[T], name: str) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise self._place.bad(str(error).lower().replace("`", ""), name) from None


def _shown(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:8])
    return f"[{shown}{', ...' if len(values) > 8 else ''}]"
