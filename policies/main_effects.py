"""What each column of person and item is worth by itself: exact ridge beside Vowpal Wabbit.

    r = beta . x + u_item + pairs + noise        beta ~ N(0, diag)     u_item ~ N(0, tau^2)

VW walks to the weights of some 1,600 columns and pairs by gradient, one reward at a time, and finds
the few dozen main effects late; normal equations have them as soon as the rewards tell them. Items'
own effects u are intercepts without end, so they are no columns: `policies.item_effects` eliminates
them (the Schur complement, as `policies.linear_posterior` has it), and what is folded here is the
row that is left of a reward, x and r less what was known of its item. So main effects and items'
effects are one joint posterior at any time. VW then predicts what both leave over, and is believed
as far as it was right (`Worth`).

A prior says what a fact may be worth, not a column: content is a unit vector that spreads over some
16 directions, a match is one number, of 1/4 in the root mean square where it is the cosine of two
of these. So a match's weight has four times the sd of content's, and both facts may do as much to a
reward. With one sd for all, what a match is worth is learned late, and meanwhile content's weights
follow noise.

Solved at each power of two and at every `SOLVE_EVERY`-th row. Products run by `np.einsum`: a BLAS
product rounds as its number of threads has it. Older rows are forgotten by a share each solve, the
prior never. Propensities do not count: where the reward is not linear in the columns, the fit is
best for what is shown.

Rejected: backfitting, where main effects learn from rewards less the item's effect as it stood (an
effect that was measured against early main effects stays wrong, and content is learned from the
items that are shown most), and the rank-one update of the inverse (loses its symmetry over millions
of rows). Of priors: sds from the stream itself, by EM on the evidence (no better than these), and
rewards weighted by 1 / p (1 - p), as a coin's variance has it (it trusts those most that are far
off).
"""

import math

import msgspec
import numpy as np

from env.features import DYNAMIC, N_ACTION, N_STATIC, SHARED
from env.vocabulary import Floats, Ints

PERSON_COLUMNS: Ints = np.array(
    [
        SHARED.index(name)
        for name in (
            "hour_sin",
            "hour_cos",
            "position",
            "evidence",
            "swipe_speed",
            "play_rate",
            "session_play_rate",
        )
    ]
)
"""Of SHARED: they order no candidates, but what a person gives to all is no item's merit."""

N_PERSON = 1 + len(PERSON_COLUMNS)
N_COLUMNS = N_PERSON + N_ACTION
"""The constant, the person's columns, the item's."""

MATCH_COLUMNS: Ints = np.array(
    [
        N_PERSON + N_STATIC + DYNAMIC.index(name)
        for name in (
            "long_match",
            "session_match",
            "scene_match",
            "creator_affinity",
            "creator_recent",
            "followed",
            "tag_affinity",
            "tag_recent",
            "sound_recent",
            "same_country",
            "same_language",
        )
    ]
)
"""Of all: those of person and item together."""

SOLVE_EVERY = 64
CONSTANT_PRECISION = 0.01
"""Of the constant's prior, in rewards: it lies where the rewards are."""

NO_WORTH_ROWS = 1.0
"""The prior of VW's worth, N(0, 1): as much as predictions whose squares sum to sigma^2."""

WORTH_MEMORY = 50_000.0


class Worth(msgspec.Struct, frozen=True, array_like=True):
    """How much of VW's predictions came true: the slope of what was left over on what it said.

    Where pairs of person and item say nothing, VW's predictions are noise, and their worth is 0.

    Attributes:
        product: decayed sum of prediction times what was left over for it.
        square: decayed sum of squared predictions.
    """

    product: float = 0.0
    square: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.product) and 0.0 <= self.square < math.inf):
            raise ValueError(f"expected finite sums, the squares' not below 0, got {self}")

    def moved(self, predicted: float, left: float) -> "Worth":
        """Return it after one more prediction, made before it was learned from."""
        kept = 1.0 - 1.0 / WORTH_MEMORY
        return Worth(
            self.product * kept + predicted * left, self.square * kept + predicted * predicted
        )

    def share(self, noise: float) -> float:
        """Return the part of a prediction to believe, in [0, 1], given the rewards' variance."""
        slope = self.product / (self.square + NO_WORTH_ROWS * noise)
        return min(max(slope, 0.0), 1.0)


class MainEffects:
    """The fold of eliminated rows into weights: deterministic, the same bytes after a restart."""

    def __init__(self, prior_sd: float, memory: float, match_sd: float) -> None:
        """Start with weights of 0.

        Args:
            prior_sd: of a column's weight in sds of the noise, above 0.
            memory: rows that are remembered, at least 1.
            match_sd: the same as `prior_sd`, of `MATCH_COLUMNS`.
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
        """Return what these columns are worth, shape (N_COLUMNS,)."""
        return float(np.einsum("i,i->", columns, self.weights))

    def fold(self, row: Floats) -> None:
        """Learn a row: reward, then columns, less what was known of the item, (1 + N_COLUMNS,)."""
        self._waiting[self._n_waiting] = row
        self._n += 1
        self._n_waiting += 1
        if self._n_waiting == SOLVE_EVERY or self._n & (self._n - 1) == 0:
            self._solve()

    def posterior(self) -> tuple[Floats, Floats]:
        """Return mean and covariance of the weights after every row, those that wait included.

        Returns:
            Shape (N_COLUMNS,), and (N_COLUMNS, N_COLUMNS), the latter over the noise's variance.
        """
        moments = self._summed()
        inverse = np.asarray(np.linalg.inv(self._precision(moments)), dtype=np.float64)
        return np.einsum("ij,j->i", inverse, moments[1:, 0]), inverse

    def to_bytes(self) -> bytes:
        """Return all that `fold` has moved; equal folds give equal bytes."""
        parts = (self._moments, self._waiting[: self._n_waiting], self.weights)
        return msgspec.msgpack.encode((self._n, *(part.astype("<f8").tobytes() for part in parts)))

    def restore(self, data: bytes) -> None:
        """Become what `to_bytes` was called on, under the same arguments.

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
    """Return the weights that these bytes hold, shape (N_COLUMNS,).

    Raises:
        ValueError: not as many as columns, or one is not finite.
    """
    return _read(data, (N_COLUMNS,))


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
