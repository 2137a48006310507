"""This module prepares a batch of interactions for learning one after another.

Learning is a sequential fold, but decoding, checking and sorting out zeros is vectorised over a
batch. The result does not depend on how a stream is cut into batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from vowpal_wabbit_next import CBLabel, Example

from env.features import N_ACTION, N_SHARED
from env.records import unpack_halves
from env.vocabulary import Float32s, Floats, Interaction, Ints
from policies.main_effects import N_COLUMNS, N_PERSON, PERSON_COLUMNS
from policies.vowpal_kernel import OWN_REWARDS, Layout

_WEIGHT_COLUMNS = 4
"""VW keeps this many numbers for each weight, the weight itself first."""

Indices = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sparse:
    """The nonzero features of one example, preceded by the constant."""

    rows: Ints  # rows of `Watch`'s grid, 0 is the constant
    indices: Indices  # VW's, without the constant
    values: Float32s  # the constant's, 1, comes first


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of learning for accepted interactions, in their order."""

    slots: list[int]  # of the interactions' items
    columns: Floats  # (n, N_COLUMNS) explanatory columns of the main effects
    shared: list[Sparse]  # shared features of each, as VW sees them
    action: list[Sparse]  # action features of each, as VW sees them
    dense: Float32s  # (n, 1 + N_ACTION) a constant and the action features, zeros included

    @classmethod
    def of(cls, interactions: Sequence[Interaction], layout: Layout) -> "Batch":
        """Decode interactions that were accepted."""
        n = len(interactions)
        shared = unpack_halves(b"".join(i.shared for i in interactions)).reshape(n, N_SHARED)
        action = unpack_halves(b"".join(i.action for i in interactions)).reshape(n, N_ACTION)
        action[:, OWN_REWARDS] = 0.0
        columns = np.ones((n, N_COLUMNS))
        columns[:, 1:N_PERSON] = shared[:, PERSON_COLUMNS]
        columns[:, N_PERSON:] = action
        keys = np.array([i.item_key for i in interactions], dtype=np.uint64)
        return cls(
            layout.items(keys).tolist(),
            columns,
            _sparse(shared, layout.shared),
            _sparse(action, layout.action),
            np.concatenate([np.ones((n, 1), dtype=np.float32), action], axis=1),
        )


def _sparse(values: Float32s, indices: Ints) -> list[Sparse]:
    """Return each row without its zeros, which VW's norms would count as features."""
    rows, columns = np.nonzero(values)
    places = indices.astype(np.uint64)[columns]
    ends = np.cumsum(np.bincount(rows, minlength=len(values))).tolist()
    begins = [0, *ends[:-1]]
    after = np.arange(len(rows)) + rows + 1  # each row's constant comes first
    with_constant = np.zeros(len(rows) + len(values), dtype=np.int64)
    with_constant[after] = columns + 1
    numbers = np.ones(len(with_constant), dtype=np.float32)
    numbers[after] = values[rows, columns]
    return [
        Sparse(with_constant[a + k : b + k + 1], places[a:b], numbers[a + k : b + k + 1])
        for k, (a, b) in enumerate(zip(begins, ends, strict=True))
    ]


class Pair:
    """The two examples of an interaction, refilled each time, since making one costs as much."""

    def __init__(self) -> None:
        self._shared, self._action = Example(), Example()
        self._shared.set_label(CBLabel(shared=True))
        self._groups = self._shared["U"], self._action["A"]

    def fill(self, shared: Sparse, action: Sparse, label: CBLabel) -> list[Example]:
        """Return the shared example and that of the chosen action."""
        for group, sparse in zip(self._groups, (shared, action), strict=True):
            group.truncate_to(0)
            # The stub names scalar types where it means dtypes.
            group.push_many_features(sparse.indices, sparse.values[1:])  # type: ignore[arg-type]
        self._action.set_label(label)
        return [self._shared, self._action]


class Watch:
    """Predicts an interaction's cost from VW's live weights, to check its bounds while it learns.

    It is the sum in `Kernel` over the nonzero features, in single precision: for a bound, not for a
    score.
    """

    def __init__(self, layout: Layout, weights: Float32s) -> None:
        """Use a workspace's live weights, shape (2^bits, 1, 4)."""
        grid = np.empty((1 + N_SHARED, 1 + N_ACTION), dtype=np.int64)
        grid[0, 0], grid[0, 1:], grid[1:, 0] = layout.constant, layout.action, layout.shared
        grid[1:, 1:] = layout.pairs
        self._grid = grid * _WEIGHT_COLUMNS
        self._weights: Float32s = weights.reshape(-1)

    def predict(self, shared: Sparse, action: Float32s) -> float:
        """Return the predicted cost of an action, one row of `Batch.dense`."""
        weights = self._weights.take(self._grid.take(shared.rows, axis=0))
        return float(weights.dot(action).dot(shared.values))
