"""Closed forms of the answer model: exact event probabilities and the exact expected reward.

They hold for the draws of `env.answers`, so a world knows the value of every card without
simulating it. Both modules read the same `ItemTerms`.
"""

from typing import NamedTuple

import numpy as np

from env.answers import COMMENT_IF_LIKED, ItemTerms, Rates
from env.reals import Reals, logistic, normal_tail
from env.reward import Reward
from env.vocabulary import Floats


class Chances(NamedTuple):
    """Probabilities of the events of one card, or arrays of them over cards."""

    valid_play: Reals
    long_view: Reals
    like: Reals
    comment: Reals
    share: Reals
    follow: Reals
    not_interested: Reals


def chances(rates: Rates, u: Floats, item: ItemTerms, affinity_sds: Floats) -> Chances:
    """Return the exact probability of every event; all arrays have shape (n,)."""
    engaged = logistic(u)
    skipped = 1.0 - engaged
    liked = logistic(item.like + rates.like_affinity * affinity_sds)
    seen = normal_tail(item.threshold - (rates.watch_u / rates.watch_sd) * u)
    valid_play, long_view = engaged * seen + skipped * item.passed
    return Chances(
        valid_play,
        long_view,
        engaged * liked + skipped * rates.like_skipped,
        engaged * rates.comment * (1.0 + (COMMENT_IF_LIKED - 1.0) * liked)
        + skipped * rates.comment_skipped,
        engaged * rates.share + skipped * rates.share_skipped,
        engaged * (rates.follow + (rates.follow_liked - rates.follow) * liked)
        + skipped * rates.follow_skipped,
        item.dislike,
    )


def expected_reward(
    rates: Rates, reward: Reward, u: Floats, item: ItemTerms, affinity_sds: Floats
) -> Floats:
    """Return the exact expected reward of cards, shape (n,).

    Linear in the events: terms are grouped by no engagement, engagement, and engagement with a
    like. Product clicks are left out, since items have no products yet.
    """
    skipped_worth = (
        reward.like * rates.like_skipped
        + reward.comment * rates.comment_skipped
        + reward.share * rates.share_skipped
        + reward.follow * rates.follow_skipped
    )
    engaged_worth = (
        reward.comment * rates.comment + reward.share * rates.share + reward.follow * rates.follow
    )
    liked_worth = (
        reward.like
        + reward.comment * rates.comment * (COMMENT_IF_LIKED - 1.0)
        + reward.follow * (rates.follow_liked - rates.follow)
    )
    engaged = logistic(u)
    liked = logistic(item.like + rates.like_affinity * affinity_sds)
    plays = np.array([reward.valid_play, reward.long_view])
    seen = plays @ normal_tail(item.threshold - (rates.watch_u / rates.watch_sd) * u)
    passed = plays @ item.passed + skipped_worth
    if_engaged = seen + engaged_worth + liked_worth * liked
    return passed + engaged * (if_engaged - passed) + reward.not_interested * item.dislike
