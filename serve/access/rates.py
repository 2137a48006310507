"""Rate limits: how often a key, a user or a card may be heard of, by token buckets.

A bucket holds a burst and fills at a rate. Buckets of names that were not heard of for long are
full, so the one that was used longest ago can be dropped. Counts are of one replica: with n
replicas a caller has up to n times as much. Rejected alternatives: `docs/decisions/access-keys.md`.
"""

from collections import OrderedDict

MOST_NAMES = 100_000
"""Names whose buckets are kept; a bucket takes some 200 bytes."""


class RateLimiter:
    """The buckets of one kind of name, all with the same burst."""

    def __init__(self, per_second: float, burst_s: float, *, most_names: int = MOST_NAMES) -> None:
        """Start with full buckets.

        Args:
            per_second: takes a second, on average; 0: any number.
            burst_s: seconds whose takes may come at once.
            most_names: names that are kept.
        """
        self._per_second, self._burst_s, self._most_names = per_second, burst_s, most_names
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, name: str, now_ms: int, n: int = 1, per_second: float | None = None) -> bool:
        """Take `n` from a name's bucket, all or none; return whether they were there.

        Args:
            name: of the bucket.
            now_ms: time; one that is earlier than the last fills nothing.
            n: how many.
            per_second: the name's own rate, in place of the common one; 0: any number.
        """
        rate = self._per_second if per_second is None else per_second
        if not rate:
            return True
        most = max(rate * self._burst_s, 1.0)
        level, last_ms = self._buckets.pop(name, (most, now_ms))
        level = min(most, level + max(now_ms - last_ms, 0) / 1000 * rate)
        # A batch larger than the burst empties a full bucket, or it could never pass.
        is_there = level >= min(n, most)
        self._buckets[name] = (max(level - n, 0.0) if is_there else level, max(now_ms, last_ms))
        if len(self._buckets) > self._most_names:
            self._buckets.popitem(last=False)
        return is_there
