"""The main-effects learner: an exact ridge regression on the columns of user and item.

It runs beside Vowpal Wabbit, which learns the pairs of columns by gradient steps. With
`ItemEffects` it forms one joint posterior at any time. Derivation, priors and rejected
alternatives: `docs/decisions/main-effects.md`.
"""

import math

import msgspec
import numpy as np

from env.columns.schema import (
    ACTION_COLUMNS,
    ACTION_WIDTHS,
    N_ACTION,
    SHARED_COLUMNS,
    action_index,
    index_of,
)
from env.vocabulary import Floats, Ints

MAIN_USER_COLUMNS: Ints = np.array(
    [index_of(column) for column in SHARED_COLUMNS if column.prior == "main"]
)
"""Indices into SHARED of the user's columns. They do not order candidates, but explain rewards that
are no item's merit."""

N_USER_COLUMNS = 1 + len(MAIN_USER_COLUMNS)
N_COLUMNS = N_USER_COLUMNS + N_ACTION
"""The constant, the user's columns, the item's columns."""

MATCH_COLUMNS: Ints = np.array(
    [N_USER_COLUMNS + action_index(column) for column in ACTION_COLUMNS if column.prior == "match"]
)
"""Indices of the columns that describe user and item together."""

SOLVE_EVERY = 64
CONSTANT_PRECISION = 0.01
"""Precision of the constant's prior, in rewards."""

NO_WORTH_ROWS = 1.0
"""The prior of VW's slope is N(0, 1): it weighs as much as predictions whose squares sum to
sigma^2."""

WORTH_MEMORY = 50_000.0


class ResidualShrinkage(msgspec.Struct, frozen=True, array_like=True):
    """Shrinkage of VW's predictions: the slope of the observed residuals on the predicted ones.

    Where the pairs of user and item explain nothing, VW's predictions are noise and the slope is 0.
    """

    product: float = 0.0  # decayed sum of prediction times observed residual
    square: float = 0.0  # decayed sum of squared predictions

    def __post_init__(self) -> None:
        if not (math.isfinite(self.product) and 0.0 <= self.square < math.inf):
            raise ValueError(f"expected finite sums, the squares' not below 0, got {self}")

    def moved(self, predicted: float, left: float) -> "ResidualShrinkage":
        """Return it after one more prediction, made before it was learned from."""
        kept = 1.0 - 1.0 / WORTH_MEMORY
        return ResidualShrinkage(
            self.product * kept + predicted * left, self.square * kept + predicted * predicted
        )

    def corrected(self, predicted: float, difference: float) -> "ResidualShrinkage":
        """Return it after the residual of an earlier prediction has changed by a difference."""
        return ResidualShrinkage(self.product + predicted * difference, self.square)

    def share(self, noise: float) -> float:
        """Return the share of a prediction to use, in [0, 1], given the rewards' noise variance."""
        slope = self.product / (self.square + NO_WORTH_ROWS * noise)
        return min(max(slope, 0.0), 1.0)


class MainEffects:
    """The fold of rows into weights: deterministic, the same bytes after a restart."""

    def __init__(self, prior_sd: float, memory: float, match_sd: float) -> None:
        """Start with weights of 0.

        Args:
            prior_sd: of a column's weight, in sds of the noise, above 0.
            memory: rows that are remembered, at least 1.
            match_sd: like `prior_sd`, for `MATCH_COLUMNS`.
        """
        self._prior: Floats = np.full(N_COLUMNS, prior_sd**-2)
        self._prior[MATCH_COLUMNS] = match_sd**-2
        self._prior[0] = CONSTANT_PRECISION
        self._memory = memory
        self._moments: Floats = np.zeros((N_COLUMNS + 1, N_COLUMNS + 1))
        self._waiting: Floats = np.zeros((SOLVE_EVERY, N_COLUMNS + 1))
        self._n = self._n_waiting = 0
        self.weights: Floats = np.zeros(N_COLUMNS)

    def expect(self, columns: Floats) -> float:
        """Return the main effect of these columns, shape (N_COLUMNS,)."""
        return float(np.einsum("i,i->", columns, self.weights))

    def fold(self, row: Floats) -> None:
        """Add a row from `ItemEffects.fold`: reward, then columns, shape (1 + N_COLUMNS,)."""
        self._waiting[self._n_waiting] = row
        self._n += 1
        self._n_waiting += 1
        if self._n_waiting == SOLVE_EVERY or self._n & (self._n - 1) == 0:
            self._solve()

    def correct(self, cross: Floats) -> None:
        """Change the moments of the reward with all columns; no row is added or decays.

        Args:
            cross: from `ItemEffects.correct`, shape (1 + N_COLUMNS,).
        """
        self._moments[0] += cross
        self._moments[:, 0] += cross

    def posterior(self) -> tuple[Floats, Floats]:
        """Return the weights' posterior mean and covariance after all rows, buffered ones too.

        Returns:
            Shape (N_COLUMNS,), and (N_COLUMNS, N_COLUMNS) over the noise's variance.
        """
        moments = self._summed()
        inverse = np.asarray(np.linalg.inv(self._precision(moments)), dtype=np.float64)
        return np.einsum("ij,j->i", inverse, moments[1:, 0]), inverse

    def to_bytes(self) -> bytes:
        """Return the learned state; equal folds give equal bytes."""
        parts = (self._moments, self._waiting[: self._n_waiting], self.weights)
        return msgspec.msgpack.encode((self._n, *(part.astype("<f8").tobytes() for part in parts)))

    def restore(self, data: bytes) -> None:
        """Load the state that `to_bytes` returned, under the same arguments.

        Raises:
            ValueError: a part has the wrong length, or a number is not finite.
            msgspec.DecodeError: these are no bytes of MainEffects.
        """
        n, moments, waiting, weights = msgspec.msgpack.decode(
            data, type=tuple[int, bytes, bytes, bytes]
        )
        square = _read(moments, (N_COLUMNS + 1, N_COLUMNS + 1))
        rows = _read(waiting, (len(waiting) // (8 * (N_COLUMNS + 1)), N_COLUMNS + 1))
        if len(rows) >= SOLVE_EVERY:
            raise ValueError(f"expected less than {SOLVE_EVERY} rows that wait, got {len(rows)}")
        self.weights = _read(weights, (N_COLUMNS,))
        self._moments, self._n, self._n_waiting = square, n, len(rows)
        self._waiting[: len(rows)] = rows

    def _summed(self) -> Floats:
        rows, kept = self._waiting[: self._n_waiting], 1.0 - 1.0 / self._memory
        summed: Floats = self._moments * math.pow(kept, self._n_waiting)
        summed += np.einsum("ni,nj->ij", rows, rows)
        return summed

    def _precision(self, moments: Floats) -> Floats:
        precision: Floats = moments[1:, 1:] + np.diag(self._prior)
        return precision

    def _solve(self) -> None:
        self._moments = self._summed()
        self._n_waiting = 0
        solved = np.linalg.solve(self._precision(self._moments), self._moments[1:, 0])
        self.weights = np.asarray(solved, dtype=np.float64)


def weights_from(data: bytes) -> Floats:
    """Return the weights in these bytes, shape (N_COLUMNS,), or fewer of an earlier schema.

    Raises:
        ValueError: their number is that of no schema, or one is not finite.
    """
    widths = (N_USER_COLUMNS + width for width in ACTION_WIDTHS)
    n_columns = next((width for width in widths if 8 * width == len(data)), N_COLUMNS)
    return _read(data, (n_columns,))


def _read(data: bytes, shape: tuple[int, ...]) -> Floats:
    if len(data) != 8 * math.prod(shape):
        raise ValueError(
            f"expected {8 * math.prod(shape)} bytes of main effects, got {len(data)}; were they "
            "learned on other columns?"
        )
    values = np.frombuffer(data, dtype="<f8").reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("expected finite main effects; was the part verified?")
    return values
