"""Tallies of n users as arrays: the vectorised form of `env.interests`, with names as numbers.

Each user has the same number of slots. A repeated name keeps its slot, and a new one replaces the
name met longest ago, as in the scalar form's bounded tuple. A column per name was rejected: users
meet a few dozen of many creators.
"""

import numpy as np

from env.interests import TALLY_DECAY
from env.vocabulary import Bools, Floats, Ints

_NOBODY = -1


class Tallies:
    """The last names that each of n users met, -1 where empty, with exposure and signal."""

    def __init__(self, n: int, width: int) -> None:
        """Start with empty tallies."""
        self.names: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._at: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._exposure: Floats = np.zeros((n, width))
        self._signal: Floats = np.zeros((n, width))

    def clear(self, who: Ints) -> None:
        """Empty the tallies of these users."""
        self.names[who] = self._at[who] = _NOBODY
        self._exposure[who] = self._signal[who] = 0.0

    def add(self, who: Ints, names: Ints, at: Ints, signal: Floats) -> None:
        """Count an exposure to a name and its signal for each of m distinct users; shapes (m,).

        Names are at least 0; `at` holds each user's `n_cards` by now.
        """
        is_same = self.names[who] == names[:, None]
        is_known = is_same.any(axis=1)
        place = np.where(is_known, is_same.argmax(axis=1), self._at[who].argmin(axis=1))
        kept = is_known * TALLY_DECAY ** (at - self._at[who, place])
        self.names[who, place], self._at[who, place] = names, at
        self._exposure[who, place] = self._exposure[who, place] * kept + 1.0
        self._signal[who, place] = self._signal[who, place] * kept + signal

    def read(self, names: Ints, at: Ints) -> tuple[Floats, Floats]:
        """Return exposure to names and their signal as of now, shapes (n, K); 0 where unmet.

        `at` holds the users' `n_cards`, shape (n,).
        """
        is_same = self._same(names)
        place, is_met = is_same.argmax(axis=2), is_same.any(axis=2)
        aged = is_met * TALLY_DECAY ** (at[:, None] - np.take_along_axis(self._at, place, axis=1))
        exposure = np.take_along_axis(self._exposure, place, axis=1)
        return exposure * aged, np.take_along_axis(self._signal, place, axis=1) * aged

    def has(self, names: Ints) -> Bools:
        """Return whether users met these names, shape (n, K)."""
        return np.asarray(self._same(names).any(axis=2))

    def _same(self, names: Ints) -> Bools:
        """Return which slot holds which name, shape (n, K, width), over the slots ever used."""
        width = max(int((self.names >= 0).sum(axis=1).max()), 1)
        return np.asarray(self.names[:, None, :width] == names[:, :, None])
