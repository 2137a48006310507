"""Impression counts of one upload by bucket of origins, compact while there are few.

Thousands of uploads are under trial at a time and most have few impressions. So a list with one
byte an impression is kept while that is shorter, and then a 2-byte counter for each bucket that
saturates at 65,535. Rejected alternatives: `docs/decisions/upload-evidence.md`.
"""

import msgspec
import numpy as np

N_BUCKETS = 256

_WIDTH = 2
_N_BYTES = _WIDTH * N_BUCKETS
_MOST = 65_535


class Origins(msgspec.Struct, array_like=True, gc=False):
    """Impressions by bucket.

    Attributes:
        held: the bucket of each impression, a byte each, or all counters, 2 bytes each, once that
            is no longer.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)

    def of(self, bucket: int) -> int:
        """Return the number of impressions from a bucket.

        >>> origins = Origins()
        >>> origins.note(7)
        >>> origins.of(7), origins.of(8)
        (1, 0)
        """
        if len(self.held) < _N_BYTES:
            return self.held.count(bucket)
        return int.from_bytes(self.held[_WIDTH * bucket : _WIDTH * (bucket + 1)], "little")

    def note(self, bucket: int) -> None:
        """Count an impression of a bucket, in [0, N_BUCKETS)."""
        if len(self.held) < _N_BYTES:
            self.held.append(bucket)
            if len(self.held) == _N_BYTES:
                self.held = _packed([self.held.count(each) for each in range(N_BUCKETS)])
        else:
            count = min(self.of(bucket) + 1, _MOST)
            self.held[_WIDTH * bucket : _WIDTH * (bucket + 1)] = count.to_bytes(_WIDTH, "little")

    def forget_half(self) -> None:
        """Halve each bucket's count, rounded down."""
        counts = [self.of(bucket) // 2 for bucket in range(N_BUCKETS)]
        if sum(counts) < _N_BYTES:
            self.held = bytearray(b for b, count in enumerate(counts) for _ in range(count))
        else:
            self.held = _packed(counts)


def _packed(counts: list[int]) -> bytearray:
    return bytearray(np.array(counts, dtype="<u2").tobytes())
