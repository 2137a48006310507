"""Heartbeats: each process reports its state in a small file of its own.

The replica that is asked for metrics or readiness reads the files of all processes, so one port
tells about the whole server. The file of a dead process stays and grows old. A file is replaced as
a whole and never flushed. Rejected alternatives: `docs/decisions/serve-monitoring.md`.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from replay.evaluate.arms import Readout

logger = logging.getLogger(__name__)
FOLDER = "beats"
GONE_MS = 300_000
"""A feed replica that was silent for so long is no longer counted, and its file may be removed."""

ARMS = "arms"
"""Name of the heartbeat of the experiment's readout, of which there is one."""

_NAME = re.compile(rf"(feed-[0-9a-f]+|learner-[0-9]+|{ARMS})")
Labels = dict[str, str]


class Family(msgspec.Struct, frozen=True):
    """One Prometheus metric of one process."""

    name: str
    documentation: str
    kind: str  # counter, gauge or histogram
    samples: tuple[tuple[str, Labels, float], ...]  # name, labels and value


class FeedHeartbeat(msgspec.Struct, frozen=True, tag="feed"):
    """The heartbeat of a feed replica: the time of the report and the replica's metrics."""

    at_ms: int
    families: tuple[Family, ...] = ()


class EmbeddingCounts(msgspec.Struct, frozen=True):
    """Items that wait for the embedding hook, and those it was asked about, by outcome."""

    waiting: int = 0
    outcomes: dict[str, int] = {}  # "vector", "none" and "failed", since the start


class LearnerHeartbeat(msgspec.Struct, frozen=True, tag="learner"):
    """The heartbeat of a learner; counts cover the log up to `offset`."""

    at_ms: int
    epoch: int  # only the newest epoch publishes
    state: Literal["learning", "stopped"]  # one that died leaves "learning" behind
    version: int = 0  # last version published or resumed from; 0: none
    offset: int = 0  # log offset up to which the learner has folded
    learned: int = 0  # interactions that updated the model
    closed: int = 0  # interactions that closed
    censored: int = 0  # closed interactions whose end was never reported
    never_seen: int = 0  # decisions dropped without any feedback
    late: int = 0  # feedback events about no open decision
    refused: dict[str, int] = {}  # interactions not learned from, by `VowpalArgs.refusals`
    poisoned: int = 0  # interactions that broke the model, since the start
    rollbacks: int = 0  # times the canary restored the model, since the start
    overdrawn: dict[str, float] = {}  # by over-committed market, the card share its uploads need
    custom_failed: dict[str, int] = {}  # interactions that a custom policy raised on, by name
    embedding: EmbeddingCounts | None = None  # None: there is no hook
    late_outcomes: dict[str, int] = {}  # late events by `replay.join.late.LateCounts`


class ArmsHeartbeat(msgspec.Struct, frozen=True, tag="arms"):
    """The heartbeat of the experiment's readout; it covers the log up to `offset`."""

    at_ms: int
    offset: int
    readout: Readout


Beat = FeedHeartbeat | LearnerHeartbeat | ArmsHeartbeat
_decoder: msgspec.msgpack.Decoder[Beat] = msgspec.msgpack.Decoder(Beat)


class Heartbeats:
    """The heartbeat files in one data folder."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._is_failing = False

    def write(self, name: str, beat: Beat) -> None:
        """Replace a process's heartbeat and remove obsolete files; a failure is only logged, once.

        Args:
            name: `feed-` and hex digits, `learner-EPOCH`, or `ARMS`.
            beat: the new heartbeat.
        """
        try:
            self._write(name, beat)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                logger.warning("beat=failed process=%s: %s", name, error)
            self._is_failing = True

    def _write(self, name: str, beat: Beat) -> None:
        self._folder.mkdir(exist_ok=True)
        aside = self._folder / f".{name}"
        aside.write_bytes(msgspec.msgpack.encode(beat))
        aside.replace(self._folder / name)
        self._prune(beat)

    def read(self) -> dict[str, Beat]:
        """Return each process's last heartbeat by name; unreadable files are left out."""
        return dict(self._read())

    def _read(self) -> Iterator[tuple[str, Beat]]:
        for path in self._files():
            try:
                yield path.name, _decoder.decode(path.read_bytes())
            except (OSError, msgspec.DecodeError):
                continue  # removed meanwhile, cut by a full disk, or of another release

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _prune(self, news: Beat) -> None:
        for name, beat in self._read():
            match beat, news:
                case LearnerHeartbeat(), LearnerHeartbeat():
                    is_useless = beat.epoch < news.epoch
                case FeedHeartbeat(), _:
                    is_useless = news.at_ms - beat.at_ms > GONE_MS
                case _:
                    is_useless = False
            if is_useless:
                (self._folder / name).unlink(missing_ok=True)
