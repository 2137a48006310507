"""Logs as batches of decisions.

A `Source` is a log that can be read any number of times, batch by batch, so that an evaluation
holds one batch and a few columns however long the log is. A batch is columns over decisions and,
over their candidates, matrices padded to the longest list. Our own log's batches carry its pages,
on which logged rules, floor and prefix apply; an external log's carry arrays (context, candidates,
pmf) and become pages of one slot where a policy of ours is asked about them.

Rejected: one Page a decision for every log (1,000,000 objects where two matrices say the same), and
a class of estimators for each format (the format ends here).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from env.vocabulary import (
    Bools,
    Floats,
    Ints,
    Page,
)

BATCH_ROWS = 4_096
"""Decisions a batch has at least, but the last: 3 MB for each matrix over 100 candidates."""

MAX_SLOTS = 1_000
"""Places that an external log's pages may have: what is kept by place has a bound."""

MAX_ACTIONS = 100_000
"""Candidates that a decision of an external log may have: a batch's matrices are as wide."""

Strings = npt.NDArray[np.str_]


class Coverage(Protocol):
    """What became of the decisions that were read."""

    @property
    def drawn(self) -> int:
        """Decisions that the log's pages drew."""
        ...

    @property
    def seen(self) -> int:
        """Those of which it is known that a user saw them."""
        ...

    @property
    def censored(self) -> int:
        """Those of the seen whose end was never reported; they are in no batch."""
        ...

    @property
    def unnamed(self) -> int:
        """Those of whom no user is named: each counts as a user of its own."""
        ...

    @property
    def dangling(self) -> int:
        """Outcomes whose decision is not in the log; they are in no batch."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Draws by which the logged propensities are judged.

    Not only those that became rows: whether the end of a card is known can depend on the card, so
    that what is known is no fair sample of what was drawn.
    """

    propensity: Floats  # (m,) in (0, 1]
    action: Ints  # (m,) in [0, k)
    eligible: Bools  # (m, k) that surely had a chance worth the name: those of the floor
    pmf: Floats | None  # (m, k) that the log drew from; rows of NaN where not known


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """m decisions in the order of the log, and what each could have been: k candidates at most.

    Raises:
        ValueError: a column of another length than m, or a matrix of another shape than (m, k); a
            value out of its range, with the row of the batch that shows it.
    """

    user: Ints  # (m,) at least 0, the same code for the same user in all batches
    reward: Floats  # (m,) finite
    propensity: Floats  # (m,) in (0, 1], of the logged action
    action: Ints  # (m,) in [0, k), on the mask
    slot: Ints  # (m,) at least 0
    at_ms: Ints  # (m,) Unix milliseconds; all 0 where a log has no times
    mask: Bools  # (m, k) candidates that the decision could take: its slot's, less its prefix
    row_weight: Floats | None = None  # (m,) above 0, 1 / (1 - pdrop) of a sampled log; None: ones
    arm: Strings | None = None  # (m,) of the experiment; "" outside of it; None: no experiment
    policy: Strings | None = None  # (m,) that made the log, name@version; None: not known
    segments: Mapping[str, Strings] = field(default_factory=dict)  # of each decision, by name
    pmf: Floats | None = None  # (m, k) that the log drew from; rows of NaN where not known
    context: Floats | None = None  # (m, d)
    action_context: Floats | None = None  # (m, k, e), or (k, e) where all decisions share it
    eps: Floats | None = None  # (m,) in [0, 1], an external log's floor; None: it has none
    eligible: Bools | None = None  # (m, k) over which that floor lies; None: over the mask
    pages: Sequence[tuple[Page, Ints]] = ()  # with rows, slots ascending; () in an external log
    drawn: "Draws | None" = None  # of the pages, seen or not; None: the batch's own decisions

    def __post_init__(self) -> None:
        m, k = self.mask.shape
        for name in ("user", "reward", "propensity", "action", "slot", "at_ms"):
            _check_shape(name, getattr(self, name), (m,))
        for name in ("row_weight", "arm", "policy", "eps"):
            _check_shape(name, getattr(self, name), (m,))
        for name in ("pmf", "eligible"):
            _check_shape(name, getattr(self, name), (m, k))
        for name, values in self.segments.items():
            _check_shape(f"segment {name}", values, (m,))
        in_range = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _check(in_range, "propensity", "in (0, 1]", self.propensity)
        _check(np.isfinite(self.reward), "reward", "finite", self.reward)
        known = (self.action >= 0) & (self.action < k)
        _check(known, "action", f"one of {k} candidates", self.action)
        chosen = self.mask[np.arange(m), self.action]
        _check(chosen, "action", "on the mask of its candidates", self.action)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def n_actions(self) -> Ints:
        """How many candidates each decision could take, shape (m,), at least 1."""
        counts: Ints = self.mask.sum(axis=1, dtype=np.int64)
        return counts

    @property
    def draws(self) -> "Draws":
        """All draws that the log made on the way, by which its propensities are judged."""
        return self.drawn or Draws(self.propensity, self.action, self.mask, self.pmf)

    def of_chosen(self, matrix: Floats) -> Floats:
        """Return the logged actions' values of a matrix over candidates, shape (m,)."""
        return matrix[np.arange(len(self)), self.action]


class Source(Protocol):
    """A log that can be read again and again."""

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions, the same at each call.

        Raises:
            ValueError: the log cannot be trusted; says where and why.
        """
        ...

    @property
    def coverage(self) -> Coverage:
        """What became of the log's decisions; known when `batches` has been exhausted once."""
        ...

    @property
    def reward_version(self) -> int:
        """Of the reward that was joined with; 0 where the log brings its own."""
        ...

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """The lowest and the highest reward that a decision can bring; None: not known."""
        ...


class Watched:
    """A source that tells how many decisions of it were read, each time it is read."""

    def __init__(self, source: Source, advance: Callable[[int], None]) -> None:
        """Watch a source."""
        self._source, self._advance = source, advance

    def batches(self) -> Iterator[Batch]:
        """Yield the source's batches, telling of each when it is done with."""
        for batch in self._source.batches():
            yield batch
            self._advance(len(batch))

    @property
    def coverage(self) -> Coverage:
        """The source's."""
        return self._source.coverage

    @property
    def reward_version(self) -> int:
        """The source's."""
        return self._source.reward_version

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """The source's."""
        return self._source.reward_range


def _check_shape(name: str, got: npt.NDArray[np.generic] | None, expected: tuple[int, ...]) -> None:
    if got is not None and got.shape != expected:
        raise ValueError(f"{name}: expected a shape of {expected}, got {got.shape}")


def _check(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(f"{name} must be {expected}, got {got[row]} in row {row} of a batch")
