"""Bounds on requests and events: a rate for keys and users, a number for cards.

A token bucket holds a burst and fills at a rate. Buckets of names that were not used for long are
full, so the one that was used longest ago can be dropped. Counts are of one replica: with n
replicas a caller has up to n times as much. Rejected alternatives: `docs/decisions/access-keys.md`.
"""

from collections import OrderedDict

MOST_NAMES = 100_000
"""Names that are kept; each takes some 300 bytes."""


class RateLimiter:
    """The buckets of one kind of name, all with the same burst."""

    def __init__(self, per_second: float, burst_s: float, *, most_names: int = MOST_NAMES) -> None:
        """Start with full buckets.

        Args:
            per_second: uses a second, on average; 0: any number.
            burst_s: seconds whose uses may come at once.
            most_names: names that are kept.
        """
        self._per_second, self._burst_s, self._most_names = per_second, burst_s, most_names
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, name: str, now_ms: int, per_second: float | None = None) -> bool:
        """Use a name once if its bucket allows it; return whether it did.

        Args:
            name: of the bucket.
            now_ms: time; one that is earlier than the last fills nothing.
            per_second: the name's own rate, in place of the common one; 0: any number.
        """
        if not self.allows(name, now_ms, per_second):
            return False
        self.spend(name, now_ms, 1, per_second)
        return True

    def allows(self, name: str, now_ms: int, per_second: float | None = None) -> bool:
        """Return whether a name may be used now."""
        rate = self._per_second if per_second is None else per_second
        return not rate or self._level(name, now_ms, rate) >= 1.0

    def spend(self, name: str, now_ms: int, n: int, per_second: float | None = None) -> None:
        """Count n uses that have happened, also where the bucket holds less."""
        rate = self._per_second if per_second is None else per_second
        if not rate or not n:
            return
        level, last_ms = self._level(name, now_ms, rate), self._buckets.get(name, (0.0, now_ms))[1]
        self._buckets[name] = (level - n, max(now_ms, last_ms))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most_names:
            self._buckets.popitem(last=False)

    def _level(self, name: str, now_ms: int, rate: float) -> float:
        most = max(rate * self._burst_s, 1.0)
        level, last_ms = self._buckets.get(name, (most, now_ms))
        return min(most, level + max(now_ms - last_ms, 0) / 1000 * rate)


class Quota:
    """Uses of each name since it was first seen, in bounded memory."""

    def __init__(self, most: int, *, most_names: int = MOST_NAMES) -> None:
        """Start without any; at most `most` of a name are allowed, 0: any number."""
        self._most, self._most_names = most, most_names
        self._used: OrderedDict[str, int] = OrderedDict()

    def allows(self, name: str) -> bool:
        """Return whether a name may be used once more."""
        return not self._most or self._used.get(name, 0) < self._most

    def spend(self, name: str) -> None:
        """Count a use that has happened."""
        if not self._most:
            return
        self._used[name] = self._used.get(name, 0) + 1
        self._used.move_to_end(name)
        if len(self._used) > self._most_names:
            self._used.popitem(last=False)
