"""Off-policy estimators of whole pages: the expected sum of a page's rewards under another policy.

A row is a page, a column a slot; w_j = target / propensity of slot j given the slots before it, and
w_{1:j} is the product of the first j. The estimators differ in their assumptions about interactions
between slots. Comparison and padding of short pages: `docs/decisions/slate-estimators.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.intervals import (
    LEVEL,
    Estimate,
    effective_sample_size,
    require,
    require_propensities,
    require_shape,
)
from replay.estimators.ratios import SumRatio, ratio_estimate


@dataclass(frozen=True, slots=True, eq=False)
class Slates:
    """The log's and the target's side of each page, one row per page and one column per slot.

    Raises:
        ValueError: no page, columns of different shapes, or a value out of range.
    """

    user: Ints  # (n,) at least 0, code of the user
    reward: Floats  # (n, k) finite; 0 where the card was not seen
    propensity: Floats  # (n, k) in (0, 1], given the slots before
    target: Floats  # (n, k) in [0, 1], given the logged slots before

    def __post_init__(self) -> None:
        if self.reward.ndim != 2:
            raise ValueError(f"expected rewards of shape (pages, slots), got {self.reward.shape}")
        shape = self.reward.shape
        require_shape(shape[:1], user=self.user)
        require_shape(shape, reward=self.reward, propensity=self.propensity, target=self.target)
        require(self.user >= 0, "user code", "at least 0", self.user)
        require(np.isfinite(self.reward), "reward", "finite", self.reward)
        require_propensities(self.propensity, self.target)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def weights(self) -> Floats:
        """The importance weight w_j of each slot, shape (n, k)."""
        return self.target / self.propensity

    @property
    def prefix_weights(self) -> Floats:
        """The weight w_{1:j} of each slot with those before it, shape (n, k)."""
        return np.multiply.accumulate(self.weights, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class SlatePredictions:
    """Predicted rewards from each slot on, by a model not fitted on the page's user.

    Q_j is a function of the page's context and its slots up to j. It must not use later slots, or
    cascade-DR is biased.

    Raises:
        ValueError: no page, columns of different shapes, or a value that is not finite.
    """

    chosen: Floats  # (n, k) Q_j of the logged card: the rewards of slots j..k
    direct: Floats  # (n, k) Q_j, mean over the target's pmf given the logged slots before

    def __post_init__(self) -> None:
        require_shape(self.chosen.shape, chosen=self.chosen, direct=self.direct)
        require(np.isfinite(self.chosen), "predicted reward", "finite", self.chosen)
        require(np.isfinite(self.direct), "predicted value", "finite", self.direct)


def joint_ips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return inverse propensity scoring of whole pages.

    mean(w_{1:k} sum_j r_j) (Strehl, Langford, Li and Kakade, "Learning from Logged Implicit
    Exploration Data", NeurIPS 2010, with the page as the action).

    Unbiased for any interaction of slots, if the propensities are exact and positive wherever the
    target's are. The variance grows with the product of the slots' E[w^2], so it suits only short
    pages and targets near the log.
    """
    weights = slates.prefix_weights[:, -1]
    terms = weights * slates.reward.sum(axis=1)
    return _mean("joint ips", terms, slates, effective_sample_size(weights), level)


def joint_snips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return joint IPS divided by the mean weight.

    sum(w_{1:k} sum_j r_j) / sum(w_{1:k}) (Swaminathan and Joachims 2015). Consistent where joint
    IPS is unbiased, biased of order 1/n, independent of the rewards' zero.

    Raises:
        ValueError: the target could have drawn no logged page.
    """
    total = slates.reward.sum(axis=1, keepdims=True)
    return _normalised("joint snips", slates.prefix_weights[:, -1:], total, slates, level)


def independent_ips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return independent inverse propensity scoring, in which each slot has only its own weight.

    mean(sum_j w_j r_j) (Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen, "Offline
    Evaluation of Ranking Policies with Click Models", KDD 2018).

    Unbiased if a slot's reward depends on its own card alone and slots are drawn independently, or
    the columns hold marginal probabilities. With conditional probabilities of draws without
    replacement it estimates the target's reward at each slot after the *logged* cards, as
    `replay.evaluate.evaluate` does, by page. Silently biased if a card changes the reward of the
    next one.
    """
    terms = (slates.weights * slates.reward).sum(axis=1)
    return _mean("independent ips", terms, slates, _least_ess(slates.weights), level)


def independent_snips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return independent IPS with each slot divided by its mean weight.

    sum_j [ sum(w_j r_j) / sum(w_j) ]. Consistent where independent IPS is unbiased.

    Raises:
        ValueError: the target could have drawn no logged card of some slot.
    """
    return _normalised("independent snips", slates.weights, slates.reward, slates, level)


def reward_interaction_ips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return reward-interaction inverse propensity scoring.

    mean(sum_j w_{1:j} r_j) (McInerney, Brost, Chandar, Mehrotra and Carterette, "Counterfactual
    Evaluation of Slate Recommendations with Sequential Reward Interactions", KDD 2020).

    Unbiased if a slot's reward depends only on cards and rewards up to it, as in a feed that is
    swiped downwards. Less noisy than joint IPS, most in the first slots; the last slot has the
    weight of the whole page. Biased if users see later cards before they respond, as on a page laid
    out at once.
    """
    weights = slates.prefix_weights
    terms = (weights * slates.reward).sum(axis=1)
    return _mean("reward-interaction ips", terms, slates, _least_ess(weights), level)


def reward_interaction_snips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return reward-interaction IPS with each slot divided by its mean weight.

    sum_j [ sum(w_{1:j} r_j) / sum(w_{1:j}) ] (McInerney et al. 2020). Consistent where
    reward-interaction IPS is unbiased.

    Raises:
        ValueError: the target could have drawn no logged page down to some slot.
    """
    name = "reward-interaction snips"
    return _normalised(name, slates.prefix_weights, slates.reward, slates, level)


def cascade_dr(slates: Slates, predictions: SlatePredictions, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator of a cascade.

    mean(sum_j { w_{1:j} (r_j - Q_j) + w_{1:j-1} sum_a target(a) Q_j(a) }), with Q_j the rewards
    from slot j on (Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto, "Doubly Robust
    Off-Policy Evaluation for Ranking Policies under the Cascade Behavior Model", WSDM 2022). It
    equals v_1 of v_j = sum_a target(a) Q_j(a) + w_j (r_j + v_{j+1} - Q_j), from the last slot.

    Unbiased where reward-interaction IPS is, whatever the model, and less noisy where the model
    explains some of the reward; unbiased without exact propensities if the model is right.
    Sensitive to the largest w_{1:k}. A model that saw the page it scores makes the interval too
    narrow.
    """
    require_shape(slates.reward.shape, chosen=predictions.chosen)
    upto = slates.prefix_weights
    before = np.hstack([np.ones((len(slates), 1)), upto[:, :-1]])
    terms = upto * (slates.reward - predictions.chosen) + before * predictions.direct
    return _mean("cascade dr", terms.sum(axis=1), slates, _least_ess(upto), level)


def pseudo_inverse(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return the pseudo-inverse estimator of a logging policy that draws slots independently.

    mean((1 - k + sum_j w_j) sum_j r_j) (Swaminathan, Krishnamurthy, Agarwal, Dudík, Langford, Jose
    and Zitouni, "Off-policy Evaluation for Slate Recommendation", NeurIPS 2017).

    Unbiased if the *expected sum* of a page is a sum of effects of each slot's card, and the
    logging policy is a product over slots (own candidates per slot, or with replacement), which
    gives this closed form. It needs only the page's sum. It fails for pages drawn without
    replacement (the mean weight is still near 1, the value is wrong) and where cards interact.
    Weights can be negative, so an estimate can lie outside the rewards' range.
    """
    weights = _pseudo_inverse_weights(slates)
    terms = weights * slates.reward.sum(axis=1)
    return _mean("pseudo-inverse", terms, slates, effective_sample_size(weights), level)


def pseudo_inverse_snips(slates: Slates, level: float = LEVEL) -> Estimate:
    """Return the pseudo-inverse estimator divided by the mean weight (Swaminathan et al.'s wPI).

    Consistent where the pseudo-inverse is unbiased.

    Raises:
        ValueError: the weights' mean is not above 0.
    """
    weights = _pseudo_inverse_weights(slates)[:, None]
    total = slates.reward.sum(axis=1, keepdims=True)
    return _normalised("pseudo-inverse snips", weights, total, slates, level)


def _pseudo_inverse_weights(slates: Slates) -> Floats:
    return np.asarray(1.0 + (slates.weights - 1.0).sum(axis=1))


def _mean(name: str, terms: Floats, slates: Slates, ess: float, level: float) -> Estimate:
    return ratio_estimate(name, [SumRatio(terms, np.ones(len(terms)))], slates.user, ess, level)


def _normalised(
    name: str, weights: Floats, reward: Floats, slates: Slates, level: float
) -> Estimate:
    nowhere = weights.sum(axis=0) <= 0.0
    if nowhere.any():
        raise ValueError(
            f"{name} needs a logged page that the target could draw, got none in {len(slates)} "
            f"down to slot {int(np.argmax(nowhere))}; the log cannot evaluate this policy"
        )
    ratios = [SumRatio(w * r, w) for w, r in zip(weights.T, reward.T, strict=True)]
    return ratio_estimate(name, ratios, slates.user, _least_ess(weights), level)


def _least_ess(weights: Floats) -> float:
    """Return the effective sample size, in pages, of the slot that has the fewest."""
    return min(effective_sample_size(column) for column in weights.T)
