"""The supply of a simulated world: its live items, a day at a time.

A `Stock` holds the items of one day, as columns for the dynamics and as a server's knowledge for
the observation. A `Supply` gives each day's stock, given the previous day's exposures. Fixed, live
and recorded supplies share this protocol. Statistics that move with every swipe were rejected: each
step would rewrite n table rows, and no server's are that fresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from env.arrays.draws import BIRTH, life_keys, normals
from env.columns.scales import MEAN_BAIT
from env.vocabulary import Bools, Float32s, Floats, Ints, Keys
from env.world.answers import UNCAPPED_S, log_duration
from env.world.world import BAIT, LANGUAGE, TOPIC, World, terms_of

EVERYWHERE = -1
PLAYED, LONG, LIKED = 1, 2, 4
N_EVENT_CODES = 8

ITEM_FACTS = (
    "log_duration",
    "log_age",
    "log_exposures",
    "valid_play_log_odds",
    "valid_play_sd",
    "long_view_rate",
    "like_rate",
    "bait_guess",
)
"""Columns of the table after an item's vector."""

PRIOR_IMPRESSIONS = 20.0
PRIOR_RATES = (0.46, 0.33, 0.02)  # valid play, long view, like
BAIT_GUESS_SD = 0.2
GUESS_LANE = 140


@dataclass(frozen=True)
class Stock:
    """All items of one day, as columns."""

    day: int
    serial: Ints  # (n,) of the uploads of this world
    creator: Ints  # (n,)
    market: Ints  # (n,) the only market that shows the item, or `EVERYWHERE`
    vectors: Floats  # (n_dims, n)
    columns: Floats  # (N_COLUMNS, n) as `World.columns`
    published: Floats  # (n,) day, may be negative
    counts: Floats  # (4, n) exposures, valid plays, long views, likes so far
    keys: Keys  # (n,) of the draws that depend on the item alone

    @property
    def n_dims(self) -> int:
        """Length of an item's vector."""
        return len(self.vectors)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.serial)

    @cached_property
    def topic(self) -> Ints:
        """Topic of each item, shape (n,)."""
        return np.asarray(self.columns[TOPIC], dtype=np.int64)

    @cached_property
    def language(self) -> NDArray[np.int8]:
        """Language code of each item, shape (n,)."""
        return np.asarray(self.columns[LANGUAGE], dtype=np.int8)

    @cached_property
    def is_tail(self) -> Bools:
        """Whether an item's exposures are at most the median, new uploads included, shape (n,)."""
        exposures = self.counts[0]
        return np.asarray(exposures <= np.median(exposures))

    @cached_property
    def log_odds(self) -> Float32s:
        """The server's estimate of the log-odds of a valid play, shape (n,)."""
        return self.table[:, self.n_dims + ITEM_FACTS.index("valid_play_log_odds")].copy()

    @cached_property
    def bait_guess(self) -> Float32s:
        """The server's estimate of the bait, relative to its mean, shape (n,)."""
        return self.table[:, self.n_dims + ITEM_FACTS.index("bait_guess")].copy()

    @cached_property
    def table(self) -> Float32s:
        """A server's knowledge of the items: a row each of the vector, then `ITEM_FACTS`.

        Rates are posterior means under a prior worth `PRIOR_IMPRESSIONS`; the bait is a noisy
        guess.
        """
        exposures, *events = self.counts
        played, long, liked = (
            (count + PRIOR_IMPRESSIONS * prior) / (exposures + PRIOR_IMPRESSIONS)
            for count, prior in zip(events, PRIOR_RATES, strict=True)
        )
        cap_s = terms_of(self.columns).cap_s
        doubt = normals(self.keys, np.full(self.n, BIRTH), GUESS_LANE, 1)[0]
        facts = [
            log_duration(np.where(np.less(cap_s, UNCAPPED_S), cap_s, 0.0)),
            np.log1p(np.maximum(self.day - self.published, 0.0)),
            np.log1p(exposures),
            np.log(played / (1.0 - played)),
            1.0 / np.sqrt((exposures + PRIOR_IMPRESSIONS) * played * (1.0 - played)),
            long,
            liked,
            self.columns[BAIT] - MEAN_BAIT + BAIT_GUESS_SD * doubt,
        ]
        return np.ascontiguousarray(np.vstack([self.vectors, *facts]).T, dtype=np.float32)


class Supply(Protocol):
    """Gives the items of a world, a day at a time."""

    is_live: bool  # whether `pass_day` uses the exposures; if not, they need not be counted

    @property
    def stock(self) -> Stock:
        """Today's items."""

    def restart(self) -> None:
        """Go back to the first day."""

    def pass_day(self, shown: Ints) -> None:
        """Go on to the next day's stock.

        `shown` counts each item's exposures since the day began by combination of events, shape (n
        items, N_EVENT_CODES); a column is a sum of PLAYED, LONG, LIKED.
        """


class FixedSupply:
    """The same stock every day."""

    is_live = False

    def __init__(self, stock: Stock) -> None:
        """Keep these items forever."""
        self.stock = stock

    def restart(self) -> None:
        """Do nothing: every day is the first."""

    def pass_day(self, shown: Ints) -> None:
        """Do nothing: exposures have no effect."""


class RecordingSupply:
    """Wraps another supply and keeps its stocks of all days since the start, in `stocks`."""

    def __init__(self, supply: Supply) -> None:
        """Wrap a supply."""
        self._supply = supply
        self.is_live = supply.is_live
        self.stocks: list[Stock] = [supply.stock]

    @property
    def stock(self) -> Stock:
        """Today's items."""
        return self._supply.stock

    def restart(self) -> None:
        """Go back to the first day, and drop the recorded stocks."""
        self._supply.restart()
        self.stocks = [self._supply.stock]

    def pass_day(self, shown: Ints) -> None:
        """See `Supply.pass_day`."""
        self._supply.pass_day(shown)
        self.stocks.append(self._supply.stock)


class RecordedSupply:
    """Replays another supply's stocks day by day, independently of exposures."""

    is_live = False

    def __init__(self, stocks: Sequence[Stock]) -> None:
        """Replay these stocks.

        Raises:
            ValueError: there are none.
        """
        if not stocks:
            raise ValueError("expected at least one day's stock to replay, got none")
        self._stocks = tuple(stocks)
        self._day = 0
        self.stock = self._stocks[0]

    def restart(self) -> None:
        """Go back to the first recorded day."""
        self._day = 0
        self.stock = self._stocks[0]

    def pass_day(self, shown: Ints) -> None:
        """Go on to the next recorded day.

        Raises:
            IndexError: the recording is over.
        """
        if self._day + 1 == len(self._stocks):
            raise IndexError(f"the recorded supply ends after {len(self._stocks)} days")
        self._day += 1
        self.stock = self._stocks[self._day]


def stock_of(world: World) -> Stock:
    """Return a world's items as a stock without exposures, shown everywhere from the first day."""
    n = len(world.item_ids)
    serial = np.arange(n, dtype=np.int64)
    return Stock(
        day=0,
        serial=serial,
        creator=serial,
        market=np.full(n, EVERYWHERE, dtype=np.int64),
        vectors=np.ascontiguousarray(world.vectors.T),
        columns=world.columns.copy(),
        published=np.zeros(n),
        counts=np.zeros((1 + len(PRIOR_RATES), n)),
        keys=life_keys(np.full(n, world.seed, dtype=np.int64), serial),
    )
