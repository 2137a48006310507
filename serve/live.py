"""Live figures of `nextswipe up`, computed from the log.

The recent reward is a join over the log's tail. Reading it costs the server only a short read now
and then. It is read on a thread, so simulated users in the same process need not wait; closing
waits for a read in progress.
"""

import threading
from collections import deque
from collections.abc import Callable

from rich.table import Table

from env.records import FeedbackRecord, PageRecord
from env.reward import is_censored, is_valid_play
from env.vocabulary import Interaction
from replay.join import Join
from serve.config import Config
from serve.stores import open_store
from serve.versions import current_version

RECENT = 1_000
MAX_LINES = 5_000


class Figures:
    """Follows the log and sums up its events since the start."""

    def __init__(self, config: Config, now_ms: Callable[[], int]) -> None:
        """Start at the end of the log of the data folder."""
        self._store = open_store(config, now_ms)
        self._log = self._store.log
        self._now_ms = now_ms
        self._began_ms = now_ms()
        self._join = Join(config.reward, settle_ms=config.join.settle_ms)
        self._offset = self._log.last_offset()
        self._first: list[Interaction] = []
        self._recent: deque[Interaction] = deque(maxlen=RECENT)
        self._n_pages = 0
        self._n_events = 0
        self._version = 0
        self._reading = threading.Lock()
        self._closed = False

    def table(self) -> Table:
        """Read new log lines and return the present figures; thread-safe.

        After `close`, the figures of the last read are returned.
        """
        with self._reading:
            if not self._closed:
                self._read()
            return self._table()

    def close(self) -> None:
        """Close the store, after any read in progress."""
        with self._reading:
            self._closed = True
            self._store.close()

    def _table(self) -> Table:
        elapsed_s = max((self._now_ms() - self._began_ms) / 1000, 1e-3)
        table = Table(title="nextswipe", show_header=False)
        table.add_row("pages", f"{self._n_pages:,}", f"{self._n_pages / elapsed_s:.1f} a second")
        table.add_row("events", f"{self._n_events:,}", f"{self._n_events / elapsed_s:.1f} a second")
        table.add_row("model", f"version {self._version}", "")
        table.add_row(
            f"reward a card, first {len(self._first):,}", _mean_reward(self._first), "at the start"
        )
        table.add_row(
            f"reward a card, last {len(self._recent):,}",
            _mean_reward(self._recent),
            f"{_play_rate(self._recent)} watched beyond 7 s",
        )
        return table

    def _read(self) -> None:
        version = current_version(self._store)
        self._version = 0 if version is None else version.version
        for line in self._log.read(self._offset, MAX_LINES):
            self._offset = line.offset
            self._n_pages += isinstance(line.record, PageRecord)
            self._n_events += isinstance(line.record, FeedbackRecord)
            for interaction in self._join.fold(line.record):
                if not is_censored(interaction.feedback, interaction.duration_s):
                    self._recent.append(interaction)
                    if len(self._first) < RECENT:
                        self._first.append(interaction)


def _mean_reward(interactions: "deque[Interaction] | list[Interaction]") -> str:
    if not interactions:
        return "none yet"
    return f"{sum(i.reward for i in interactions) / len(interactions):.3f}"


def _play_rate(interactions: "deque[Interaction] | list[Interaction]") -> str:
    if not interactions:
        return "none"
    plays = sum(is_valid_play(i.feedback.dwell_s, i.duration_s) for i in interactions)
    return f"{plays / len(interactions):.0%}"
