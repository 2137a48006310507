"""Items that a user has ever seen: a ring of the latest, and packed sets by month of all before.

The ring keeps order. When it overflows, its oldest items move into the month's set, which holds
fingerprints in about 16 bits each. So nothing is forgotten, and few unseen items count as seen.
Derivation, sizes and rejected alternatives: `docs/decisions/seen-items.md`.
"""

import struct
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from env.vocabulary import ShortKeys

MAX_RECENT = 1000
"""Items that stay in the ring when it overflows."""

SLACK = 256
"""Items that move at a time: a set is packed again once in so many cards."""

FINGERPRINT_BITS = 26
LEAST_SET = 4096
"""A set with fewer items goes on into the next month, as small sets take more bits an item."""

_SHIFT = 32 - FINGERPRINT_BITS
_SHORT = struct.Struct("<I")
KEY_BYTES = _SHORT.size
Fingerprints = npt.NDArray[np.uint32]


class SeenSet(msgspec.Struct, frozen=True, array_like=True):
    """The items that left the ring in some months, see `pack`."""

    month: int  # the last of them, as year x 12 + month - 1
    n: int  # number of fingerprints
    packed: bytes


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """The items that a user has seen, the oldest first."""

    ring: bytes = b""  # short keys of the latest items, 4 bytes each
    sets: tuple[SeenSet, ...] = ()


def fingerprints(short_keys: ShortKeys) -> Fingerprints:
    """Return the fingerprints of short keys: their highest `FINGERPRINT_BITS` bits."""
    return np.asarray(short_keys >> np.uint32(_SHIFT), dtype=np.uint32)


def see(seen: Seen, key: int, at_ms: int) -> Seen:
    """Return what was seen after one more item, which becomes the latest.

    Args:
        seen: before.
        key: of the item; its lower 32 bits count.
        at_ms: Unix milliseconds, which name the month of items that leave the ring.
    """
    return trimmed(Seen(put_key(seen.ring, key), seen.sets), at_ms)


def trimmed(seen: Seen, at_ms: int) -> Seen:
    """Return it with the oldest items of the ring in a set, if the ring is over its size."""
    size = _SHORT.size
    if len(seen.ring) <= (MAX_RECENT + SLACK) * size:
        return seen
    kept = seen.ring[-MAX_RECENT * size :]
    leaving = np.frombuffer(seen.ring[: -MAX_RECENT * size], dtype="<u4")
    return Seen(kept, _added(seen.sets, fingerprints(leaving), _month(at_ms)))


def has_seen(seen: Seen, key: int) -> bool:
    """Return whether an item was seen; a few that were not count as seen, as in all packed sets."""
    short = key & 0xFFFFFFFF
    if drop_key(seen.ring, key) != seen.ring:
        return True
    mark = np.uint32(short >> _SHIFT)
    return any(mark in unpack(some.packed, some.n) for some in seen.sets)


def put_key(ring: bytes, key: int) -> bytes:
    """Return a ring of short keys with this one moved or added to its end."""
    return drop_key(ring, key) + _SHORT.pack(key & 0xFFFFFFFF)


def drop_key(ring: bytes, key: int) -> bytes:
    """Return a ring of short keys without this one."""
    short = _SHORT.pack(key & 0xFFFFFFFF)
    place = ring.find(short)
    while place % len(short) and place >= 0:  # a match across two keys
        place = ring.find(short, place + 1)
    return ring if place < 0 else ring[:place] + ring[place + len(short) :]


def pack(values: Fingerprints) -> bytes:
    """Return distinct ascending fingerprints, packed (Elias 1974, Fano 1971).

    The lower bits stand side by side. The i-th value's higher bits h are a 1 at place h + i of a
    bitmap. With n values that is about `FINGERPRINT_BITS` - log2 n + 2 bits each.

    >>> values = np.array([3, 500, 66_000_000], dtype=np.uint32)
    >>> unpack(pack(values), 3).tolist()
    [3, 500, 66000000]
    """
    n = len(values)
    low_bits = _low_bits(n)
    bits = np.arange(low_bits, dtype=np.uint32)
    low = (values[:, None] >> bits) & np.uint32(1)
    high = np.zeros(n + (1 << (FINGERPRINT_BITS - low_bits)), dtype=np.uint8)
    high[(values >> np.uint32(low_bits)).astype(np.int64) + np.arange(n)] = 1
    lower = np.packbits(low.astype(np.uint8), axis=None, bitorder="little").tobytes()
    return lower + np.packbits(high, bitorder="little").tobytes()


def unpack(packed: bytes, n: int) -> Fingerprints:
    """Return the n fingerprints that `pack` packed, ascending."""
    low_bits = _low_bits(n)
    flat = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    n_low = -(-n * low_bits // 8) * 8
    low = flat[: n * low_bits].reshape(n, low_bits)
    high = np.flatnonzero(flat[n_low:])[:n] - np.arange(n)
    weights = np.left_shift(1, np.arange(low_bits, dtype=np.int64))
    return np.asarray((high << low_bits) + low @ weights, dtype=np.uint32)


def _low_bits(n: int) -> int:
    return FINGERPRINT_BITS - max(n.bit_length() - 1, 0)


def _added(sets: tuple[SeenSet, ...], values: Fingerprints, month: int) -> tuple[SeenSet, ...]:
    """Return the sets with more fingerprints in the last, or in a new one."""
    last = sets[-1] if sets else SeenSet(month, 0, b"")
    if last.n >= LEAST_SET and last.month < month:
        return (*sets, _set_of(np.unique(values), month))
    if last.n:
        values = np.concatenate([unpack(last.packed, last.n), values])
    return (*sets[:-1], _set_of(np.unique(values), max(month, last.month)))


def _set_of(values: Fingerprints, month: int) -> SeenSet:
    return SeenSet(month, len(values), pack(values))


@lru_cache(maxsize=64)
def _month_of_day(day: int) -> int:
    date = datetime.fromtimestamp(day * 86_400, UTC)
    return 12 * date.year + date.month - 1


def _month(at_ms: int) -> int:
    return _month_of_day(at_ms // 86_400_000)
