"""Logs as batches of decisions, whatever their format.

A `Source` can be read repeatedly, batch by batch, so an evaluation holds one batch and a few
columns. Batches of our own log carry its pages, with logged rules, floor and prefix; those of an
external log carry arrays, which become one-slot pages for our policies. Rejected alternatives:
`docs/decisions/evaluation-data.md`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from env.vocabulary import Bools, Floats, Ints, Page

BATCH_ROWS = 4_096
"""Least decisions of a batch, except the last: 3 MB for each matrix over 100 candidates."""

MAX_SLOTS = 1_000
"""Most slots of an external log's pages, which bounds tables by slot."""

MAX_ACTIONS = 100_000
"""Most candidates of an external log's decision, which bounds a batch's matrices."""

Strings = npt.NDArray[np.str_]


class Coverage(Protocol):
    """Counts of the decisions that were read."""

    @property
    def drawn(self) -> int:
        """Decisions that the log's pages drew."""
        ...

    @property
    def seen(self) -> int:
        """Decisions known to have been seen."""
        ...

    @property
    def censored(self) -> int:
        """Seen decisions whose end was never reported; they are in no batch."""
        ...

    @property
    def unnamed(self) -> int:
        """Decisions without a user; each counts as a user of its own."""
        ...

    @property
    def dangling(self) -> int:
        """Outcomes whose decision is not in the log; they are in no batch."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Draws used to test the logged propensities.

    They include draws that became no rows: whether a card's end is known can depend on the card, so
    the rows alone are a biased sample.
    """

    propensity: Floats  # (m,) in (0, 1]
    action: Ints  # (m,) in [0, k)
    eligible: Bools  # (m, k) candidates of the floor, which surely had a real chance
    pmf: Floats | None  # (m, k) logged distribution; rows of NaN if unknown


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """m decisions in the order of the log, each with up to k candidates.

    Raises:
        ValueError: a column or matrix has the wrong shape, or a value is out of range; names the
            row of the batch.
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
    policy: Strings | None = None  # (m,) logging policy, name@version; None: unknown
    segments: Mapping[str, Strings] = field(default_factory=dict)  # of each decision, by name
    pmf: Floats | None = None  # (m, k) logged distribution; rows of NaN if unknown
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
        """The number of candidates available to each decision, shape (m,), at least 1."""
        counts: Ints = self.mask.sum(axis=1, dtype=np.int64)
        return counts

    @property
    def draws(self) -> "Draws":
        """All draws behind the batch, which test the logged propensities."""
        return self.drawn or Draws(self.propensity, self.action, self.mask, self.pmf)

    def of_chosen(self, matrix: Floats) -> Floats:
        """Return the logged actions' values of a matrix over candidates, shape (m,)."""
        return matrix[np.arange(len(self)), self.action]


class Source(Protocol):
    """A log that can be read repeatedly."""

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions, the same at each call; raise ValueError where the log is invalid."""
        ...

    @property
    def coverage(self) -> Coverage:
        """Counts of the log's decisions; known once `batches` has been exhausted."""
        ...

    @property
    def reward_version(self) -> int:
        """Version of the reward used in the join; 0 if the log brings its own rewards."""
        ...

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """Lowest and highest possible reward of a decision; None if unknown."""
        ...


class Watched:
    """A source that reports how many decisions were read, at each reading."""

    def __init__(self, source: Source, advance: Callable[[int], None]) -> None:
        self._source, self._advance = source, advance

    def batches(self) -> Iterator[Batch]:
        """Yield the source's batches, reporting each once it is processed."""
        for batch in self._source.batches():
            yield batch
            self._advance(len(batch))

    @property
    def coverage(self) -> Coverage:
        """The source's coverage."""
        return self._source.coverage

    @property
    def reward_version(self) -> int:
        """The source's reward version."""
        return self._source.reward_version

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """The source's reward range."""
        return self._source.reward_range


def _check_shape(name: str, got: npt.NDArray[np.generic] | None, expected: tuple[int, ...]) -> None:
    if got is not None and got.shape != expected:
        raise ValueError(f"{name}: expected a shape of {expected}, got {got.shape}")


def _check(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(f"{name} must be {expected}, got {got[row]} in row {row} of a batch")
