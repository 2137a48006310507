"""Off-policy estimators of single decisions: pure functions from columns to an Estimate.

The value that all of them estimate is the expected reward of a seen decision, if the target
policy had made it on the logged candidates, after the logged cards of the same page. It compares
rankers, not retrieval, and one step at a time: what another choice would have done to the cards
after it is no part of it.

One row is one decision, w = target / propensity, c how many decisions the row stands for (1,
unless the log was thinned), mean(x) = sum(c x) / sum(c). An estimator more is a function more:
what it needs beyond these columns comes in as a record of its own. The names are the field's:
Dudík, Erhan, Langford and Li, "Doubly Robust Policy Evaluation and Optimization", Statistical
Science 2014, which sections below refer to.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from replay.columns import Columns, Predictions, check_lengths
from replay.intervals import LEVEL, Estimate, effective_sample_size
from replay.ratios import Ratio, mean_ratio, need_agreement, ratio_estimate, weighted_ratio
from replay.tuning import tuned_dros, tuned_switch_dr


def logged(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return the mean reward of the log itself: what the logging policy earned.

    mean(r). Unbiased for the logging policy, whatever the target.
    """
    ess = effective_sample_size(columns.row_weights)
    ratio = mean_ratio(columns, columns.reward)
    return ratio_estimate("logged", (ratio,), columns.user, ess, level)


def replay(columns: Columns, level: float = LEVEL, *, seed: int = 0) -> Estimate:
    """Return the mean reward of the decisions that the target could have drawn itself.

    sum(a c r) / sum(a c), where a row is accepted (a = 1) with probability w / max(w) (Li, Chu,
    Langford and Wang, "Unbiased Offline Evaluation of Contextual-bandit-based News Article
    Recommendation Algorithms", WSDM 2011, for uniform logs and certain targets, where every
    match is accepted; by rejection in general: Dudík et al. 2014, section 5).

    The rows accepted are a log of the target's own, so that any statistic of them means what it
    says. The price is size: n mean(w) / max(w) rows are left, and averaged over the draws the
    value is that of snips, which is why nobody needs this one for the mean. The maximum is the
    log's own, so a program that accepts while the log still grows has to know it beforehand.

    Args:
        columns: of a log.
        level: of the interval, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    weights = columns.weights
    need_agreement("replay", weights)
    draws = np.random.default_rng(seed).random(len(weights))
    accepted = columns.per_row((draws * weights.max() < weights).astype(np.float64))
    ratio = Ratio(accepted * columns.reward, accepted)
    return ratio_estimate("replay", (ratio,), columns.user, effective_sample_size(accepted), level)


def ips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return inverse propensity scoring.

    mean(w r) (Horvitz and Thompson 1952; Dudík et al. 2014, section 3.2).

    Unbiased if the propensities are exact and positive wherever the target's are. Its variance
    grows with E[w^2 r^2] and depends on where the reward's zero lies: it blows up where the
    target is sure of what the log seldom showed, and is biased low, silently, where the log
    never could show it (then the mean weight is below 1).
    """
    ratio = mean_ratio(columns, columns.weights * columns.reward)
    return ratio_estimate("ips", (ratio,), columns.user, columns.ess, level)


def snips(columns: Columns, level: float = LEVEL) -> Estimate:
    """Return self-normalised inverse propensity scoring.

    sum(c w r) / sum(c w), influence w (r - v) / mean(w) (Hájek 1971; Swaminathan and Joachims,
    "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015).

    Consistent, biased of order 1/n, within the range of the rewards, and the same wherever their
    zero lies. With few effective decisions its interval is too narrow, since the large weights
    were not drawn yet; without support it is the value of a target that the log can follow.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    ratio = weighted_ratio("snips", columns, columns.reward)
    return ratio_estimate("snips", (ratio,), columns.user, columns.ess, level)


def dm(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the direct method: the reward model's own word.

    mean(sum_a target(a) q(a)) (Dudík et al. 2014, section 3.1).

    Unbiased only where the reward model is. Its interval is that of the contexts alone and says
    nothing about the model's error: it covered the truth in 0 to 14 of 100 logs where the others
    covered in 95. Of use beside the others, where there are few effective decisions.
    """
    check_lengths(columns.reward, predictions.direct)
    ess = effective_sample_size(columns.row_weights)
    ratio = mean_ratio(columns, predictions.direct)
    return ratio_estimate("dm", (ratio,), columns.user, ess, level)


def dr(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator: the model's word, corrected where the log knows better.

    mean(sum_a target(a) q(a) + w (r - q(chosen))) (Dudík et al. 2014, section 3.3; with models
    that are cross-fitted, Chernozhukov et al., "Double/Debiased Machine Learning", 2018).

    Unbiased if the propensities are exact and positive wherever the target's are, or if the
    model is right. Less noisy than ips where the model explains some of the reward, and like it
    at the mercy of the largest weights. A model fitted on the rows it scores makes the
    interval too narrow.
    """
    ratio = mean_ratio(columns, predictions.corrected(columns, columns.weights))
    return ratio_estimate("dr", (ratio,), columns.user, columns.ess, level)


def sndr(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator with self-normalised corrections.

    mean(sum_a target(a) q(a)) + sum(c w (r - q(chosen))) / sum(c w) (Thomas and Brunskill,
    "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning", ICML 2016, for one
    step).

    Consistent where dr is unbiased, biased of order 1/n, and calmer where the mean weight of a log
    strays from 1 and the model is off by a constant. Too narrow for the same reason as snips.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    check_lengths(columns.reward, predictions.direct)
    correction = weighted_ratio("sndr", columns, columns.reward - predictions.chosen)
    ratios = (mean_ratio(columns, predictions.direct), correction)
    return ratio_estimate("sndr", ratios, columns.user, columns.ess, level)


def dr_gain(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return by how much the doubly robust estimate exceeds what was logged, paired.

    mean(sum_a target(a) q(a) + w (r - q(chosen)) - r): unbiased where dr is. The difference is
    taken decision by decision, so what a person's decisions have in common (taste, session, day) is
    in both and cancels before influences are summed by person. Of the interval of dr and the mean
    of the log as if it were a constant, the one counts what both share and the other leaves out the
    log's own noise.
    """
    terms = predictions.corrected(columns, columns.weights) - columns.reward
    ratio = mean_ratio(columns, terms)
    return ratio_estimate("dr - logged", (ratio,), columns.user, columns.ess, level)


Estimator = Callable[[Columns, Predictions, float], Estimate]
"""From columns, what a model says about them and the interval's level to an estimate."""

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
"""Every estimator that needs columns and predictions and nothing else, by its name."""
