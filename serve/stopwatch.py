"""Where the time of a page goes: the sum of each named step, for `bench decide` and the metrics."""

from collections.abc import Callable


class Stopwatch:
    """Adds up the time between laps under the lap's name."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        """Use this steady clock; nothing runs until `start`."""
        self.spent_ns: dict[str, int] = {}
        self._clock_ns = clock_ns
        self._last_ns = 0

    def start(self) -> None:
        """Begin a page."""
        self._last_ns = self._clock_ns()

    def lap(self, step: str) -> None:
        """Book the time since the last lap, or the start, on this step."""
        now_ns = self._clock_ns()
        self.spent_ns[step] = self.spent_ns.get(step, 0) + now_ns - self._last_ns
        self._last_ns = now_ns

    def shares(self) -> dict[str, float]:
        """Return each step's share of all the time booked."""
        total = sum(self.spent_ns.values()) or 1
        return {step: spent / total for step, spent in self.spent_ns.items()}
