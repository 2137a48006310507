"""How what is counted becomes columns of the order of 1: of one user, or of arrays of users.

`env.columns.schema` encodes a request with these, and `env.gym.feed_observation` a vector of
simulated users, so a column means the same in both. Counts and times are on logarithmic scales,
since the second visit says more than the fifty-second. What is not known is said by each function
or class.

Rejected: a table of (name, scale) pairs (half of the columns are no scaled number).
"""

import math
from typing import NamedTuple, Protocol

import numpy as np

from env.arrays.reals import Reals, cos, either, is_below, least, log1p, logistic, most, sin
from env.vocabulary import Floats

BAIT_IN_UTILITY = 0.5

MEAN_BAIT = 0.34
"""Of the distribution above: the part of an item's effect that is bait is measured from here."""


def bait_of(effect_sds: Reals, normal: Reals) -> Reals:
    """Return bait in (0, 1).

    Args:
        effect_sds: the item's effect in standard deviations between items.
        normal: a standard normal number of the same shape.
    """
    return logistic(-0.8 + 0.5 * effect_sds + 0.8 * normal)


def quality_of(effect: Reals, bait: Reals) -> Reals:
    """Return what of an item's effect is quality: u = ... + q + .5 c, so q = effect - .5 c.

    >>> quality_of(0.5, MEAN_BAIT)
    0.5
    """
    return effect - BAIT_IN_UTILITY * (bait - MEAN_BAIT)


RATE_PRIOR = 4.0
"""Cards that shares and seconds are shrunk by."""

# Of the standard-exposure log of KuaiRand-Pure: valid plays, watching (half a valid play, half a
# long view) and seconds a card.
TYPICAL_PLAY_RATE = 0.46

TYPICAL_WATCH = 0.4

TYPICAL_DWELL_S = 19.4

TYPICAL_GAP = 0.98
"""Mean over users of their mean ln(1 + days away), by the two return classes."""

GAP_PRIOR = 2.0
"""Returns that a usual gap is shrunk by."""

GAP_DECAY = 0.9
"""A return: half of the weight is in the last 7."""


class Counted(Protocol):
    """Counts of one user, or of n users as arrays, see `env.users.state.UserState`."""

    @property
    def evidence(self) -> Reals:
        """Decayed count of answered cards."""

    @property
    def plays(self) -> Reals:
        """Decayed count of valid plays among them."""

    @property
    def dwell_s(self) -> Reals:
        """Decayed sum of their dwell."""

    @property
    def session_evidence(self) -> Reals:
        """Decayed count of answered cards of the session."""

    @property
    def session_plays(self) -> Reals:
        """Decayed count of valid plays among them."""

    @property
    def n_returns(self) -> Reals:
        """How often they came back."""

    @property
    def last_gap(self) -> Reals:
        """How long they were away last."""

    @property
    def gap_sum(self) -> Reals:
        """Decayed sum of such gaps."""

    @property
    def session_watched_s(self) -> Reals:
        """Seconds of the session's cards."""

    @property
    def bait_lately(self) -> Reals:
        """Running mean of bait."""


class Observed(NamedTuple):
    """What features need of a user's pace; a newcomer has the typical values.

    Attributes:
        evidence: decayed count of answered cards, at least 0.
        session_evidence: the same of this session.
        swipe_speed: cards a minute of watching, above 0, at most 60.
        play_rate: share of valid plays, in (0, 1), shrunk to the typical.
        session_play_rate: the same of this session, shrunk to `play_rate`.
        usual_gap: mean of ln(1 + days) between visits, shrunk to the typical.
    """

    evidence: Reals
    session_evidence: Reals
    swipe_speed: Reals
    play_rate: Reals
    session_play_rate: Reals
    usual_gap: Reals


def observed(counted: Counted) -> Observed:
    """Return users' evidence and rates, shrunk where there is little."""
    evidence, session_evidence = counted.evidence, counted.session_evidence
    play_rate = shrink_rate(counted.plays, evidence, TYPICAL_PLAY_RATE)
    mean_dwell_s = (counted.dwell_s + RATE_PRIOR * TYPICAL_DWELL_S) / (evidence + RATE_PRIOR)
    n_gaps = (1.0 - GAP_DECAY**counted.n_returns) / (1.0 - GAP_DECAY)
    return Observed(
        evidence=evidence,
        session_evidence=session_evidence,
        swipe_speed=60.0 / most(mean_dwell_s, 1.0),
        play_rate=play_rate,
        session_play_rate=shrink_rate(counted.session_plays, session_evidence, play_rate),
        usual_gap=(counted.gap_sum + GAP_PRIOR * TYPICAL_GAP) / (n_gaps + GAP_PRIOR),
    )


def shrink_rate(count: Reals, n: Reals, typical: Reals) -> Reals:
    """Return a share of n cards, shrunk to the typical by `RATE_PRIOR` of them.

    Late reports come undecayed, so a count may exceed what it is a share of.
    """
    return (least(count, n) + RATE_PRIOR * typical) / (n + RATE_PRIOR)


_LOG_YEAR_H = math.log1p(24.0 * 365.0)

_LOG_YEAR_DAYS = math.log1p(365.0)

_LOG_MUCH = math.log1p(1000.0)  # rewarded impressions

_GAP_SCALE = 0.5

_BAIT_SCALE = 2.0


class PersonFacts(NamedTuple):
    """What a server counts of a user, or of n of them as arrays, at the time of a page.

    Attributes:
        hour: of the day, whole, in [0, 24), in their time zone.
        weekday: 0 (Monday) to 6.
        position: cards of this visit already seen; 0 begins one, whatever the last was like.
        evidence: decayed count of answered cards.
        session_evidence: the same of the visit under way or last.
        swipe_speed: cards a minute of watching.
        play_rate: share of valid plays.
        session_play_rate: the same of the visit under way or last.
        last_gap: ln(1 + days) that they were away before this visit; 0 before their second one.
        usual_gap: its mean over their visits, shrunk to the typical.
        n_returns: how often they came back.
        tenure_days: since they registered; 0 where unknown.
        session_watched_s: seconds of the visit under way or last.
        bait_lately: bait of the cards of late, from `MEAN_BAIT` on; 0 where unknown.
    """

    hour: Reals
    weekday: Reals
    position: Reals
    evidence: Reals
    session_evidence: Reals
    swipe_speed: Reals
    play_rate: Reals
    session_play_rate: Reals
    last_gap: Reals
    usual_gap: Reals
    n_returns: Reals
    tenure_days: Reals
    session_watched_s: Reals
    bait_lately: Reals


def scale_user(facts: PersonFacts) -> dict[str, Reals]:
    """Return the columns of `env.columns.schema.SHARED` that are counted, by name."""
    begun = is_below(0.0, facts.position)
    angle = facts.hour * (2.0 * math.pi / 24.0)
    return {
        "hour_sin": sin(angle),
        "hour_cos": cos(angle),
        "weekend": is_below(4.5, facts.weekday),
        "position": log1p(facts.position) / 5.0,
        "evidence": log1p(facts.evidence) / 5.0,
        "session_evidence": log1p(facts.session_evidence * begun) / 2.5,
        "swipe_speed": log1p(facts.swipe_speed) / 4.0,
        "play_rate": facts.play_rate,
        "session_play_rate": either(begun, facts.session_play_rate, facts.play_rate),
        "last_gap": facts.last_gap * _GAP_SCALE,
        "usual_gap": facts.usual_gap * _GAP_SCALE,
        "visits": log1p(facts.n_returns) / 4.0,
        "tenure": log1p(facts.tenure_days) / _LOG_YEAR_DAYS,
        "session_watched": log1p(facts.session_watched_s * begun) / 8.0,
        "bait_lately": scale_bait(facts.bait_lately),
    }


def scale_age(hours: Floats) -> Floats:
    """Return the column `age` of items of so many hours, at least 0."""
    return np.asarray(np.log1p(hours) / _LOG_YEAR_H)


def scale_rewarded(n_rewarded: Floats) -> Floats:
    """Return the column `item_evidence` of items with so many rewarded impressions."""
    return np.asarray(np.log1p(n_rewarded) / _LOG_MUCH)


def scale_plays(plays: Floats, highest: float) -> Floats:
    """Return popularity relative to the highest of all items, in [0, 1], on a logarithmic scale."""
    if highest <= 0.0:
        return np.zeros(len(plays))
    return np.asarray(np.log1p(plays) / math.log1p(highest))


def bait_beyond_mean(bait: float | None) -> float:
    """Return the bait of an item, in [0, 1], from `MEAN_BAIT` on; 0 where unknown."""
    return 0.0 if bait is None else bait - MEAN_BAIT


def scale_bait(beyond_mean: Reals) -> Reals:
    """Return the columns `bait` and `bait_lately` of bait from `MEAN_BAIT` on."""
    return beyond_mean * _BAIT_SCALE
