"""Imported impressions as columns: user, item, time and responses.

They come from an external log without propensities, so they can fit the answer model but nothing
that depends on why a card was shown. A row refers to its user and item by index into the imported
tables.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Bools, Floats, Ints


class WatchTail(NamedTuple):
    """Share of long plays in impressions and in watch time."""

    longer_than_s: float  # threshold of a long play
    impressions: float  # share of the impressions
    watch: float  # share of all watch time


@dataclass(frozen=True, slots=True)
class Impressions:
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

    def take(self, rows: Ints | Bools) -> "Impressions":
        """Return the impressions at these rows or under this mask."""
        return Impressions(
            **{field.name: getattr(self, field.name)[rows] for field in fields(self)}
        )

    def before(self, at_ms: int) -> "Impressions":
        """Return the impressions earlier than a time."""
        return self.take(self.at_ms < at_ms)

    def since(self, at_ms: int) -> "Impressions":
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

    def on_full_screen(self) -> "Impressions":
        """Return the impressions of surfaces that show one card at a time.

        A surface counts as such if fewer than half of its impressions play exactly 0 s, as unopened
        cards of a grid do (KuaiRand-Pure: .00 to .16 against .66 to .96).
        """
        surfaces, row = np.unique(self.surface, return_inverse=True)
        n_shown = np.bincount(row, minlength=len(surfaces))
        n_closed = np.bincount(row[self.play_s == 0.0], minlength=len(surfaces))
        return self.take((2 * n_closed < n_shown)[row])
