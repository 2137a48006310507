"""Uploads that come through the day, one by one, at a rate that may change.

A `LiveSupply` exchanges a day's items at midnight; where what matters is the first hours of an
upload, hours have to pass. Uploads are a Poisson process: the k-th comes when the integral of the
rate reaches the k-th sum of independent unit exponentials (time rescaling: Cinlar, "Introduction
to Stochastic Processes", 1975, section 4.7), which hang on the world's seed and the serial number.
So the times are the same to rounding however finely the clock is moved, and a rate that changes
moves times and not uploads. What an item is, and whose, is drawn as in `env.creators`.

Nothing gives way: a stock of some days grows by its uploads, and an item keeps its row.

Rejected: putting an upload in the oldest item's place (a feed whose items are young would lose
live ones), and creators who give up (that is `LiveSupply`'s question).
"""

from dataclasses import replace

import numpy as np

from env.creators import ITEM, Creators, LiveSupply, world_keys
from env.draws import BIRTH, uniforms
from env.presets import Preset
from env.supply import Stock
from env.vocabulary import Floats, Ints

_GAP_LANE = 142
_CHUNK = 256


class Arrivals:
    """A supply of what was there at the start and what has been uploaded since.

    Attributes:
        stock: all items so far; the first `Uploads.n_items` were there at the start.
        creators: of all items.
        a_day: uploads a day from now on, of all creators together; may be changed at any time.
        day: the time, in days since the start.
    """

    is_live = False

    def __init__(self, preset: Preset, world_seed: int, a_day: float) -> None:
        """Draw the creators and what is there at the start, as a `LiveSupply` does.

        Args:
            preset: whose uploads they are.
            world_seed: the same seed makes the same world.
            a_day: uploads a day, at least 0.
        """
        self._source = LiveSupply(preset, world_seed)
        self._world_seed = world_seed
        self._first_a_day = a_day
        self.creators: Creators = self._source.creators
        self.restart()

    def restart(self) -> None:
        """Go back to the start, and to the first rate."""
        self.stock: Stock = self._source.stock
        self.a_day = self._first_a_day
        self.day = 0.0
        self._hazard = 0.0
        self._sums: Floats = np.zeros(0)

    @property
    def n_uploads(self) -> int:
        """How many came since the start."""
        return self.stock.n - self._source.stock.n

    def advance(self, day: float) -> Ints:
        """Let time pass, and return the rows of what was uploaded meanwhile, in their order.

        Args:
            day: not before the last.

        Raises:
            ValueError: time would go back.
        """
        if day < self.day:
            raise ValueError(f"expected a day of {self.day} or later, got {day}")
        hazard = self._hazard + self.a_day * (day - self.day)
        first = self.n_uploads
        self._draw_sums(hazard)
        due = int(np.searchsorted(self._sums, hazard, side="right"))
        if due > first:
            since = (self._sums[first:due] - self._hazard) / self.a_day
            self._append(self.day + since)
        self.stock = replace(self.stock, day=int(day))
        self.day, self._hazard = day, hazard
        return np.arange(self.stock.n - (due - first), self.stock.n)

    def pass_day(self, shown: Ints) -> None:
        """See `Supply.pass_day`; what was shown changes nothing."""
        self.advance(self.day + 1.0)

    def _append(self, published: Floats) -> None:
        stock, n = self.stock, self.stock.n
        serial = np.arange(n, n + len(published))
        new = self._source.draw(serial, self._source.draw_creator(serial), published)
        self.stock = Stock(
            day=stock.day,
            serial=np.concatenate([stock.serial, new.serial]),
            creator=np.concatenate([stock.creator, new.creator]),
            market=np.concatenate([stock.market, new.market]),
            vectors=np.concatenate([stock.vectors, new.vectors], axis=1),
            columns=np.concatenate([stock.columns, new.columns], axis=1),
            published=np.concatenate([stock.published, new.published]),
            counts=np.concatenate([stock.counts, new.counts], axis=1),
            keys=np.concatenate([stock.keys, new.keys]),
        )

    def _draw_sums(self, hazard: float) -> None:
        """Make sure that the sums of exponentials reach beyond this hazard."""
        while not len(self._sums) or self._sums[-1] <= hazard:
            first, n = self._source.stock.n + len(self._sums), _CHUNK
            keys = world_keys(self._world_seed, ITEM, np.arange(first, first + n))
            gaps = -np.log1p(-uniforms(keys, np.full(n, BIRTH), _GAP_LANE, 1)[0])
            start = self._sums[-1] if len(self._sums) else 0.0
            self._sums = np.concatenate([self._sums, start + np.cumsum(gaps)])
