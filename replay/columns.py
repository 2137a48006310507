"""Columns: what an estimator of single decisions reads, one row a decision.

Everything in replay that ends in a number passes through these two records, whatever the log was:
ours, Vowpal Wabbit's, or the Open Bandit Pipeline's fields. Values are checked here, once.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.intervals import effective_sample_size


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What was logged and what the target policy would have done, one row a decision.

    A log that was thinned before it was kept says of each row how many it stands for,
    1 / (1 - pdrop); every mean over rows is then weighted by it, and estimates stay those of the
    whole log. The rate must not depend on the reward in any other way than the weight says.

    Raises:
        ValueError: no row, columns of different length, or a value out of its range; with the
            first row that is wrong.
    """

    user: Ints  # (n,) at least 0, code of the person
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
        """How many decisions each row stands for, shape (n,)."""
        return np.ones(len(self)) if self.row_weight is None else self.row_weight

    @property
    def ess(self) -> float:
        """The effective sample size of importance and row weights together, in decisions."""
        return effective_sample_size(self.per_row(self.weights))

    def per_row(self, terms: Floats) -> Floats:
        """Return the terms, each as often as its row counts, shape (n,)."""
        return terms if self.row_weight is None else terms * self.row_weight


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a reward model that was not fitted on a row says about it.

    Raises:
        ValueError: no row, columns of different length, or a value that is not finite.
    """

    chosen: Floats  # (n,) predicted reward of the logged action
    direct: Floats  # (n,) sum over actions of target pmf times predicted reward

    def __post_init__(self) -> None:
        check_lengths(self.chosen, self.direct)
        _check(np.isfinite(self.chosen), "predicted reward", "finite", self.chosen)
        _check(np.isfinite(self.direct), "predicted value", "finite", self.direct)

    def corrected(self, columns: Columns, weights: Floats) -> Floats:
        """Return each row's predicted value plus its correction of this weight, shape (n,).

        Args:
            columns: of the same n rows.
            weights: shape (n,).

        Raises:
            ValueError: columns and predictions are of different length.
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
