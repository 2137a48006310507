"""Marginalised inverse propensity scoring: weights of clusters instead of single actions.

With hundreds of candidates a target seldom chooses the logged action, and w explodes. If an action
affects the reward only through its cluster (topic, creator tier), the probabilities of clusters
suffice.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.columns import Columns, check_lengths
from replay.estimators.intervals import LEVEL, Estimate, effective_sample_size
from replay.estimators.ratios import SumRatio, mean_ratio, need_agreement, ratio_estimate


@dataclass(frozen=True, slots=True, eq=False)
class ClusterProbabilities:
    """The two policies' probabilities of the logged action's cluster, checked on construction."""

    propensity: Floats  # (n,) in (0, 1], under the logging policy
    target: Floats  # (n,) in [0, 1], under the target policy

    def __post_init__(self) -> None:
        check_lengths(self.propensity, self.target)
        if not ((self.propensity > 0.0) & (self.propensity <= 1.0 + 1e-9)).all():
            raise ValueError(
                "a cluster's propensity must be in (0, 1], got "
                f"{self.propensity.min()} to {self.propensity.max()}"
            )
        if not ((self.target >= 0.0) & (self.target <= 1.0 + 1e-9)).all():
            raise ValueError(
                "a cluster's target probability must be in [0, 1], got "
                f"{self.target.min()} to {self.target.max()}"
            )

    @property
    def weights(self) -> Floats:
        """The importance weights of the clusters, shape (n,)."""
        return self.target / self.propensity


def marginalise(
    action: Ints, cluster: Ints, logging: Floats, target: Floats
) -> ClusterProbabilities:
    """Return the probabilities of each logged action's cluster.

    Args:
        action: shape (n,), below K.
        cluster: shape (n, K), cluster of each candidate in each decision, or (K,) for constant
            candidates.
        logging: shape (n, K), pmf of the logging policy.
        target: shape (n, K), pmf of the target policy.
    """
    rows = np.arange(len(action))
    if cluster.ndim == 1:
        codes, code = np.unique(cluster, return_inverse=True)
        member = np.eye(len(codes))[code]
        own = rows * len(codes) + code[action]
        return ClusterProbabilities(
            *((pmf @ member).reshape(-1).take(own) for pmf in (logging, target))
        )
    same = cluster == cluster[rows, action][:, np.newaxis]
    return ClusterProbabilities(
        propensity=np.where(same, logging, 0.0).sum(axis=1),
        target=np.where(same, target, 0.0).sum(axis=1),
    )


def mips(columns: Columns, marginal: ClusterProbabilities, level: float = LEVEL) -> Estimate:
    """Return marginalised inverse propensity scoring.

    mean(w(e) r), w(e) = p(e | x, target) / p(e | x, logging) of the logged action's cluster e
    (Saito and Joachims, "Off-Policy Evaluation for Large Action Spaces via Embeddings", ICML 2022,
    section 3.1).

    Unbiased if the reward depends on the action only through its cluster and the context, and the
    log gives a chance to every cluster that the target chooses; single actions may lack support.
    Otherwise biased by the reward differences within a cluster times the policies' different
    choices inside it. Its weights vary less than those of ips: w(e) is the mean of w over the
    logging policy's choice within the cluster. The interval ignores violations of the assumption.
    """
    check_lengths(columns.reward, marginal.target)
    weights = marginal.weights
    ess = effective_sample_size(columns.per_row(weights))
    ratio = mean_ratio(columns, weights * columns.reward)
    return ratio_estimate("mips", (ratio,), columns.user, ess, level)


def snmips(columns: Columns, marginal: ClusterProbabilities, level: float = LEVEL) -> Estimate:
    """Return the self-normalised form of mips: sum(c w(e) r) / sum(c w(e)).

    Consistent where mips is unbiased, with less variance if rewards are far from 0, and independent
    of their zero.

    Raises:
        ValueError: all weights are 0, so the target never chooses a cluster that was logged.
    """
    check_lengths(columns.reward, marginal.target)
    weights = columns.per_row(marginal.weights)
    need_agreement("snmips", weights)
    ess = effective_sample_size(weights)
    ratio = SumRatio(weights * columns.reward, weights)
    return ratio_estimate("snmips", (ratio,), columns.user, ess, level)
