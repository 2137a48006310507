"""Tallies of n people as arrays: `env.interests` for a vector of people, name by number.

Each person has the same number of places. A name that comes again keeps its place, and a new one
takes the place of the one that was met longest ago, which is who a tuple of the latest drops.

Rejected: a column a name (people times creators, of which each meets a few dozen).
"""

import numpy as np

from env.interests import TALLY_DECAY
from env.vocabulary import Bools, Floats, Ints

_NOBODY = -1


class Tallies:
    """The last names that each of n people met, and what they had of them.

    Attributes:
        names: shape (n, width), -1 where there is none.
    """

    def __init__(self, n: int, width: int) -> None:
        """Start with people who met nobody."""
        self.names: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._at: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._exposure: Floats = np.zeros((n, width))
        self._signal: Floats = np.zeros((n, width))

    def clear(self, who: Ints) -> None:
        """Let people have met nobody."""
        self.names[who] = self._at[who] = _NOBODY
        self._exposure[who] = self._signal[who] = 0.0

    def add(self, who: Ints, names: Ints, at: Ints, signal: Floats) -> None:
        """Count an exposure of each of m people to a name.

        Args:
            who: the people, distinct, shape (m,).
            names: at least 0, shape (m,).
            at: their `n_cards` by now, shape (m,).
            signal: of the card, shape (m,).
        """
        is_same = self.names[who] == names[:, None]
        is_known = is_same.any(axis=1)
        place = np.where(is_known, is_same.argmax(axis=1), self._at[who].argmin(axis=1))
        kept = is_known * TALLY_DECAY ** (at - self._at[who, place])
        self.names[who, place], self._at[who, place] = names, at
        self._exposure[who, place] = self._exposure[who, place] * kept + 1.0
        self._signal[who, place] = self._signal[who, place] * kept + signal

    def read(self, names: Ints, at: Ints) -> tuple[Floats, Floats]:
        """Return exposure to names and signal at them as of now, shapes (n, K); 0 where unmet.

        Args:
            names: at least 0, shape (n, K).
            at: the people's `n_cards`, shape (n,).
        """
        is_same = self._same(names)
        place, is_met = is_same.argmax(axis=2), is_same.any(axis=2)
        aged = is_met * TALLY_DECAY ** (at[:, None] - np.take_along_axis(self._at, place, axis=1))
        exposure = np.take_along_axis(self._exposure, place, axis=1)
        return exposure * aged, np.take_along_axis(self._signal, place, axis=1) * aged

    def has(self, names: Ints) -> Bools:
        """Return whether people met these names, shape (n, K)."""
        return np.asarray(self._same(names).any(axis=2))

    def _same(self, names: Ints) -> Bools:
        """Return which place holds which name, shape (n, K, width), of the places ever taken."""
        width = max(int((self.names >= 0).sum(axis=1).max()), 1)
        return np.asarray(self.names[:, None, :width] == names[:, :, None])
