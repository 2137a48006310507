"""Scaling of counts, rates and gaps to feature columns of order 1, for one user or arrays of users.

The request encoder and the simulated environments share it, so a column means the same in both.
Counts and times are on logarithmic scales, since the second visit is more informative than the
fifty-second; rates and gaps are shrunk to typical values where there is little evidence. It also
holds the assumed bait of items. Rejected alternatives: `docs/decisions/feature-encoding.md`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from env.arrays.reals import Reals, cos, is_below, least, log1p, logistic, most, sin
from env.vocabulary import Floats

BAIT_IN_UTILITY = 0.5
MEAN_BAIT = 0.34
"""Mean of `bait_of`; bait enters an item's utility as the difference from it."""


def bait_of(effect_sds: Reals, normal: Reals) -> Reals:
    """Return bait in (0, 1): logistic(-.8 + .5 e + .8 n), of effects e in sds and normals n.

    Assumed, as no log records bait. Attractive items bait a little more often, so a feed that
    serves by clicks alone serves more bait.
    """
    return logistic(-0.8 + 0.5 * effect_sds + 0.8 * normal)


def quality_of(effect: Reals, bait: Reals) -> Reals:
    """Return the quality in an item's effect: u = ... + q + .5 c, so q = effect - .5 c.

    >>> quality_of(0.5, MEAN_BAIT)
    0.5
    """
    return effect - BAIT_IN_UTILITY * (bait - MEAN_BAIT)


RATE_PRIOR = 4.0
"""Cards by which rates and seconds are shrunk."""

# Of the standard-exposure log of KuaiRand-Pure: valid plays, watching (half a valid play, half a
# long view) and seconds a card.
TYPICAL_PLAY_RATE = 0.46
TYPICAL_WATCH = 0.4
TYPICAL_DWELL_S = 19.4
TYPICAL_GAP = 0.98
"""Mean over users of their mean ln(1 + days away), by the two classes of return."""

GAP_PRIOR = 2.0
"""Returns by which a usual gap is shrunk."""

GAP_DECAY = 0.9
"""Decay a return: half of the weight is in the last 7."""


class Counted(Protocol):
    """Counts of one user, or of n users as arrays; `env.users.state.UserState` describes them."""

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
        """Number of returns."""

    @property
    def last_gap(self) -> Reals:
        """Length of the last gap, ln(1 + days)."""

    @property
    def gap_sum(self) -> Reals:
        """Decayed sum of such gaps."""

    @property
    def session_watched_s(self) -> Reals:
        """Seconds that the session's cards were watched."""

    @property
    def bait_lately(self) -> Reals:
        """Running mean of bait."""


class Observed(NamedTuple):
    """A user's pace as features need it; a newcomer has the typical values."""

    evidence: Reals  # decayed count of answered cards, at least 0
    session_evidence: Reals  # the same of this session
    swipe_speed: Reals  # cards a minute of watching, above 0, at most 60
    play_rate: Reals  # share of valid plays, in (0, 1), shrunk to the typical
    session_play_rate: Reals  # the same of this session, shrunk to `play_rate`
    usual_gap: Reals  # mean of ln(1 + days) between visits, shrunk to the typical


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
    """Return a rate of n cards, shrunk to the typical by `RATE_PRIOR` cards.

    Late reports arrive undecayed, so a count may exceed n.
    """
    return (least(count, n) + RATE_PRIOR * typical) / (n + RATE_PRIOR)


@dataclass(frozen=True, slots=True)
class LogScale:
    """The scale ln(1 + count) / by."""

    by: float

    def __call__(self, count: Reals) -> Reals:
        """Return the scaled count, which is at least 0.

        >>> LogScale(5.0)(0.0)
        0.0
        """
        return log1p(count) / self.by


@dataclass(frozen=True, slots=True)
class LinearScale:
    """The scale value * factor."""

    factor: float

    def __call__(self, value: Reals) -> Reals:
        """Return the scaled value."""
        return value * self.factor


EVIDENCE_SCALE = LogScale(5.0)
"""Scale of the cards that a user answered."""

SESSION_EVIDENCE_SCALE = LogScale(2.5)
POSITION_SCALE = LogScale(5.0)
SPEED_SCALE = LogScale(4.0)
VISITS_SCALE = LogScale(4.0)
TENURE_SCALE = LogScale(math.log1p(365.0))
"""Scale of days: a year is 1."""

WATCHED_SCALE = LogScale(8.0)
AGE_SCALE = LogScale(math.log1p(24.0 * 365.0))
"""Scale of hours: a year is 1."""

REWARDED_SCALE = LogScale(math.log1p(1000.0))
"""Scale of an item's rewarded impressions."""

MINUTES_SCALE = LogScale(1.0)
GAP_SCALE = LinearScale(0.5)
BAIT_SCALE = LinearScale(2.0)
"""Scale of bait minus `MEAN_BAIT`."""

MATCH_SCALE = LinearScale(4.0)
"""Factor on matches, which are expected signals, so that the columns are of order 1."""

_HOUR_ANGLE = 2.0 * math.pi / 24.0


def hour_sine(hour: Reals) -> Reals:
    """Return the sine of an hour of the day."""
    return sin(hour * _HOUR_ANGLE)


def hour_cosine(hour: Reals) -> Reals:
    """Return the cosine of an hour of the day."""
    return cos(hour * _HOUR_ANGLE)


def is_weekend(weekday: Reals) -> Reals:
    """Return whether a weekday, 0 (Monday) to 6, is a Saturday or a Sunday."""
    return is_below(4.5, weekday)


class PersonFacts(NamedTuple):
    """Counts of a user, or of n users as arrays, at the time of a page."""

    hour: Reals  # of the day, whole, in [0, 24), in the user's time zone
    weekday: Reals  # 0 (Monday) to 6
    position: Reals  # cards of this visit already seen; 0 begins a visit
    evidence: Reals  # decayed count of answered cards
    session_evidence: Reals  # the same of the current or last visit
    swipe_speed: Reals  # cards a minute of watching
    play_rate: Reals  # share of valid plays
    session_play_rate: Reals  # the same of the current or last visit
    last_gap: Reals  # ln(1 + days) away before this visit; 0 before the second one
    usual_gap: Reals  # mean of `last_gap` over visits, shrunk to the typical
    n_returns: Reals  # number of returns
    tenure_days: Reals  # since registration; 0 where unknown
    session_watched_s: Reals  # seconds of the current or last visit
    bait_lately: Reals  # bait of recent cards, minus `MEAN_BAIT`; 0 where unknown


def has_begun(facts: PersonFacts) -> Reals:
    """Return whether the visit has shown a card, so that its counts are not the last one's."""
    return is_below(0.0, facts.position)


def scale_plays(plays: Floats, highest: float) -> Floats:
    """Return popularity relative to the highest of all items, in [0, 1], on a logarithmic scale."""
    if highest <= 0.0:
        return np.zeros(len(plays))
    return np.asarray(np.log1p(plays) / math.log1p(highest))


def bait_beyond_mean(bait: float | None) -> float:
    """Return an item's bait, in [0, 1], minus `MEAN_BAIT`; 0 where unknown."""
    return 0.0 if bait is None else bait - MEAN_BAIT
