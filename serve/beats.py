"""Signs of life: each process tells the others how it is doing, in a small file of its own.

Whoever is asked for metrics or readiness reads the files of all, so that one port tells about every
replica and about the learner, also of one that is dead: its file stays, and grows old. A file is
replaced as a whole and never flushed; after a power cut nobody is alive anyway.

Rejected: rows in the database, where a write a second would keep the write-ahead log from ever
being truncated, which forgetting a person relies on, and would take turns with feedback; and calls
from process to process (they meet in the data folder and nowhere else).
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

logger = logging.getLogger(__name__)

FOLDER = "beats"
GONE_MS = 300_000
"""A feed replica that was silent for so long is not counted any more; its file may go."""

_NAME = re.compile(r"(feed-[0-9a-f]+|learner-[0-9]+)")

Labels = dict[str, str]


class Family(msgspec.Struct, frozen=True):
    """A metric of one process, as Prometheus counts it.

    Attributes:
        kind: counter, gauge or histogram.
        samples: name, labels and value.
    """

    name: str
    documentation: str
    kind: str
    samples: tuple[tuple[str, Labels, float], ...]


class FeedBeat(msgspec.Struct, frozen=True, tag="feed"):
    """How a feed replica is doing.

    Attributes:
        at_ms: when it said so.
        families: all that it counts about itself.
    """

    at_ms: int
    families: tuple[Family, ...] = ()


class LearnerBeat(msgspec.Struct, frozen=True, tag="learner"):
    """How a learner is doing; counts are of its fold, so of the log up to `offset`.

    Attributes:
        at_ms: when it said so.
        epoch: the newest is the one that publishes.
        state: "stopped" if it was told to; one that died still says "learning", and grows old.
        version: of its last publication, or that it resumed from; 0: none.
        offset: of the log, folded so far.
        learned: interactions that moved the model.
        closed: interactions that closed.
        censored: those of them whose end was never reported.
        never_seen: decisions dropped without any feedback.
        late: feedback events about no open decision.
        refused: interactions that were not learned from, by reason (`VowpalArgs.refusals`).
        poisoned: those left out because the model was no model after them; since it started.
        rollbacks: how often the canary took the model back for that; since it started.
        overdrawn: share of its cards that a market's uploads need, where it exceeds the budget.
    """

    at_ms: int
    epoch: int
    state: Literal["learning", "stopped"]
    version: int = 0
    offset: int = 0
    learned: int = 0
    closed: int = 0
    censored: int = 0
    never_seen: int = 0
    late: int = 0
    refused: dict[str, int] = {}
    poisoned: int = 0
    rollbacks: int = 0
    overdrawn: dict[str, float] = {}


Beat = FeedBeat | LearnerBeat

_decoder: msgspec.msgpack.Decoder[Beat] = msgspec.msgpack.Decoder(Beat)


class Beats:
    """The signs of life in one data folder."""

    def __init__(self, data: Path) -> None:
        """Look into this data folder; nothing is made in it until somebody beats."""
        self._folder = data / FOLDER
        self._is_failing = False

    def write(self, name: str, beat: Beat) -> None:
        """Replace what a process said before; drop files that say nothing of use any more.

        Where that is not possible, it is logged, once, and nothing else fails for it.

        Args:
            name: `feed-` and hex digits, or `learner-EPOCH`.
            beat: what it says now.
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
        """Return what each process said last, by name; what cannot be read is left out."""
        return dict(self._read())

    def _read(self) -> Iterator[tuple[str, Beat]]:
        for path in self._files():
            try:
                yield path.name, _decoder.decode(path.read_bytes())
            except (OSError, msgspec.DecodeError):
                continue  # dropped meanwhile, cut by a full disk, or of another release

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _prune(self, news: Beat) -> None:
        for name, beat in self._read():
            match beat, news:
                case LearnerBeat(), LearnerBeat():
                    is_useless = beat.epoch < news.epoch
                case FeedBeat(), _:
                    is_useless = news.at_ms - beat.at_ms > GONE_MS
                case _:
                    is_useless = False
            if is_useless:
                (self._folder / name).unlink(missing_ok=True)
