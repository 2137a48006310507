"""A fixed-size set of the accounts already counted as evidence for one upload.

One account must not carry an upload by watching it again and again, so each account counts once.
The set is a Bloom filter with one hash (Bloom, CACM 1970): its size does not grow with the
audience, and the few new accounts it mistakes for known ones cost every upload equally.
False-positive rates and rejected alternatives: `docs/decisions/upload-evidence.md`.
"""

from bisect import bisect_left

import msgspec

from env.records import item_key
from env.vocabulary import UserKey

N_BITS = 16_384
_N_BYTES = N_BITS // 8
_PLACE_BYTES = 2


class Accounts(msgspec.Struct, array_like=True, gc=False):
    """A set of accounts: a sorted list of positions while that is short, then a bit array.

    Attributes:
        held: taken positions in ascending order, 2 bytes each, or the whole bit array once that is
            no longer.
        n: number of positions taken; at half of `N_BITS` the set is cleared.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)
    n: int = 0

    def __contains__(self, user: UserKey) -> bool:
        """Tell whether an account was noted, or shares its position with one that was."""
        place = _place(user)
        if len(self.held) == _N_BYTES:
            return bool(self.held[place >> 3] >> (place & 7) & 1)
        rank = self._rank(place)
        return rank < self.n and self._nth(rank) == place

    def note(self, user: UserKey) -> None:
        """Add an account that is not in the set."""
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
