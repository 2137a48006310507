"""How a person answers a card: the parameters of the simulated world, and what they draw.

A card engages (E) with a probability that depends on person, item and moment; watch time is a
mixture of a skip and of an engaged view, capped by the video's length unless it loops; the other
events hang on E and on each other. Everything is a pure function over numbers or arrays, so one
person, a page of candidates and a vector of a million people run the same lines. Every event
has a closed form, see `env.chances`.

    u = a + q_i + .5 c_i + b_lang [l_i = l_u] + scene - a_sat sat_g - a_load m,   E ~ Bern(s(u))
    W | not E  = 0 with p_0, else min(LN(mu_0, s_0), dur)
    W | E      = min(LN(mu_1 + .2 u + d (ln dur - 4.3), s_1), dur), uncapped if it loops
    like | E   = s(k + .8 a / sd(a) + .3 q),  follow | like,  comment four times as likely | like

with s the logistic function and a = taste · vector. Duration bias of the watch time is in the cap
and in d (Zhan et al., KDD 2022). Rates are those of KuaiRand-Pure (Gao et al., CIKM 2022).

Rejected: one sigmoid an event, independent of the rest (following would not go with liking), and
watch time as a share of the duration (people do not watch 45% of everything).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from env.ranges import require_positive, require_probabilities
from env.reals import Reals, cos, either, exp, is_below, least, logistic, normal_tail
from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Floats

N_UNIFORMS = 7
DURATION_CENTRE = 4.3  # ln s: about 74 s, the median of KuaiRand-Pure
UNCAPPED_S = 86_400.0
COMMENT_IF_LIKED = 4.0
BAIT_IN_DISLIKE = 1.5
EVENING_H = 21.0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of an answer, the same for everybody.

    Attributes:
        language: added to u where item and person share a language.
        satiation: subtracted from u for each unit of satiation with the item's topic.
        load: subtracted from u for each unit of mental load.
        zero: probability that a skip is immediate, 0 s.
        skip_mu: of ln seconds of a skip.
        skip_sd: of ln seconds of a skip.
        watch_mu: of ln seconds of an engaged view, at u = 0 and 74 s of duration.
        watch_u: what each unit of u adds to it.
        watch_duration: what each unit of ln duration adds to it.
        watch_sd: of ln seconds of an engaged view.
        loop: probability that an engaged view goes on after the video's end.
        like: log-odds of a like, engaged, at mean affinity and quality.
        like_affinity: what one standard deviation of affinity adds to them.
        like_quality: what each unit of quality adds to them.
        like_skipped: probability of a like without engagement.
        comment: probability, engaged, without a like; four times that with one.
        comment_skipped: probability without engagement.
        share: probability, engaged.
        share_skipped: probability without engagement.
        follow_liked: probability after a like.
        follow: probability, engaged, without a like.
        follow_skipped: probability without engagement.
        not_interested: probability at bait 0; e^1.5 times that at bait 1.
    """

    language: float = 0.3
    satiation: float = 0.3
    load: float = 0.05
    zero: float = 0.13
    skip_mu: float = 0.79
    skip_sd: float = 0.65
    watch_mu: float = 3.4
    watch_u: float = 0.2
    watch_duration: float = 0.0
    watch_sd: float = 1.1
    loop: float = 0.10
    like: float = -3.75
    like_affinity: float = 0.8
    like_quality: float = 0.3
    like_skipped: float = 0.0053
    comment: float = 0.0048
    comment_skipped: float = 0.00013
    share: float = 0.0019
    share_skipped: float = 0.0002
    follow_liked: float = 0.025
    follow: float = 0.0014
    follow_skipped: float = 0.00022
    not_interested: float = 0.0003

    def __post_init__(self) -> None:
        """Refuse probabilities that are none.

        Raises:
            ValueError: one is outside [0, 1], or a spread is not above 0.
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
    """What of an item's answers does not depend on the person, over n items or one.

    The first axis of the two pairs is (valid play, long view).
    """

    passed: Floats  # (2, n) probability that a skip passes the threshold
    threshold: Floats  # (2, n) of an engaged view at u = 0, standardised
    watch_mu: Reals  # of ln seconds of an engaged view at u = 0
    cap_s: Reals  # the duration, or a day where unknown
    like: Reals  # log-odds at mean affinity, engaged
    dislike: Reals  # probability of not being interested


class Answer(NamedTuple):
    """What was drawn for one card, or arrays of it over cards."""

    engaged: Reals  # 0 or 1
    watch_s: Reals
    like: Reals  # 0 or 1, as all that follow
    comment: Reals
    share: Reals
    follow: Reals
    not_interested: Reals


def item_terms(rates: Rates, duration_s: Floats, quality: Floats, bait: Floats) -> ItemTerms:
    """Return what closed forms need of items.

    A view capped at the duration passes a threshold that is at most the duration exactly if the
    uncapped view does, so neither cap nor loop matters to valid plays and long views.

    Args:
        rates: constants.
        duration_s: 0 where unknown, shape (n,).
        quality: log-odds, shape (n,).
        bait: in [0, 1], shape (n,).
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

    Args:
        rates: constants.
        affinity: taste · vector.
        appeal: all that the item brings to everybody: quality, bait, duration, intercept; with
            the person's own lean added.
        same_language: 0 or 1.
        satiation: with the item's topic.
        load: the person's mental load.
        scene: what the moment adds, see `evening_scene`.
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
    """Return what the hour adds to u: most at nine in the evening, least at nine in the morning.

    Args:
        evening: log-odds at the peak.
        hour: of the visit, in [0, 24).
    """
    return evening * cos((hour - EVENING_H) * (2.0 * np.pi / 24.0))


def answer(
    rates: Rates,
    u: Reals,
    item: ItemTerms,
    affinity_sds: Reals,
    uniforms: Sequence[Reals],
    normal: Reals,
) -> Answer:
    """Return one draw of all events: `env.chances` has its exact probabilities.

    Args:
        rates: constants.
        u: see `utility`.
        item: one item, or arrays of the shape of u.
        affinity_sds: affinity in standard deviations.
        uniforms: `N_UNIFORMS` independent numbers in [0, 1), each of the shape of u.
        normal: a standard normal number of the shape of u.
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
    """Return seconds; one uniform serves both branches: is a skip immediate, does a view loop."""
    mu = either(engaged, item.watch_mu + rates.watch_u * u, rates.skip_mu)
    sd = either(engaged, rates.watch_sd, rates.skip_sd)
    loops = engaged * is_below(uniform, rates.loop)
    immediate = (1.0 - engaged) * is_below(uniform, rates.zero)
    return (1.0 - immediate) * least(exp(mu + sd * normal), item.cap_s + loops * UNCAPPED_S)
