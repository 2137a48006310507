"""Uploads that arrive one by one through the day, at a rate that may change.

`Arrivals` is a supply for studies of an upload's first hours, where the daily exchange of
`LiveSupply` is too coarse. Arrival times are a Poisson process by time rescaling; the items are
drawn as in `env.world.creators`. The stock only grows, and an item keeps its row.

Derivation and rejected alternatives: `docs/decisions/world-supply.md`.
"""

from dataclasses import replace

import numpy as np

from env.arrays.draws import BIRTH, uniforms
from env.vocabulary import Floats, Ints
from env.world.creators import ITEM, Creators, LiveSupply, world_keys
from env.world.presets import Preset
from env.world.supply import Stock

_GAP_LANE = 142

_CHUNK = 256


class Arrivals:
    """A supply of the items at the start and of all uploads since.

    Attributes:
        stock: all items so far; the first `Uploads.n_items` were there at the start.
        a_day: uploads a day from now on, of all creators together; may be changed at any time.
        day: the time, in days since the start.
    """

    is_live = False

    def __init__(self, preset: Preset, world_seed: int, a_day: float) -> None:
        """Draw the creators and the initial items, as a `LiveSupply` does; `a_day` is >= 0."""
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
        """Number of uploads since the start."""
        return self.stock.n - self._source.stock.n

    def advance(self, day: float) -> Ints:
        """Advance the time and return the rows of the new uploads, in their order.

        Raises:
            ValueError: `day` is before the current day.
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
        """Advance by a day, see `Supply.pass_day`; `shown` has no effect."""
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
        """Extend the sums of exponentials beyond this hazard."""
        while not len(self._sums) or self._sums[-1] <= hazard:
            first, n = self._source.stock.n + len(self._sums), _CHUNK
            keys = world_keys(self._world_seed, ITEM, np.arange(first, first + n))
            gaps = -np.log1p(-uniforms(keys, np.full(n, BIRTH), _GAP_LANE, 1)[0])
            start = self._sums[-1] if len(self._sums) else 0.0
            self._sums = np.concatenate([self._sums, start + np.cumsum(gaps)])
