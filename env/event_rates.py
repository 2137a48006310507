"""Rates of the rare events, fitted from soft labels of engagement.

Each rate is a count shrunk towards its default, which weighs as 500 impressions, so a small import
makes no event impossible. The like's intercept is solved with taste averaged over its prior.

Derivation: `docs/decisions/world-fitting.md`.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env.answers import BAIT_IN_DISLIKE, COMMENT_IF_LIKED, Rates
from env.bait import MEAN_BAIT
from env.impressions import Impressions
from env.reals import logistic
from env.responses import Priors
from env.vocabulary import Bools, Floats

GUESS_WORTH = 500.0
N_NODES = 7
N_BISECTIONS = 30


@dataclass(frozen=True, slots=True)
class Expected:
    """Per-impression quantities of the fit, as columns."""

    engaged: Floats  # (n,) P(E | watch time)
    u: Floats  # (n,) log-odds of E
    affinity: Floats  # (n,) common and cohort part
    quality: Floats  # (n,) log-odds, of the item


def fit_events(shown: Impressions, expected: Expected, priors: Priors, rates: Rates) -> Rates:
    """Return the rates with those of likes, comments, shares, follows and dislikes replaced.

    The columns of `expected` are of the same n impressions; the slopes of the like are kept.
    """
    engaged = expected.engaged
    skipped = 1.0 - engaged
    liked, unliked = 1.0 * shown.like, 1.0 * ~shown.like
    commentable = engaged * (1.0 + (COMMENT_IF_LIKED - 1.0) * liked)
    everything = np.full(len(shown), float(np.exp(BAIT_IN_DISLIKE * MEAN_BAIT)))
    return msgspec.structs.replace(
        rates,
        like=_like_intercept(shown, expected, priors, rates),
        like_skipped=_rate(shown.like, skipped, skipped, rates.like_skipped),
        comment=_rate(shown.comment, engaged, commentable, rates.comment),
        comment_skipped=_rate(shown.comment, skipped, skipped, rates.comment_skipped),
        share=_rate(shown.share, engaged, engaged, rates.share),
        share_skipped=_rate(shown.share, skipped, skipped, rates.share_skipped),
        follow_liked=_rate(shown.follow, engaged * liked, engaged * liked, rates.follow_liked),
        follow=_rate(shown.follow, engaged * unliked, engaged * unliked, rates.follow),
        follow_skipped=_rate(shown.follow, skipped, skipped, rates.follow_skipped),
        not_interested=_rate(
            shown.not_interested, np.ones(len(shown)), everything, rates.not_interested
        ),
    )


def _rate(event: Bools, weight: Floats, exposure: Floats, guess: float) -> float:
    return float((np.sum(weight[event]) + GUESS_WORTH * guess) / (np.sum(exposure) + GUESS_WORTH))


def _like_intercept(shown: Impressions, expected: Expected, priors: Priors, rates: Rates) -> float:
    guess = float(np.asarray(logistic(rates.like)))
    likes = float(np.sum(expected.engaged[shown.like])) + GUESS_WORTH * guess
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
    own = priors.taste_sd * nodes[:, None]  # (N_NODES, 1)
    engages = (weights / weights.sum())[:, None] * logistic(expected.u + own)
    engages *= np.sum(expected.engaged) / np.sum(engages)
    slopes = (
        rates.like_affinity * (expected.affinity + own) / priors.affinity_sd
        + rates.like_quality * expected.quality
    )
    low, high = -12.0, 4.0
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        found = np.sum(engages * logistic(middle + slopes)) + GUESS_WORTH * logistic(middle)
        low, high = (middle, high) if found < likes else (low, middle)
    return 0.5 * (low + high)
