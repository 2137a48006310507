"""The server as a whole: what the store adds up to, and what each process said of itself last.

Metrics and readiness are answered from here by whichever replica is asked. Where the store is
out of reach, the processes' own figures are told all the same.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from serve.beats import Beat, Beats, LearnerBeat
from serve.shelf import Shelf
from serve.store import Store, StoreUnavailable
from serve.totals import Total
from serve.versions import Version
from serve.wire import Health, LearnerHealth

SILENT_S = 10.0
"""A learner that said nothing for so long is not learning: it speaks about once a second."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the store says, as of one moment.

    Attributes:
        totals: of the log.
        offset: of the log's last line.
        catalogue_offset: of the last one that is about an item.
        version: the current one; None: nothing was published.
        epoch: of the newest learner; only that one can publish. 0: there was none.
    """

    totals: dict[Total, int]
    offset: int
    catalogue_offset: int
    version: Version | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Overview:
    """One look at everything.

    Attributes:
        at_ms: when, by the server's clock.
        beats: what each process said last, by name.
        readings: of the store; None: it cannot be read.
        reason: why not; empty if it can.
    """

    at_ms: int
    beats: dict[str, Beat]
    readings: Readings | None
    reason: str = ""

    @property
    def learner(self) -> LearnerBeat | None:
        """What the newest learner said last; None: there was none."""
        learners = (beat for beat in self.beats.values() if isinstance(beat, LearnerBeat))
        return max(learners, key=lambda beat: beat.epoch, default=None)

    @property
    def learner_health(self) -> LearnerHealth:
        """How the learner is: "none", "learning", "stopped" or "silent".

        One that speaks and was overtaken learns for nobody; its successor has said nothing yet.
        """
        beat = self.learner
        if beat is None:
            return LearnerHealth("none")
        age_s = max(self.at_ms - beat.at_ms, 0) / 1000
        is_overtaken = self.readings is not None and beat.epoch < self.readings.epoch
        is_silent = beat.state == "learning" and (is_overtaken or age_s > SILENT_S)
        return LearnerHealth("silent" if is_silent else beat.state, age_s)


class Lookout:
    """Looks at the server as a whole, from one replica."""

    def __init__(
        self, store: Store, shelf: Shelf, beats: Beats, *, now_ms: Callable[[], int]
    ) -> None:
        """Look at the store, the replica's own shelf and everybody's beats."""
        self._store = store
        self._shelf = shelf
        self._beats = beats
        self._now_ms = now_ms

    def look(self) -> Overview:
        """Return the overview as of now; takes a few short reads."""
        try:
            readings, reason = self._read(), ""
        except (StoreUnavailable, RuntimeError) as error:  # the latter: it is closed
            readings, reason = None, f"the database cannot be read: {error}"
        return Overview(self._now_ms(), self._beats.read(), readings, reason)

    def alive(self) -> Health:
        """Return that this process runs; asks nobody else."""
        return Health(True, self._shelf.n_listed)

    async def ready(self) -> Health:
        """Return whether feeds can be answered: the database can be read, and there are items.

        A learner that is silent takes nothing out of rotation: pages are drawn with its last
        version as before. It is told beside.
        """
        overview = await asyncio.to_thread(self.look)
        if overview.readings is None:
            return Health(False, self._shelf.n_listed, overview.reason)
        await self._shelf.refresh(overview.readings.catalogue_offset)
        n_items = self._shelf.n_listed
        reason = "" if n_items else "the catalogue is empty: put items that are listed"
        return Health(n_items > 0, n_items, reason, overview.learner_health)

    def _read(self) -> Readings:
        with self._store.view() as view:
            return Readings(
                view.totals(),
                self._store.log.last_offset(),
                view.catalogue_offset(),
                view.current_version(),
                view.newest_epoch(),
            )
