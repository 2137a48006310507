"""The accounts that were counted as evidence for an upload: a filter of fixed size.

One account must not carry an upload by watching it again and again, so each counts once. A Bloom
filter with one hash (Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM
1970) never takes an account for new that it holds, and takes a new one for known with the
probability of its fill: 1 - exp(-n / N_BITS) after n accounts, .018 after 300 (measured: .009 of
the first 300 were lost). So a little evidence is lost, alike for all uploads. Half full it starts
anew: each account may count again after some 11,000 others.

Rejected: a set of accounts (its size grows with the audience), a list of places (36 bytes each),
more hashes (they fill a filter of this size sooner, and a few lost impressions cost nothing), and
ageing accounts out one by one.
"""

from bisect import bisect_left

import msgspec

from env.records import item_key
from env.vocabulary import UserKey

N_BITS = 16_384
_N_BYTES = N_BITS // 8
_PLACE_BYTES = 2


class Accounts(msgspec.Struct, array_like=True, gc=False):
    """Accounts by their places in the filter, one by one while that takes less than its bits.

    Attributes:
        held: the places that are taken, rising, 2 bytes each; or all bits, as soon as there are
            as many bytes.
        n: how many places are taken.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)
    n: int = 0

    def __contains__(self, user: UserKey) -> bool:
        """Tell whether an account was noted, or shares its place with one that was."""
        place = _place(user)
        if len(self.held) == _N_BYTES:
            return bool(self.held[place >> 3] >> (place & 7) & 1)
        rank = self._rank(place)
        return rank < self.n and self._nth(rank) == place

    def note(self, user: UserKey) -> None:
        """Remember an account that is not among these."""
        place = _place(user)
        if self.n == N_BITS // 2:
            self.held, self.n = bytearray(), 0
        if len(self.held) == _N_BYTES:
            _set(self.held, place)
        else:
            at = _PLACE_BYTES * self._rank(place)
            self.held[at:at] = place.to_bytes(_PLACE_BYTES, "little")
        self.n += 1
        if len(self.held) == _N_BYTES == _PLACE_BYTES * self.n:
            self._spread()

    def _spread(self) -> None:
        bits = bytearray(_N_BYTES)
        for rank in range(self.n):
            _set(bits, self._nth(rank))
        self.held = bits

    def _rank(self, place: int) -> int:
        return bisect_left(range(self.n), place, key=self._nth)

    def _nth(self, rank: int) -> int:
        at = _PLACE_BYTES * rank
        return int.from_bytes(self.held[at : at + _PLACE_BYTES], "little")


def _set(bits: bytearray, place: int) -> None:
    bits[place >> 3] |= 1 << (place & 7)


def _place(user: UserKey) -> int:
    return item_key(user) % N_BITS
