"""A line of dsjson, the decision log format of Vowpal Wabbit and Azure Personalizer.

A line holds the context `c` (shared features and, in `_multi`, those of each action), the ranking
`a` with its probabilities `p`, and the outcome: `_labelIndex`, `_label_probability`, `_label_cost`.
Unknown members are kept verbatim, so that a log can be read and written again. Reasons:
`docs/decisions/dsjson.md`.
"""

from datetime import UTC, datetime

import msgspec

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


class Dangling(msgspec.Struct, frozen=True):
    """An outcome on a line of its own that no joiner matched to a decision, kept as raw JSON."""

    line: bytes


DsjsonLine = DsjsonDecision | Dangling


def parse_timestamp(text: str) -> int:
    """Return Unix milliseconds of an ISO 8601 time (UTC if without a zone), or raise ValueError."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000.0)


def is_same(got: float, expected: float) -> bool:
    """Whether two numbers, one of them perhaps in single precision, are the same probability."""
    return abs(got - expected) <= SAME_TOLERANCE * expected
