"""Off-policy estimators of single decisions: pure functions from columns to an Estimate.

The value that all of them estimate is the expected reward of a seen decision, if the target
policy had made it on the logged candidates, after the logged cards of the same page. It compares
rankers, not retrieval, and one step at a time: what another choice would have done to the cards
after it is no part of it.

One row is one decision, w = target / propensity. An estimator more is a function more: what it
needs beyond these columns comes in as a record of its own. The names are the field's: Dudík,
Erhan, Langford and Li, "Doubly Robust Policy Evaluation and Optimization", Statistical Science
2014, which sections below refer to.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.intervals import LEVEL, Estimate, clustered_estimate, effective_sample_size


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What was logged and what the target policy would have done, one row a decision.

    Raises:
        ValueError: no row, columns of different length, or a value out of its range; with the
            first row that is wrong.
    """

    user: Ints  # (n,) at least 0, code of the person
    reward: Floats  # (n,) finite
    propensity: Floats  # (n,) in (0, 1], of the logged action under the logging policy
    target: Floats  # (n,) in [0, 1], of the logged action under the target policy

    def __post_init__(self) -> None:
        _check_lengths(self.user, self.reward, self.propensity, self.target)
        _check(self.user >= 0, "user code", "at least 0", self.user)
        _check(np.isfinite(self.reward), "reward", "finite", self.reward)
        in_range = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _check(in_range, "propensity", "in (0, 1]", self.propensity)
        in_range = (self.target >= 0.0) & (self.target <= 1.0 + 1e-9)
        _check(in_range, "target probability", "in [0, 1]", self.target)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def weights(self) -> Floats:
        """The importance weights target / propensity, shape (n,)."""
        return self.target / self.propensity


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a reward model that was not fitted on a row says about it.

    Raises:
        ValueError: no row, columns of different length, or a value that is not finite.
    """

    chosen: Floats  # (n,) predicted reward of the logged action
    direct: Floats  # (n,) sum over actions of target pmf times predicted reward

    def __post_init__(self) -> None:
        _check_lengths(self.chosen, self.direct)
        _check(np.isfinite(self.chosen), "predicted reward", "finite", self.chosen)
        _check(np.isfinite(self.direct), "predicted value", "finite", self.direct)


def logged(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return the mean reward of the log itself: what the logging policy earned.

    mean(r). Unbiased for the logging policy, whatever the target.
    """
    ones = np.ones(len(columns))
    return _mean("logged", columns.reward, columns, float(ones.sum()), level)


def ips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return inverse propensity scoring.

    mean(w r) (Horvitz and Thompson 1952; Dudík et al. 2014, section 3.2).

    Unbiased if the propensities are exact and positive wherever the target's are. Its variance
    grows with E[w^2 r^2] and depends on where the reward's zero lies: it blows up where the
    target is sure of what the log seldom showed, and is biased low, silently, where the log
    never could show it (then the mean weight is below 1).
    """
    return _mean("ips", columns.weights * columns.reward, columns, _ess(columns), level)


def snips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return self-normalised inverse propensity scoring.

    sum(w r) / sum(w), influence w (r - v) / mean(w) (Hájek 1971; Swaminathan and Joachims, "The
    Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015).

    Consistent, biased of order 1/n, within the range of the rewards, and the same wherever their
    zero lies. With few effective decisions its interval is too narrow, since the large weights
    were not drawn yet; without support it is the value of a target that the log can follow.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    weights = columns.weights
    mean_weight = float(weights.mean())
    if mean_weight <= 0.0:
        raise ValueError(
            "snips needs a logged action that the target could take, got none in "
            f"{len(columns)} decisions; the log cannot evaluate this policy"
        )
    value = float((weights * columns.reward).mean()) / mean_weight
    influence = weights * (columns.reward - value) / mean_weight
    return clustered_estimate("snips", value, influence, columns.user, _ess(columns), level)


def dm(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the direct method: the reward model's own word.

    mean(sum_a target(a) q(a)) (Dudík et al. 2014, section 3.1).

    Unbiased only where the reward model is. Its interval is that of the contexts alone and says
    nothing about the model's error: it covered the truth in 0 to 14 of 100 logs where the others
    covered in 95. Of use beside the others, where there are few effective decisions.
    """
    _check_lengths(columns.reward, predictions.direct)
    return _mean("dm", predictions.direct, columns, float(len(columns)), level)


def dr(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator: the model's word, corrected where the log knows better.

    mean(sum_a target(a) q(a) + w (r - q(chosen))) (Dudík et al. 2014, section 3.3; with models
    that are cross-fitted, Chernozhukov et al., "Double/Debiased Machine Learning", 2018).

    Unbiased if the propensities are exact and positive wherever the target's are, or if the
    model is right. Less noisy than ips where the model explains some of the reward, and like it
    at the mercy of the largest weights. A model fitted on the rows it scores makes the
    interval too narrow.
    """
    _check_lengths(columns.reward, predictions.direct)
    corrections = columns.weights * (columns.reward - predictions.chosen)
    return _mean("dr", predictions.direct + corrections, columns, _ess(columns), level)


def dr_gain(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return by how much the doubly robust estimate exceeds what was logged, paired.

    mean(sum_a target(a) q(a) + w (r - q(chosen)) - r): unbiased where dr is. The difference is
    taken decision by decision, so what a person's decisions have in common (taste, session, day) is
    in both and cancels before influences are summed by person. Of the interval of dr and the mean
    of the log as if it were a constant, the one counts what both share and the other leaves out the
    log's own noise.
    """
    _check_lengths(columns.reward, predictions.direct)
    corrections = columns.weights * (columns.reward - predictions.chosen)
    terms = predictions.direct + corrections - columns.reward
    return _mean("dr - logged", terms, columns, _ess(columns), level)


def _mean(name: str, terms: Floats, columns: Columns, ess: float, level: float) -> Estimate:
    value = float(terms.mean())
    return clustered_estimate(name, value, terms - value, columns.user, ess, level)


def _ess(columns: Columns) -> float:
    return effective_sample_size(columns.weights)


def _check_lengths(*columns: Floats | Ints) -> None:
    shapes = {column.shape for column in columns}
    if len(shapes) != 1 or any(len(s) != 1 or s[0] == 0 for s in shapes):
        raise ValueError(
            f"expected columns of one length of at least 1, got {sorted(map(str, shapes))}"
        )


def _check(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(f"{name} must be {expected}, got {got[row]} in row {row}")
