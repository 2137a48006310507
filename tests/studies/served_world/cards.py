"""What was shown in a served world, as columns: where, to whom, and what it was really worth."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from env.vocabulary import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """n cards, in the order in which they were seen.

    Attributes:
        place: of the user, within the world.
        life: of the user, within the place.
        market: of the user.
        row: of the item in the stock.
        reserved: whether the slot was reserved for an upload that is owed an audience.
        expected: exact expected reward at that moment.
        reward: that came.
    """

    at_ms: Ints  # (n,)
    place: Ints  # (n,)
    life: Ints  # (n,)
    market: Ints  # (n,)
    row: Ints  # (n,)
    reserved: Bools  # (n,)
    expected: Floats  # (n,)
    reward: Floats  # (n,)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Ints | Bools) -> "Shown":
        """Return some of the cards."""
        return Shown(*(getattr(self, field.name)[which] for field in fields(Shown)))

    @staticmethod
    def join(parts: Sequence["Shown"]) -> "Shown":
        """Return the cards of several in a row; there is at least one."""
        return Shown(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Shown))
        )


def first_cards(shown: Shown, n: int) -> Shown:
    """Return each user's first n cards, of those who saw as many in the first life of a place."""
    shown = shown.take(shown.life == 0)
    order = np.argsort(shown.place, kind="stable")
    place = shown.place[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    lengths = np.diff(starts, append=len(place))
    nth = np.arange(len(place)) - np.repeat(starts, lengths)
    enough = np.repeat(lengths >= n, lengths)
    return shown.take(order[(nth < n) & enough])
