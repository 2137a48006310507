"""Imported impressions as columns: user, item, time and responses.

They come from an external log without propensities, so they can fit the answer model but nothing
that depends on why a card was shown. A row refers to its user and item by index into the imported
tables.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from env.calibration.return_gaps import GapCounts
from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Bools, Floats, Ints


class WatchTail(NamedTuple):
    """Share of long plays in impressions and in watch time."""

    longer_than_s: float  # threshold of a long play
    impressions: float  # share of the impressions
    watch: float  # share of all watch time


@dataclass(frozen=True, slots=True)
class ImpressionTable:
    """Columns over n impressions, in order of time.

    `surface` is the tab of the app that showed the card: a nuisance variable, since users answer
    differently on a grid of covers, where unopened cards were never on screen.
    """

    user: Ints  # (n,) index into the imported users
    item: Ints  # (n,) index into the imported items
    at_ms: Ints  # (n,) Unix milliseconds
    surface: Ints  # (n,)
    play_s: Floats  # (n,) >= 0, may exceed the duration: videos loop
    duration_s: Floats  # (n,) 0 where unknown
    like: Bools  # (n,)
    comment: Bools  # (n,)
    share: Bools  # (n,)
    follow: Bools  # (n,)
    not_interested: Bools  # (n,)

    def __post_init__(self) -> None:
        n = len(self.user)
        for field in fields(self):
            column = getattr(self, field.name)
            if column.shape != (n,):
                raise ValueError(f"{field.name}: expected shape ({n},), got {column.shape}")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | Bools) -> "ImpressionTable":
        """Return the impressions at these rows or under this mask."""
        return ImpressionTable(
            **{field.name: getattr(self, field.name)[rows] for field in fields(self)}
        )

    def before(self, at_ms: int) -> "ImpressionTable":
        """Return the impressions earlier than a time."""
        return self.take(self.at_ms < at_ms)

    def since(self, at_ms: int) -> "ImpressionTable":
        """Return the impressions from a time on."""
        return self.take(self.at_ms >= at_ms)

    def valid_play(self) -> Bools:
        """Return whether each play is valid, shape (n,), as `env.reward` defines it."""
        short = (self.duration_s > 0.0) & (self.duration_s <= VALID_PLAY_S)
        return np.where(short, self.play_s >= self.duration_s, self.play_s > VALID_PLAY_S)

    def long_view(self) -> Bools:
        """Return whether each play is a long view, shape (n,), as `env.reward` defines it."""
        short = (self.duration_s > 0.0) & (self.duration_s <= LONG_VIEW_S)
        return np.where(short, self.play_s >= self.duration_s, self.play_s >= LONG_VIEW_S)

    def watch_tail(self, longer_than_s: float = 60.0) -> WatchTail:
        """Return the share of plays longer than this, in seconds; 0 if there are none."""
        is_long = self.play_s > longer_than_s
        of_watch = float(self.play_s[is_long].sum()) / max(float(self.play_s.sum()), 1e-9)
        return WatchTail(longer_than_s, float(is_long.mean()) if len(self) else 0.0, of_watch)

    def on_full_screen(self) -> "ImpressionTable":
        """Return the impressions of surfaces that show one card at a time.

        A surface counts as such if fewer than half of its impressions play exactly 0 s, as unopened
        cards of a grid do (KuaiRand-Pure: .00 to .16 against .66 to .96).
        """
        surfaces, row = np.unique(self.surface, return_inverse=True)
        n_shown = np.bincount(row, minlength=len(surfaces))
        n_closed = np.bincount(row[self.play_s == 0.0], minlength=len(surfaces))
        return self.take((2 * n_closed < n_shown)[row])


DAY_MS = 86_400_000

PAUSE_MS = 1_800_000

LEAST_CARDS = 3.0
"""Mean session length below which slopes and tails are meaningless, since the log holds only parts
of sessions."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Impressions in order of user and time, with the starts of their sessions."""

    shown: ImpressionTable  # n of them, each user's together, in order of time
    first: Bools  # (n,) opens a session
    position: Ints  # (n,) cards of the session before this one

    @staticmethod
    def of(impressions: ImpressionTable, pause_ms: int = PAUSE_MS) -> "Sessions":
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


def day_gaps(impressions: ImpressionTable, midnight_ms: int = 0, n_days: int = 60) -> GapCounts:
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
    return GapCounts(
        np.bincount(gap[gap <= n_days], minlength=n_days + 1)[1:],
        np.bincount(censored, minlength=n_days + 1)[1:],
    )
