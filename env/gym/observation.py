"""The observation of n simulated users as arrays, in five forms, and their spaces.

    dict       user (n, U), item (n, K, F), personal (n, K, P), mask (n, K)
    flat       the first three in one row per user, for learners that take one Box
    ids        candidates (n, K), rows of `Stock.table`, and mask
    feed       as dict, in the columns of the HTTP feed
    feed_flat  these in one row per user

Numbers are float32 within `BOUND`. Each step overwrites them.
"""

from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces

from env.gym.feed_memory import FeedStateBatch
from env.gym.feed_observation import FeedView
from env.vocabulary import Float32s
from env.world.observer import BOUND, PERSONAL
from env.world.simulation import Simulation
from env.world.supply import ITEM_FACTS

ObsMode = Literal["dict", "flat", "ids", "feed", "feed_flat"]
_FLAT = ("flat", "feed_flat")
_FEED = ("feed", "feed_flat")
Observation = dict[str, Any] | Float32s


class Screen:
    """Writes the observations of a simulation's users and candidates; `space` is one user's."""

    def __init__(self, swiping: Simulation, obs: ObsMode, *, keeps_items: bool) -> None:
        """Allocate the arrays of a form.

        `keeps_items` writes `items` and `personal` even if the form does not have them.

        Raises:
            ValueError: the form is unknown, or cannot hold the mask that is needed.
        """
        if obs not in get_args(ObsMode):
            raise ValueError(f"expected obs of {', '.join(get_args(ObsMode))}, got {obs!r}")
        if swiping.settings.masked and obs in _FLAT:
            raise ValueError(
                f'expected masked=False with obs="{obs}", which has no place for a mask'
            )
        self._swiping, self._obs = swiping, obs
        self._writes_items = keeps_items or obs in ("dict", "flat")
        self._feed = _open_feed(swiping) if obs in _FEED else None
        n, k = swiping.candidates.rows.shape
        f = swiping.stock.n_dims + len(ITEM_FACTS)
        self.user = np.zeros((n, swiping.observer.n_user), dtype=np.float32)
        self.items = np.zeros((n, k, f), dtype=np.float32)
        self._planes = np.zeros((len(PERSONAL), n, k), dtype=np.float32)
        self.space = self._space()

    @property
    def personal(self) -> Float32s:
        """`Observer.write_items`' planes, seen as (n, K, len(PERSONAL)).

        Made anew each time: a stored view would become a separate copy after pickling, and never be
        written again.
        """
        return np.moveaxis(self._planes, 0, -1)

    def write(self, *, copy: bool) -> Observation:
        """Return the current observation, as a copy or as arrays that the next call overwrites."""
        swiping, candidates = self._swiping, self._swiping.candidates
        if self._writes_items:
            swiping.observer.write_users(self.user)
            swiping.observer.write_items(
                swiping.crowd, swiping.stock, candidates.rows, self.user, self.items, self._planes
            )
        if self._obs == "ids":
            return _given({"candidates": candidates.rows, "mask": candidates.mask}, copy=copy)
        if self._feed is not None:
            self._feed.write()
        arrays = self._arrays()
        if self._obs in _FLAT:
            blocks = [array.reshape(len(array), -1) for array in arrays.values()]
            return np.concatenate(blocks, axis=1)
        return _given({**arrays, "mask": candidates.mask}, copy=copy)

    def _arrays(self) -> dict[str, Float32s]:
        seen = self if self._feed is None else self._feed
        return {"user": seen.user, "item": seen.items, "personal": seen.personal}

    def _space(self) -> spaces.Space[Any]:
        k = self.items.shape[1]
        mask = spaces.Box(0, 1, (k,), np.int8)
        if self._obs == "ids":
            last = self._swiping.stock.n - 1
            return spaces.Dict({"candidates": spaces.Box(0, last, (k,), np.int64), "mask": mask})
        arrays = self._arrays()
        if self._obs in _FLAT:
            width = sum(array[0].size for array in arrays.values())
            return _box((width,))
        return spaces.Dict(
            {**{name: _box(a.shape[1:]) for name, a in arrays.items()}, "mask": mask}
        )


def _open_feed(swiping: Simulation) -> FeedView:
    """Attach a feed's state to the simulation, and return its view of the users."""
    memory = FeedStateBatch(swiping.preset.priors.taste_sd, swiping.reward, swiping.crowd.n)
    swiping.follow(memory)
    return FeedView(swiping, memory)


def _box(shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(-BOUND, BOUND, shape, np.float32)


def _given(arrays: dict[str, Any], *, copy: bool) -> Observation:
    return {name: array.copy(order="C") for name, array in arrays.items()} if copy else arrays
