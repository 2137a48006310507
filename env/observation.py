"""The observation of n people as arrays, in three forms, and their spaces.

    dict   user (n, U), items (n, K, F), personal (n, K, P), mask (n, K)
    flat   the first three in one row a person, for learners that know one Box only
    ids    candidates (n, K), rows of `Stock.table`, and mask: a learner gathers what it needs

All numbers are float32 and within `BOUND`. The arrays are written over at each step.
"""

from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces

from env.observe import BOUND, PERSONAL
from env.supply import ITEM_FACTS
from env.swiping import Swiping
from env.vocabulary import Float32s

ObsMode = Literal["dict", "flat", "ids"]
Observation = dict[str, Any] | Float32s


class Screen:
    """Writes what the people of a feed are observed to be and offered.

    Attributes:
        space: of one person's observation.
        user: see `Observer.write_users`.
        items: see `Observer.write_items`.
        personal: the same, as a view of planes, shape (n, K, len(PERSONAL)).
    """

    def __init__(self, swiping: Swiping, obs: ObsMode, *, keeps_items: bool) -> None:
        """Make room.

        Args:
            swiping: what is observed.
            obs: the form.
            keeps_items: write `items` and `personal` even if the form has none.

        Raises:
            ValueError: the form is unknown, or has no place for the mask that is needed.
        """
        if obs not in get_args(ObsMode):
            raise ValueError(f"expected obs of {', '.join(get_args(ObsMode))}, got {obs!r}")
        if swiping.settings.masked and obs == "flat":
            raise ValueError('expected masked=False with obs="flat", which has no place for a mask')
        self._swiping, self._obs = swiping, obs
        self._writes_items = keeps_items or obs != "ids"
        n, k = swiping.candidates.rows.shape
        f = swiping.stock.n_dims + len(ITEM_FACTS)
        self.user = np.zeros((n, swiping.observer.n_user), dtype=np.float32)
        self.items = np.zeros((n, k, f), dtype=np.float32)
        self._planes = np.zeros((len(PERSONAL), n, k), dtype=np.float32)
        self.personal = np.moveaxis(self._planes, 0, -1)
        self.space = self._space()

    def write(self, *, copy: bool) -> Observation:
        """Return the observation of now.

        Args:
            copy: as arrays of its own; else as those that the next call writes over.
        """
        swiping, candidates = self._swiping, self._swiping.candidates
        if self._writes_items:
            swiping.observer.write_users(self.user)
            swiping.observer.write_items(
                swiping.crowd, swiping.stock, candidates.rows, self.user, self.items, self._planes
            )
        if self._obs == "ids":
            return _given({"candidates": candidates.rows, "mask": candidates.mask}, copy=copy)
        if self._obs == "flat":
            n = len(self.user)
            blocks = [self.user, self.items.reshape(n, -1), self.personal.reshape(n, -1)]
            return np.concatenate(blocks, axis=1)
        return _given(
            {
                "user": self.user,
                "items": self.items,
                "personal": self.personal,
                "mask": candidates.mask,
            },
            copy=copy,
        )

    def _space(self) -> spaces.Space[Any]:
        k = self.items.shape[1]
        mask = spaces.Box(0, 1, (k,), np.int8)
        if self._obs == "ids":
            last = self._swiping.stock.n - 1
            return spaces.Dict({"candidates": spaces.Box(0, last, (k,), np.int64), "mask": mask})
        arrays = {"user": self.user, "items": self.items, "personal": self.personal}
        if self._obs == "flat":
            width = sum(array[0].size for array in arrays.values())
            return _box((width,))
        return spaces.Dict(
            {**{name: _box(a.shape[1:]) for name, a in arrays.items()}, "mask": mask}
        )


def _box(shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(-BOUND, BOUND, shape, np.float32)


def _given(arrays: dict[str, Any], *, copy: bool) -> Observation:
    return {name: array.copy(order="C") for name, array in arrays.items()} if copy else arrays
