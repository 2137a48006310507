"""All uploads, by row: the trials under way, and what is kept of those that are over.

An upload has a row for good, which its near-duplicates share. Of a trial that is over a byte is
kept (its standing), and a record for the audit of the latest `MAX_REMEMBERED`; so what grows with
the age of an installation is an id and 9 bytes an upload.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.audience_args import OPEN_LEVEL, FairStart
from env.catalogue import Catalogue
from env.content import duplicate_key
from env.demand import HOUR_MS
from env.reach import Places, Reach, UploadState
from env.records import ItemRecord
from env.trials import Trial
from env.vocabulary import Item, ItemId

MAX_REMEMBERED = 10_000

_STOPPED = OPEN_LEVEL + 1
"""Standing of an upload that was stopped; that of the others is their level."""


class StoredUploads(msgspec.Struct, frozen=True, array_like=True, tag="uploads/1"):
    """The uploads as they are kept: ids with their rows, and columns by row."""

    ids: tuple[ItemId, ...]
    rows: bytes
    keys: bytes
    standing: bytes
    trials: list[Trial]
    ended: dict[int, UploadState]


class Uploads:
    """The uploads that ever had a debut."""

    def __init__(self, args: FairStart, max_remembered: int = MAX_REMEMBERED) -> None:
        """Start without any; of those that are over, records of so many are kept."""
        self._args, self._max_remembered = args, max_remembered
        self._within_ms = int(args.within_h * HOUR_MS)
        self._rows: dict[ItemId, int] = {}
        self._row_of_key: dict[int, int] = {}
        self._standing = bytearray()
        self._trials: dict[int, Trial] = {}
        self._owing: dict[int, Trial] = {}
        self._ended: dict[int, UploadState] = {}
        self._places = Places()

    def trial(self, item_id: ItemId) -> Trial | None:
        """Return the trial of an item; None where it has none, or it is over."""
        row = self._rows.get(item_id)
        return None if row is None else self._trials.get(row)

    def put(self, record: ItemRecord, earliest_ms: int, now_ms: int) -> None:
        """Let a debut enter; what is taken down or unlisted waits until it is back.

        An upload that moves to another home keeps the debt that it was born with.

        Args:
            record: of any item.
            earliest_ms: a debut dated before that is born now.
            now_ms: the clock.
        """
        item = record.item
        if item is not None and record.debut and record.item_id not in self._rows:
            self._enter(item, record.at_ms if record.at_ms >= earliest_ms else now_ms)
        trial = self.trial(record.item_id)
        if trial is None:
            return
        if item is not None and item.item_id == trial.item_id:
            trial.country, trial.language = _home(item), _language(item)
        if item is not None and item.listed:
            trial.enlist(record.item_id, record.at_ms)
        else:
            trial.delist(record.item_id)
        self._owe(trial)

    def follow(self, trial: Trial, audited: Callable[[Trial], UploadState]) -> None:
        """Keep in step with a trial that moved.

        Args:
            trial: one of these.
            audited: what is to be kept of it, if it is over.
        """
        self._standing[trial.row] = _STOPPED if trial.stopped else trial.level
        self._owe(trial)
        if not trial.is_over:
            return
        del self._trials[trial.row]
        self._ended[trial.row] = audited(trial)
        if len(self._ended) > self._max_remembered:
            del self._ended[next(iter(self._ended))]

    def trials(self) -> list[Trial]:
        """Return the trials under way, by row."""
        return list(self._trials.values())

    def owing(self) -> list[Trial]:
        """Return the trials that are to be shown because they are owed, by row.

        The order is that of debuts, so that sums over them are the same after a restart.
        """
        return [self._owing[row] for row in sorted(self._owing)]

    def states(self, audited: Callable[[Trial], UploadState]) -> list[UploadState]:
        """Return a record an upload, by row: all that are under way and the latest others."""
        states = {row: audited(trial) for row, trial in self._trials.items()} | self._ended
        return [states[row] for row in sorted(states)]

    def reach(self, catalogue: Catalogue, now_ms: int) -> Reach:
        """Return the columns by catalogue index, with debuts that did not enter yet as new ones."""
        row_of = self._places.of(catalogue, self._rows)
        standing = np.array([*self._standing, OPEN_LEVEL], dtype=np.int64)[row_of]
        debts = np.zeros((3, len(self._standing) + 1))
        for row, trial in self._owing.items():
            debts[:, row] = trial.debt, trial.due_ms, trial.price(now_ms)
        owed, due_ms, price = debts[:, row_of]
        new = catalogue.debuts[: len(row_of)] & (row_of < 0)
        for index in np.flatnonzero(new & catalogue.listed[: len(row_of)]).tolist():
            owed[index] = self._args.owed_in(_home(catalogue.item(index)))
            due_ms[index] = now_ms + self._within_ms if owed[index] else 0.0
        stopped = standing == _STOPPED
        level = np.where(stopped | new, 0, standing)
        return Reach(level, stopped, owed, due_ms.astype(np.int64), price)

    def to_stored(self) -> StoredUploads:
        """Return the state; the same stream gives the same."""
        return StoredUploads(
            tuple(self._rows),
            np.fromiter(self._rows.values(), dtype="<u4", count=len(self._rows)).tobytes(),
            np.fromiter(self._row_of_key, dtype="<u8", count=len(self._row_of_key)).tobytes(),
            bytes(self._standing),
            self.trials(),
            self._ended,
        )

    @classmethod
    def from_stored(cls, stored: StoredUploads, args: FairStart) -> "Uploads":
        """Return the uploads that `to_stored` wrote.

        Raises:
            ValueError: columns that belong together have different lengths.
        """
        rows = np.frombuffer(stored.rows, dtype="<u4").tolist()
        keys = np.frombuffer(stored.keys, dtype="<u8").tolist()
        if len(rows) != len(stored.ids) or len(keys) != len(stored.standing):
            raise ValueError(
                f"expected {len(stored.ids)} rows and {len(stored.standing)} keys, "
                f"got {len(rows)} and {len(keys)}"
            )
        uploads = cls(args)
        uploads._rows = dict(zip(stored.ids, rows, strict=True))
        uploads._row_of_key = {key: row for row, key in enumerate(keys)}
        uploads._standing = bytearray(stored.standing)
        uploads._trials = {trial.row: trial for trial in stored.trials}
        uploads._owing = {trial.row: trial for trial in stored.trials if trial.is_owing}
        uploads._ended = stored.ended
        return uploads

    def _enter(self, item: Item, born_ms: int) -> None:
        """Give a debut the row of its near-duplicates, or one of its own with all that it is owed.

        It is listed by whoever let it enter.
        """
        row = self._row_of_key.setdefault(duplicate_key(item), len(self._row_of_key))
        self._rows[item.item_id] = row
        if row < len(self._standing):
            return
        home = _home(item)
        self._standing.append(0)
        self._trials[row] = Trial(
            row=row,
            item_id=item.item_id,
            creator=item.creator,
            country=home,
            language=_language(item),
            members=[],
            born_ms=born_ms,
            owed=self._args.owed_in(home),
            due_ms=born_ms + self._within_ms,
            seen_ms=born_ms,
            level_ms=(born_ms, 0, 0, 0),
        )

    def _owe(self, trial: Trial) -> None:
        if trial.is_owing:
            self._owing[trial.row] = trial
        else:
            self._owing.pop(trial.row, None)


def _home(item: Item) -> str:
    return item.country.strip().upper()


def _language(item: Item) -> str:
    return item.language.strip().lower().replace("_", "-").partition("-")[0]
