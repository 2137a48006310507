"""Sessions of a log: each user's impressions, split where a pause was long.

A session ends where the next card comes more than 30 minutes after the last one was played, the
convention of KuaiRand and of web analytics. Gaps are counted between calendar days of visit.
"""

from dataclasses import dataclass

import numpy as np

from env.gaps import Gaps
from env.impressions import Impressions
from env.vocabulary import Bools, Floats, Ints

DAY_MS = 86_400_000
PAUSE_MS = 1_800_000
LEAST_CARDS = 3.0
"""Mean session length below which slopes and tails are meaningless, since the log holds only parts
of sessions."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Impressions in order of user and time, with the starts of their sessions."""

    shown: Impressions  # n of them, each user's together, in order of time
    first: Bools  # (n,) opens a session
    position: Ints  # (n,) cards of the session before this one

    @staticmethod
    def of(impressions: Impressions, pause_ms: int = PAUSE_MS) -> "Sessions":
        """Return the sessions of a log, split where a pause after a play exceeds `pause_ms`."""
        shown = impressions.take(np.lexsort((impressions.at_ms, impressions.user)))
        over_ms = shown.at_ms + (1000.0 * shown.play_s).astype(np.int64)
        first = np.ones(len(shown), dtype=np.bool_)
        first[1:] = (np.diff(shown.user) != 0) | (shown.at_ms[1:] - over_ms[:-1] > pause_ms)
        starts = np.flatnonzero(first)
        length = np.diff(np.append(starts, len(shown)))
        return Sessions(shown, first, np.arange(len(shown)) - np.repeat(starts, length))

    def lengths(self) -> Ints:
        """Return the cards of each session, shape (n_sessions,)."""
        return np.diff(np.append(np.flatnonzero(self.first), len(self.first)))

    def last(self) -> Bools:
        """Return which impressions end a session, shape (n,)."""
        return np.append(self.first[1:], np.ones(min(len(self.first), 1), dtype=np.bool_))


def length_survival(lengths: Ints) -> Floats:
    """Return P(length > 0), P(length > 1), .., shape (longest + 1,), ending in 0.

    >>> length_survival(np.array([1, 1, 3])).round(3).tolist()
    [1.0, 0.333, 0.333, 0.0]
    """
    counts = np.bincount(lengths)
    return 1.0 - np.cumsum(counts) / len(lengths)


def tail_slope(lengths: Ints) -> float:
    """Return the slope of ln P(length > n) in n beyond the median length; 0 without two points.

    It is fitted by least squares weighted by survival, up to the last n that 30 sessions pass; for
    a constant chance to stay, it is the logarithm of that chance.
    """
    survival = length_survival(lengths)
    reach = np.arange(len(survival), dtype=np.float64)
    use = (reach >= np.median(lengths)) & (survival * len(lengths) >= 30.0)
    if np.count_nonzero(use) < 2:
        return 0.0
    x, weight = reach[use], survival[use]
    y = np.log(weight)
    x = x - np.average(x, weights=weight)
    return float((weight * x) @ y / ((weight * x) @ x))


def day_gaps(impressions: Impressions, midnight_ms: int = 0, n_days: int = 60) -> Gaps:
    """Return the gaps between users' days of visit; longer ones are censored at `n_days`.

    Days begin at `midnight_ms`, any local midnight in Unix milliseconds.
    """
    day = (impressions.at_ms - midnight_ms) // DAY_MS
    start = np.min(day, initial=0)
    width = np.max(day, initial=0) - start + 1
    user, day = np.divmod(np.unique(impressions.user * width + day - start), width)
    same = np.diff(user) == 0
    gap = np.diff(day)[same]
    left = np.max(day, initial=0) - day[np.append(~same, np.ones(min(len(user), 1), np.bool_))]
    long = np.count_nonzero(gap > n_days)
    censored = np.append(np.minimum(left, n_days), np.full(long, n_days))
    return Gaps(
        np.bincount(gap[gap <= n_days], minlength=n_days + 1)[1:],
        np.bincount(censored, minlength=n_days + 1)[1:],
    )
