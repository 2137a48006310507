"""The input columns of every estimator of single decisions, one row per decision.

All logs (ours, Vowpal Wabbit's, and the Open Bandit Pipeline's fields) reach the estimators through
these two records, which check their values once.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.estimators.intervals import effective_sample_size


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The log's and the target policy's side of each decision.

    A thinned log states how many decisions each row stands for, 1 / (1 - pdrop). Every mean is
    weighted by it, so estimates remain those of the whole log. The drop rate must not depend on the
    reward except through this weight.

    Raises:
        ValueError: no row, columns of different lengths, or a value out of range; names the first
            invalid row.
    """

    user: Ints  # (n,) at least 0, code of the user
    reward: Floats  # (n,) finite
    propensity: Floats  # (n,) in (0, 1], of the logged action under the logging policy
    target: Floats  # (n,) in [0, 1], of the logged action under the target policy
    row_weight: Floats | None = None  # (n,) above 0, decisions that the row stands for; None: 1

    def __post_init__(self) -> None:
        check_lengths(self.user, self.reward, self.propensity, self.target)
        _check(self.user >= 0, "user code", "at least 0", self.user)
        _check(np.isfinite(self.reward), "reward", "finite", self.reward)
        in_range = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _check(in_range, "propensity", "in (0, 1]", self.propensity)
        in_range = (self.target >= 0.0) & (self.target <= 1.0 + 1e-9)
        _check(in_range, "target probability", "in [0, 1]", self.target)
        if self.row_weight is not None:
            check_lengths(self.user, self.row_weight)
            positive = (self.row_weight > 0.0) & np.isfinite(self.row_weight)
            _check(positive, "row weight", "above 0 and finite", self.row_weight)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def weights(self) -> Floats:
        """The importance weights target / propensity, shape (n,)."""
        return self.target / self.propensity

    @property
    def row_weights(self) -> Floats:
        """The number of decisions that each row stands for, shape (n,)."""
        return np.ones(len(self)) if self.row_weight is None else self.row_weight

    @property
    def ess(self) -> float:
        """The effective sample size of the importance and row weights together, in decisions."""
        return effective_sample_size(self.per_row(self.weights))

    def per_row(self, terms: Floats) -> Floats:
        """Return the terms multiplied by the row weights, shape (n,)."""
        return terms if self.row_weight is None else terms * self.row_weight


@dataclass(frozen=True, slots=True, eq=False)
class RewardPredictions:
    """Rewards predicted by a model that was not fitted on the rows it scores.

    Raises:
        ValueError: no row, columns of different lengths, or a value that is not finite.
    """

    chosen: Floats  # (n,) predicted reward of the logged action
    direct: Floats  # (n,) sum over actions of target pmf times predicted reward

    def __post_init__(self) -> None:
        check_lengths(self.chosen, self.direct)
        _check(np.isfinite(self.chosen), "predicted reward", "finite", self.chosen)
        _check(np.isfinite(self.direct), "predicted value", "finite", self.direct)

    def corrected(self, columns: Columns, weights: Floats) -> Floats:
        """Return each row's predicted value plus its weighted residual, shape (n,).

        Args:
            weights: shape (n,).

        Raises:
            ValueError: columns and predictions differ in length.
        """
        check_lengths(columns.reward, self.direct)
        return self.direct + weights * (columns.reward - self.chosen)


def check_lengths(*columns: Floats | Ints) -> None:
    """Raise ValueError unless the columns are of one length of at least 1."""
    shapes = {column.shape for column in columns}
    if len(shapes) != 1 or any(len(s) != 1 or s[0] == 0 for s in shapes):
        raise ValueError(
            f"expected columns of one length of at least 1, got {sorted(map(str, shapes))}"
        )


def _check(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(f"{name} must be {expected}, got {got[row]} in row {row}")
