"""The status of the whole server: totals of the store and the last heartbeat of each process.

Any replica answers metrics and readiness from here. If the store cannot be read, the processes'
heartbeats are reported all the same.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serve.monitoring.heartbeats import (
    ARMS,
    GONE_MS,
    ArmsHeartbeat,
    Beat,
    FeedHeartbeat,
    Heartbeats,
    LearnerHeartbeat,
)
from serve.monitoring.metrics import CUSTOM_REPLACED
from serve.store.generations import current_activation
from serve.store.store import Activation, Store, StoreUnavailable, View
from serve.store.totals import Total
from serve.wire.feed import Health, LearnerHealth

SILENT_S = 10.0
"""Seconds without a heartbeat after which a learner counts as silent; it sends one a second."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of the store as of one moment."""

    totals: dict[Total, int]
    offset: int  # of the log's last line
    catalogue_offset: int  # of the last line about an item
    version: Activation | None  # the current one; None: no version was published
    epoch: int  # of the newest learner, the only one that can publish; 0: there was none


@dataclass(frozen=True, slots=True)
class Overview:
    """The status of the server at one moment."""

    at_ms: int  # by the server's clock
    beats: dict[str, Beat]  # last heartbeat of each process, by name
    readings: Readings | None  # None: the store cannot be read
    reason: str = ""  # reason why the store cannot be read; empty if it can

    @property
    def learner(self) -> LearnerHeartbeat | None:
        """The last heartbeat of the newest learner; None: there was none."""
        learners = (beat for beat in self.beats.values() if isinstance(beat, LearnerHeartbeat))
        return max(learners, key=lambda beat: beat.epoch, default=None)

    @property
    def arms(self) -> ArmsHeartbeat | None:
        """The experiment's readout; None: there is no experiment, or nobody reads it now."""
        beat = self.beats.get(ARMS)
        if not isinstance(beat, ArmsHeartbeat) or self.at_ms - beat.at_ms > GONE_MS:
            return None
        return beat

    @property
    def replaced(self) -> dict[str, int]:
        """Pages that were drawn uniformly in place of policies of one's own, by name."""
        counted: Counter[str] = Counter()
        for beat in self.beats.values():
            if isinstance(beat, FeedHeartbeat) and self.at_ms - beat.at_ms <= GONE_MS:
                for family in beat.families:
                    if family.name == CUSTOM_REPLACED:
                        for _, of, n in family.samples:
                            counted[of["policy"]] += int(n)
        return dict(counted)

    @property
    def learner_health(self) -> LearnerHealth:
        """The learner's health: "none", "learning", "stopped" or "silent".

        A learner that was overtaken counts as silent until its successor has said something.
        """
        beat = self.learner
        if beat is None:
            return LearnerHealth("none")
        age_s = max(self.at_ms - beat.at_ms, 0) / 1000
        is_overtaken = self.readings is not None and beat.epoch < self.readings.epoch
        is_silent = beat.state == "learning" and (is_overtaken or age_s > SILENT_S)
        return LearnerHealth("silent" if is_silent else beat.state, age_s)


class Listing(Protocol):
    """The replica's own view of the catalogue."""

    @property
    def n_listed(self) -> int:
        """Return the number of listed items."""
        ...

    async def refresh(self, offset: int, /) -> None:
        """Apply the catalogue's records up to an offset."""
        ...


class Status:
    """Reports the status of the whole server from one replica."""

    def __init__(
        self, store: Store, shelf: Listing, beats: Heartbeats, *, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._beats = beats
        self._now_ms = now_ms

    def look(self) -> Overview:
        """Return the present status; takes a few short reads."""
        try:
            readings, reason = self._read(), ""
        except (StoreUnavailable, RuntimeError) as error:  # RuntimeError: it is closed
            readings, reason = None, f"the database cannot be read: {error}"
        return Overview(self._now_ms(), self._beats.read(), readings, reason)

    def alive(self) -> Health:
        """Return that this process runs, without any read."""
        return Health(True, self._shelf.n_listed)

    async def ready(self) -> Health:
        """Return whether the server does all of its work: it can answer feeds, and it learns.

        Feeds are answered without a learner too, from its last version; a server on which none has
        begun yet is ready.
        """
        overview = await asyncio.to_thread(self.look)
        if overview.readings is None:
            return Health(False, self._shelf.n_listed, overview.reason)
        await self._shelf.refresh(overview.readings.catalogue_offset)
        n_items, learner = self._shelf.n_listed, overview.learner_health
        reason = _find_obstacle(n_items, learner)
        return Health(not reason, n_items, reason, learner, overview.replaced)

    def _read(self) -> Readings:
        with self._store.view() as view:
            return read_store(self._store, view)


def read_store(store: Store, view: View) -> Readings:
    """Return the state of a store; raises `StoreUnavailable` if it cannot be read."""
    return Readings(
        view.totals(),
        store.log.last_offset(),
        view.catalogue_offset(),
        current_activation(view, "policy"),
        view.newest_epoch("policy"),
    )


def _find_obstacle(n_items: int, learner: LearnerHealth) -> str:
    """Return why a server whose store can be read is not ready; empty if it is."""
    if not n_items:
        return "the catalogue is empty: put items that are listed"
    match learner.state:
        case "stopped":
            return "learning has stopped: feeds are answered from the last version"
        case "silent":
            return (
                f"the learner has been silent for {learner.age_s or 0.0:.0f} s: feeds are answered "
                "from the last version until one learns again"
            )
        case "none" | "learning":
            return ""
