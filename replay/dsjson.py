"""A line of dsjson, the decision log of Vowpal Wabbit and Azure Personalizer.

A line holds the context `c` (shared features and, in `_multi`, those of each action), the ranking
`a` with its probabilities `p`, and what came of its choice: `_labelIndex`, `_label_probability`,
`_label_cost`. What is not understood is kept as it stood, so that a log that was read can be
written again: `replay.dsjson_reader` and `replay.dsjson_writer`.

Rejected: features as numbers (a line's are names and texts of any depth, which VW hashes; nothing
here needs them), and outcomes on lines of their own joined with their decisions (a joined log has
them in the cost already).
"""

from datetime import UTC, datetime

import msgspec

SAME_TOLERANCE = 1e-3
"""Relative; by how much the logged propensity may miss the logged pmf."""


class Label(msgspec.Struct, frozen=True):
    """What was chosen and what came of it.

    Attributes:
        action: place among the candidates, from 0.
        probability: of the choice as it stands in the line, in (0, 1].
        cost: finite; the negative of a reward.
    """

    action: int
    probability: float
    cost: float


class DsjsonDecision(msgspec.Struct, frozen=True):
    """A decision as a line holds it.

    Attributes:
        decision_id: `EventId`; empty without one.
        timestamp: as it stands; empty without one.
        ranking: all candidates, from 0, in the order of `a`.
        pmf: probability of each, in the order of `ranking`; empty where it is not logged.
        label: None where no outcome was joined.
        pdrop: in [0, 1), with which such lines were dropped from the log.
        skip_learn: the choice was never shown (a deferred action that was not activated).
        context: `c` as it stands, JSON.
        rest: every other member as it stands, JSON by name.
    """

    decision_id: str
    timestamp: str
    ranking: tuple[int, ...]
    pmf: tuple[float, ...]
    label: Label | None
    pdrop: float
    skip_learn: bool
    context: bytes
    rest: dict[str, bytes]

    @property
    def n_actions(self) -> int:
        """How many candidates there were."""
        return len(self.ranking)

    @property
    def row_weight(self) -> float:
        """For how many decisions this one stands: 1 / (1 - pdrop)."""
        return 1.0 / (1.0 - self.pdrop)

    @property
    def at_ms(self) -> int:
        """Unix milliseconds; 0 where it is not logged."""
        return parse_timestamp(self.timestamp) if self.timestamp else 0

    @property
    def propensity(self) -> float:
        """The probability of the choice in (0, 1], under the policy alone.

        Some joiners write it times 1 - pdrop; where the pmf is there, it says which.

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
    """An outcome on a line of its own, whose decision no joiner found; JSON as it stands."""

    line: bytes


DsjsonLine = DsjsonDecision | Dangling


def parse_timestamp(text: str) -> int:
    """Return Unix milliseconds of a time as ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000.0)


def is_same(got: float, expected: float) -> bool:
    """Whether two numbers, one of them perhaps in single precision, are the same probability."""
    return abs(got - expected) <= SAME_TOLERANCE * expected
