"""Doubly robust estimators that limit large weights: Switch-DR and optimistic shrinkage.

One parameter, chosen by `replay.estimators.tuning`, leads from dr (unbiased, sensitive to the
largest weights) to dm (stable, as biased as the model). Each interval is around the estimator's own
expectation and ignores its bias, unless the parameter is so large that it changes no weight of
note.
"""

import numpy as np

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.intervals import LEVEL, Estimate
from replay.estimators.ratios import mean_ratio, ratio_estimate


def switch_dr(
    columns: Columns, predictions: RewardPredictions, tau: float, level: float = LEVEL
) -> Estimate:
    """Return Switch-DR, which uses the model alone where the weight is above tau.

    mean(sum_a target(a) q(a) + w 1[w <= tau] (r - q(chosen))) (Wang, Agarwal and Dudík, "Optimal
    and Adaptive Off-policy Evaluation in Contextual Bandits", ICML 2017, section 4).

    The bias is that of the model on actions of large weight: at most their share of the target's
    probability times the model's error there. The variance is at most that of weights up to tau,
    which is at least 0 (else ValueError). tau infinite: dr; below every positive weight: dm.
    """
    terms = predictions.corrected(columns, switched(columns.weights, tau))
    ratio = mean_ratio(columns, terms)
    return ratio_estimate("switch-dr", (ratio,), columns.user, columns.ess, level)


def dros(
    columns: Columns, predictions: RewardPredictions, lam: float, level: float = LEVEL
) -> Estimate:
    """Return the doubly robust estimator with optimistic shrinkage.

    mean(sum_a target(a) q(a) + lam w / (w^2 + lam) (r - q(chosen))) (Su, Dimakopoulou,
    Krishnamurthy and Dudík, "Doubly Robust Off-policy Evaluation with Shrinkage", ICML 2020,
    section 3.1).

    Small weights are unchanged; weights far above sqrt(lam) become lam / w, so that the largest
    count least. The shape minimises a bound on the squared error whose bias part ignores the
    direction of the model's error. lam is at least 0 (else ValueError); infinite: dr; 0: dm.
    """
    terms = predictions.corrected(columns, shrunk(columns.weights, lam))
    ratio = mean_ratio(columns, terms)
    return ratio_estimate("dros", (ratio,), columns.user, columns.ess, level)


def switched(weights: Floats, tau: float) -> Floats:
    """Return the weights, with 0 where they are above tau, shape (n,).

    >>> switched(np.array([0.5, 2.0, 8.0]), 2.0)
    array([0.5, 2. , 0. ])
    """
    if not tau >= 0.0:
        raise ValueError(f"tau must be at least 0, got {tau}")
    return np.where(weights <= tau, weights, 0.0)


def shrunk(weights: Floats, lam: float) -> Floats:
    """Return lam w / (w^2 + lam), shape (n,).

    >>> shrunk(np.array([0.0, 1.0, 3.0]), 9.0)
    array([0. , 0.9, 1.5])
    """
    if not lam >= 0.0:
        raise ValueError(f"lam must be at least 0, got {lam}")
    if np.isinf(lam):
        return weights
    if lam == 0.0:
        return np.zeros_like(weights)
    return weights * (lam / (weights**2 + lam))
