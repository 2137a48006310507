"""Off-policy estimators of single decisions, as pure functions from columns to an Estimate.

They estimate the expected reward of a seen decision if the target policy had made it on the logged
candidates, after the page's logged cards. Notation: w = target / propensity, c is the row weight,
mean(x) = sum(c x) / sum(c). Names and sections follow Dudík, Erhan, Langford and Li, "Doubly Robust
Policy Evaluation and Optimization", Statistical Science 2014. Limits:
`docs/decisions/estimators.md`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from replay.estimators.columns import Columns, RewardPredictions, check_lengths
from replay.estimators.intervals import LEVEL, Estimate, effective_sample_size
from replay.estimators.ratios import (
    SumRatio,
    mean_ratio,
    need_agreement,
    ratio_estimate,
    weighted_ratio,
)
from replay.estimators.tuning import tuned_dros, tuned_switch_dr


def logged(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return the mean reward of the log itself, which the logging policy earned.

    mean(r). Unbiased for the logging policy, whatever the target.
    """
    ess = effective_sample_size(columns.row_weights)
    ratio = mean_ratio(columns, columns.reward)
    return ratio_estimate("logged", (ratio,), columns.user, ess, level)


def replay(columns: Columns, level: float = LEVEL, *, seed: int = 0) -> Estimate:
    """Return the mean reward of a rejection sample that the target could have drawn itself.

    sum(a c r) / sum(a c), where a row is accepted (a = 1) with probability w / max(w) (Li, Chu,
    Langford and Wang, "Unbiased Offline Evaluation of Contextual-bandit-based News Article
    Recommendation Algorithms", WSDM 2011; by rejection in general: Dudík et al. 2014, section 5).

    The accepted rows are a log of the target's own, so any statistic of them is valid. Only n
    mean(w) / max(w) rows remain; for the mean, snips is the average over the draws. The maximum is
    the log's own, so a growing log needs it in advance.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    weights = columns.weights
    need_agreement("replay", weights)
    draws = np.random.default_rng(seed).random(len(weights))
    accepted = columns.per_row((draws * weights.max() < weights).astype(np.float64))
    ratio = SumRatio(accepted * columns.reward, accepted)
    return ratio_estimate("replay", (ratio,), columns.user, effective_sample_size(accepted), level)


def ips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return inverse propensity scoring.

    mean(w r) (Horvitz and Thompson 1952; Dudík et al. 2014, section 3.2).

    Unbiased if the propensities are exact and positive wherever the target's are. The variance
    grows with E[w^2 r^2] and depends on the zero of the reward. It blows up where the target is
    sure of a choice that the log seldom made, and is silently biased low where the log never could
    make it (then the mean weight is below 1).
    """
    ratio = mean_ratio(columns, columns.weights * columns.reward)
    return ratio_estimate("ips", (ratio,), columns.user, columns.ess, level)


def snips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return self-normalised inverse propensity scoring.

    sum(c w r) / sum(c w), influence w (r - v) / mean(w) (Hájek 1971; Swaminathan and Joachims, "The
    Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015).

    Consistent, biased of order 1/n, within the range of the rewards, and independent of their zero.
    With few effective decisions the interval is too narrow, since the large weights were not drawn
    yet. Without support it estimates a target restricted to the log's choices.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    ratio = weighted_ratio("snips", columns, columns.reward)
    return ratio_estimate("snips", (ratio,), columns.user, columns.ess, level)


def dm(columns: Columns, predictions: RewardPredictions, level: float = LEVEL) -> Estimate:
    """Return the direct method: the reward model's prediction alone.

    mean(sum_a target(a) q(a)) (Dudík et al. 2014, section 3.1).

    Unbiased only where the reward model is. Its interval reflects the contexts alone and ignores
    the model's error: it covered the truth in 0 to 14 of 100 logs where the others covered in 95.
    Useful beside the others if there are few effective decisions.
    """
    check_lengths(columns.reward, predictions.direct)
    ess = effective_sample_size(columns.row_weights)
    ratio = mean_ratio(columns, predictions.direct)
    return ratio_estimate("dm", (ratio,), columns.user, ess, level)


def dr(columns: Columns, predictions: RewardPredictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator: the model's prediction, corrected by weighted residuals.

    mean(sum_a target(a) q(a) + w (r - q(chosen))) (Dudík et al. 2014, section 3.3; with
    cross-fitted models, Chernozhukov et al., "Double/Debiased Machine Learning", 2018).

    Unbiased if the propensities are exact and positive wherever the target's are, or if the model
    is right. Less noisy than ips where the model explains some of the reward, but equally sensitive
    to the largest weights. A model fitted on the rows it scores makes the interval too narrow.
    """
    ratio = mean_ratio(columns, predictions.corrected(columns, columns.weights))
    return ratio_estimate("dr", (ratio,), columns.user, columns.ess, level)


def sndr(columns: Columns, predictions: RewardPredictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator with self-normalised corrections.

    mean(sum_a target(a) q(a)) + sum(c w (r - q(chosen))) / sum(c w) (Thomas and Brunskill,
    "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning", ICML 2016, for one
    step).

    Consistent where dr is unbiased, biased of order 1/n, and less noisy if the mean weight differs
    from 1 and the model is off by a constant. Its interval is too narrow where that of snips is.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    check_lengths(columns.reward, predictions.direct)
    correction = weighted_ratio("sndr", columns, columns.reward - predictions.chosen)
    ratios = (mean_ratio(columns, predictions.direct), correction)
    return ratio_estimate("sndr", ratios, columns.user, columns.ess, level)


def dr_gain(columns: Columns, predictions: RewardPredictions, level: float = LEVEL) -> Estimate:
    """Return the paired difference between the doubly robust estimate and the logged reward.

    mean(sum_a target(a) q(a) + w (r - q(chosen)) - r). Unbiased where dr is. The difference is
    taken decision by decision, so effects that a user's decisions share (taste, session, day)
    cancel before influences are summed by user. Reasons: `docs/decisions/estimators.md`.
    """
    terms = predictions.corrected(columns, columns.weights) - columns.reward
    ratio = mean_ratio(columns, terms)
    return ratio_estimate("dr - logged", (ratio,), columns.user, columns.ess, level)


Estimator = Callable[[Columns, RewardPredictions, float], Estimate]
"""Computes an estimate from columns, a model's predictions and the interval's level."""

ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "replay": lambda columns, _, level: replay(columns, level),
        "ips": lambda columns, _, level: ips(columns, level),
        "snips": lambda columns, _, level: snips(columns, level),
        "dm": dm,
        "dr": dr,
        "sndr": sndr,
        "switch-dr": tuned_switch_dr,
        "dros": tuned_dros,
    }
)
"""Every estimator that needs only columns and predictions, by name."""
