"""Rates and gaps of a user, shrunk to typical values where there is little evidence.

The functions take the counts of one user (`env.users.UserState`) or arrays of many users
(`env.feed_memory`).
"""

from typing import NamedTuple, Protocol

from env.reals import Reals, least, most

RATE_PRIOR = 4.0
"""Cards by which rates and seconds are shrunk."""

# Of the standard-exposure log of KuaiRand-Pure: valid plays, watching (half a valid play, half a
# long view) and seconds a card.
TYPICAL_PLAY_RATE = 0.46
TYPICAL_WATCH = 0.4
TYPICAL_DWELL_S = 19.4

TYPICAL_GAP = 0.98
"""Mean over users of their mean ln(1 + days away), by the two classes of return of `env.moods`."""
GAP_PRIOR = 2.0
"""Returns by which a usual gap is shrunk."""
GAP_DECAY = 0.9
"""Decay a return: half of the weight is in the last 7."""


class Counted(Protocol):
    """Counts of one user, or of n users as arrays; `env.users.UserState` describes them."""

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
