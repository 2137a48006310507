"""How many impressions of one upload came from each bucket of origins: few bytes, quickly read.

Thousands of uploads are under trial at a time and most had few impressions, so a counter for each
bucket would be nearly all of a snapshot and of the time that it takes to read. As long as that is
shorter there is a byte an impression, its bucket; later two bytes a bucket, its count. A count
stays at 65,535: an origin that sent as many has been cut off long since, or is all there is.

Rejected: a map of counts (each is an object to decode), and counters of a byte (a carrier fills
them within a day).
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
        held: a byte for each impression, its bucket; or all counts, 2 bytes each, as soon as there
            are as many bytes.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)

    def of(self, bucket: int) -> int:
        """Return how many impressions came from a bucket.

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
        """Let each bucket have half of its impressions, rounded down."""
        counts = [self.of(bucket) // 2 for bucket in range(N_BUCKETS)]
        if sum(counts) < _N_BYTES:
            self.held = bytearray(b for b, count in enumerate(counts) for _ in range(count))
        else:
            self.held = _packed(counts)


def _packed(counts: list[int]) -> bytearray:
    return bytearray(np.array(counts, dtype="<u2").tobytes())
