"""How the counts of a person are read: evidence, pace, shares, gaps, shrunk where there is little.

The same for one person, whose counts are those of an `env.users.UserState`, and for arrays of
people (`env.feed_memory`).
"""

from typing import NamedTuple, Protocol

from env.reals import Reals, least, most

RATE_PRIOR = 4.0
"""Cards that shares and seconds are shrunk by."""

# Of the standard-exposure log of KuaiRand-Pure: valid plays, watching (half a valid play, half a
# long view) and seconds a card.
TYPICAL_PLAY_RATE = 0.46
TYPICAL_WATCH = 0.4
TYPICAL_DWELL_S = 19.4

TYPICAL_GAP = 0.98
"""Mean over people of their mean ln(1 + days away), by the two classes of return of `env.moods`."""
GAP_PRIOR = 2.0
"""Returns that a usual gap is shrunk by."""
GAP_DECAY = 0.9
"""A return: half of the weight is in the last 7."""


class Counted(Protocol):
    """Counts of one person, or of n of them as arrays; `env.users.UserState` says what they are."""

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
    """What features need of a person's pace; a newcomer has the typical values.

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
    """Return people's evidence and rates, shrunk where there is little."""
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
