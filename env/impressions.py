"""Imported impressions as columns: who was shown what, when, and what they did about it.

They come from a foreign log without propensities, so they are good for fitting how people answer
and for nothing that needs to know why a card was shown. A row refers to its person and item by
position in the tables it was imported with.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Bools, Floats, Ints


class WatchTail(NamedTuple):
    """How much of the watching is in long plays.

    Attributes:
        longer_than_s: what counts as long.
        impressions: their share of the impressions.
        watch: their share of all watch time.
    """

    longer_than_s: float
    impressions: float
    watch: float


@dataclass(frozen=True, slots=True)
class Impressions:
    """Columns over n impressions, in order of time.

    `surface` is the tab of the app that showed the card. It is a nuisance: people of a grid of
    covers answer differently, and a card that nobody opened there was never on screen.
    """

    user: Ints  # (n,) index into the imported people
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
        """Return which plays were valid, shape (n,); the definition of `env.reward`."""
        short = (self.duration_s > 0.0) & (self.duration_s <= VALID_PLAY_S)
        return np.where(short, self.play_s >= self.duration_s, self.play_s > VALID_PLAY_S)

    def long_view(self) -> Bools:
        """Return which plays were long views, shape (n,); the definition of `env.reward`."""
        short = (self.duration_s > 0.0) & (self.duration_s <= LONG_VIEW_S)
        return np.where(short, self.play_s >= self.duration_s, self.play_s >= LONG_VIEW_S)

    def watch_tail(self, longer_than_s: float = 60.0) -> WatchTail:
        """Return how much of the watching is in plays longer than this, seconds; 0 of nothing."""
        is_long = self.play_s > longer_than_s
        of_watch = float(self.play_s[is_long].sum()) / max(float(self.play_s.sum()), 1e-9)
        return WatchTail(longer_than_s, float(is_long.mean()) if len(self) else 0.0, of_watch)

    def on_full_screen(self) -> "Impressions":
        """Return the impressions of surfaces that show one card at a time.

        On the others (covers in a grid) most impressions were never opened and play exactly 0 s:
        a surface counts as one card at a time if fewer than half of its impressions do. In
        KuaiRand-Pure the shares are .00 to .16 on the one side and .66 to .96 on the other.
        """
        surfaces, row = np.unique(self.surface, return_inverse=True)
        n_shown = np.bincount(row, minlength=len(surfaces))
        n_closed = np.bincount(row[self.play_s == 0.0], minlength=len(surfaces))
        return self.take((2 * n_closed < n_shown)[row])
