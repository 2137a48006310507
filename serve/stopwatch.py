"""A stopwatch sums the time of each named step of a page, for `bench decide`."""

from collections.abc import Callable


class Stopwatch:
    """Adds up the time between laps under the lap's name."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        """Use this steady clock; call `start` before the first lap."""
        self.spent_ns: dict[str, int] = {}
        self._clock_ns = clock_ns
        self._last_ns = 0

    def start(self) -> None:
        """Begin a page."""
        self._last_ns = self._clock_ns()

    def lap(self, step: str) -> None:
        """Add the time since the last lap, or since the start, to this step."""
        now_ns = self._clock_ns()
        self.spent_ns[step] = self.spent_ns.get(step, 0) + now_ns - self._last_ns
        self._last_ns = now_ns

    def shares(self) -> dict[str, float]:
        """Return each step's share of the total time."""
        total = sum(self.spent_ns.values()) or 1
        return {step: spent / total for step, spent in self.spent_ns.items()}
