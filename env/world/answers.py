"""The answer model: how a simulated user responds to a card, with its parameters and its draws.

Engagement depends on user, item and moment; watch time, likes, comments, shares and follows depend
on engagement. Every function is pure and takes numbers or arrays, so one user and a million run the
same lines. `env.world.answers` holds the closed forms.

Formulas and rejected alternatives: `docs/decisions/world-answers.md`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from env.arrays.reals import Reals, cos, either, exp, is_below, least, logistic, normal_tail
from env.arrays.validate import require_positive, require_probabilities
from env.reward import LONG_VIEW_S, VALID_PLAY_S, Reward
from env.vocabulary import Floats

N_UNIFORMS = 7
DURATION_CENTRE = 4.3  # ln s: about 74 s, the median of KuaiRand-Pure
UNCAPPED_S = 86_400.0
COMMENT_IF_LIKED = 4.0
BAIT_IN_DISLIKE = 1.5
EVENING_H = 21.0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the answer model, the same for all users; `u` is the log-odds of engagement."""

    language: float = 0.3  # added to u where item and user share a language
    satiation: float = 0.3  # subtracted from u per unit of satiation with the item's topic
    load: float = 0.05  # subtracted from u per unit of mental load
    zero: float = 0.13  # probability that a skip is immediate, 0 s
    skip_mu: float = 0.79  # mean of ln seconds of a skip
    skip_sd: float = 0.65  # sd of ln seconds of a skip
    watch_mu: float = 3.4  # mean of ln seconds of an engaged view, at u = 0 and 74 s
    watch_u: float = 0.2  # added to that mean per unit of u
    watch_duration: float = 0.0  # added to that mean per unit of ln duration
    watch_sd: float = 1.1  # sd of ln seconds of an engaged view
    loop: float = 0.10  # probability that an engaged view goes on after the video's end
    like: float = -3.75  # log-odds of a like, engaged, at mean affinity and quality
    like_affinity: float = 0.8  # added to them per standard deviation of affinity
    like_quality: float = 0.3  # added to them per unit of quality
    like_skipped: float = 0.0053  # probability of a like without engagement
    comment: float = 0.0048  # probability, engaged, without a like; four times that with one
    comment_skipped: float = 0.00013  # probability without engagement
    share: float = 0.0019  # probability, engaged
    share_skipped: float = 0.0002  # probability without engagement
    follow_liked: float = 0.025  # probability after a like
    follow: float = 0.0014  # probability, engaged, without a like
    follow_skipped: float = 0.00022  # probability without engagement
    not_interested: float = 0.0003  # probability at bait 0; e^1.5 times that at bait 1

    def __post_init__(self) -> None:
        """Refuse invalid parameters.

        Raises:
            ValueError: a probability is outside [0, 1], or a spread is not above 0.
        """
        require_probabilities(
            self,
            "zero",
            "loop",
            "like_skipped",
            "comment",
            "comment_skipped",
            "share",
            "share_skipped",
            "follow_liked",
            "follow",
            "follow_skipped",
            "not_interested",
        )
        require_positive(self, "skip_sd", "watch_sd")


class ItemTerms(NamedTuple):
    """The terms of an item's answers that do not depend on the user, over n items or one.

    The first axis of the two pairs is (valid play, long view).
    """

    passed: Floats  # (2, n) probability that a skip passes the threshold
    threshold: Floats  # (2, n) of an engaged view at u = 0, standardised
    watch_mu: Reals  # of ln seconds of an engaged view at u = 0
    cap_s: Reals  # the duration, or a day where unknown
    like: Reals  # log-odds at mean affinity, engaged
    dislike: Reals  # probability of not being interested


class Answer(NamedTuple):
    """The events drawn for one card, or arrays of them over cards."""

    engaged: Reals  # 0 or 1
    watch_s: Reals
    like: Reals  # 0 or 1, as all that follow
    comment: Reals
    share: Reals
    follow: Reals
    not_interested: Reals


def item_terms(rates: Rates, duration_s: Floats, quality: Floats, bait: Floats) -> ItemTerms:
    """Return the terms of items that the closed forms need; arrays have shape (n,).

    The duration (s, 0 where unknown) caps a view only above a threshold that is itself at most the
    duration, so neither cap nor loop changes valid plays and long views.
    """
    cap_s = np.where(duration_s > 0.0, duration_s, UNCAPPED_S)
    least_s = np.minimum(cap_s, np.array([[VALID_PLAY_S], [LONG_VIEW_S]]))
    watch_mu = rates.watch_mu + rates.watch_duration * log_duration(duration_s)
    skipped = (np.log(least_s) - rates.skip_mu) / rates.skip_sd
    return ItemTerms(
        passed=(1.0 - rates.zero) * normal_tail(skipped),
        threshold=(np.log(least_s) - watch_mu) / rates.watch_sd,
        watch_mu=watch_mu,
        cap_s=cap_s,
        like=rates.like + rates.like_quality * quality,
        dislike=rates.not_interested * exp(BAIT_IN_DISLIKE * bait),
    )


def utility(
    rates: Rates,
    affinity: Reals,
    appeal: Reals,
    same_language: Reals,
    satiation: Reals,
    load: Reals,
    scene: Reals = 0.0,
) -> Reals:
    """Return u, the log-odds that a card engages.

    `affinity` is taste · vector; `appeal` sums the item's quality, bait, duration and intercept
    terms and the user's lean; `scene` is the hour's term, see `evening_scene`.
    """
    return (
        affinity
        + appeal
        + rates.language * same_language
        + scene
        - rates.satiation * satiation
        - rates.load * load
    )


def evening_scene(evening: float, hour: Reals) -> Reals:
    """Return the hour's term of u: `evening` at 21:00, its negative at 9:00; hour in [0, 24)."""
    return evening * cos((hour - EVENING_H) * (2.0 * np.pi / 24.0))


def answer(
    rates: Rates,
    u: Reals,
    item: ItemTerms,
    affinity_sds: Reals,
    uniforms: Sequence[Reals],
    normal: Reals,
) -> Answer:
    """Return one draw of all events; `env.world.answers` has its exact probabilities.

    It takes `N_UNIFORMS` uniforms in [0, 1) and one standard normal, each of the shape of u;
    `affinity_sds` is the affinity in standard deviations.
    """
    engaged = is_below(uniforms[0], logistic(u))
    liked = logistic(item.like + rates.like_affinity * affinity_sds)
    like = is_below(uniforms[2], either(engaged, liked, rates.like_skipped))
    follows = either(like, rates.follow_liked, rates.follow)
    comments = rates.comment * (1.0 + (COMMENT_IF_LIKED - 1.0) * like)
    return Answer(
        engaged,
        _watch(rates, u, item, engaged, uniforms[1], normal),
        like,
        is_below(uniforms[3], either(engaged, comments, rates.comment_skipped)),
        is_below(uniforms[4], either(engaged, rates.share, rates.share_skipped)),
        is_below(uniforms[5], either(engaged, follows, rates.follow_skipped)),
        is_below(uniforms[6], item.dislike),
    )


def log_duration(duration_s: Floats) -> Floats:
    """Return ln duration around its centre; 0 where unknown."""
    known = duration_s > 0.0
    return np.where(known, np.log(np.where(known, duration_s, 1.0)) - DURATION_CENTRE, 0.0)


def _watch(
    rates: Rates, u: Reals, item: ItemTerms, engaged: Reals, uniform: Reals, normal: Reals
) -> Reals:
    """Return seconds; the uniform decides an immediate skip, or a loop of an engaged view."""
    mu = either(engaged, item.watch_mu + rates.watch_u * u, rates.skip_mu)
    sd = either(engaged, rates.watch_sd, rates.skip_sd)
    loops = engaged * is_below(uniform, rates.loop)
    immediate = (1.0 - engaged) * is_below(uniform, rates.zero)
    return (1.0 - immediate) * least(exp(mu + sd * normal), item.cap_s + loops * UNCAPPED_S)


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
