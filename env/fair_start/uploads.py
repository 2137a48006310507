"""All uploads by row: current trials, and a compact record of ended ones.

Near-duplicates of one creator with the same home share a row while its trial is under way; any
other copy has its own, so that it can neither stop the original nor profit from it. Storage for an
ended upload is an id and 21 bytes. Rules for copies and changed content, and rejected alternatives:
`docs/decisions/upload-identity.md`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec
import numpy as np

from env.fair_start.budget import HOUR_MS
from env.fair_start.reach import UploadState
from env.fair_start.settings import OPEN_LEVEL, FairStart
from env.fair_start.trial import TAKEN_DOWN, Trial
from env.items.catalogue import Catalogue
from env.items.content import duplicate_key, home_country
from env.items.statistics import Places
from env.records import ItemRecord, item_key
from env.vocabulary import Ints, Item, ItemId, primary_language


class StoredUploads(msgspec.Struct, frozen=True, array_like=True, tag="uploads/2"):
    """The state of `env.fair_start.uploads.Uploads`."""

    ids: tuple[ItemId, ...]  # all items that ever had a row
    rows: bytes  # row of each id, 4 bytes each
    contents: bytes  # content hash of each id, 8 bytes each
    keys: bytes  # near-duplicate key of each row, 8 bytes each
    standing: bytes  # level or end of each row, a byte each
    trials: list[Trial]  # current trials
    ended: dict[int, UploadState]  # audit records of the latest ended trials, by row

    @classmethod
    def of(
        cls,
        rows: Mapping[ItemId, int],
        contents: Mapping[ItemId, int],
        keys: Sequence[int],
        standing: bytes,
        trials: list[Trial],
        ended: dict[int, UploadState],
    ) -> "StoredUploads":
        """Return the stored form; the same state gives the same bytes."""
        return cls(
            tuple(rows),
            np.fromiter(rows.values(), dtype="<u4", count=len(rows)).tobytes(),
            np.array([contents[item_id] for item_id in rows], dtype="<u8").tobytes(),
            np.array(keys, dtype="<u8").tobytes(),
            standing,
            trials,
            ended,
        )

    def row_of(self) -> dict[ItemId, int]:
        """Return the rows by item; raise ValueError unless there is one an id."""
        return self._by_id(np.frombuffer(self.rows, dtype="<u4").tolist(), "rows")

    def content_of(self) -> dict[ItemId, int]:
        """Return the content hashes by item; raise ValueError unless there is one an id."""
        return self._by_id(np.frombuffer(self.contents, dtype="<u8").tolist(), "contents")

    def key_of(self) -> list[int]:
        """Return the keys by row; raise ValueError unless there is one a standing."""
        keys: list[int] = np.frombuffer(self.keys, dtype="<u8").tolist()
        if len(keys) != len(self.standing):
            raise ValueError(f"expected {len(self.standing)} keys, got {len(keys)}")
        return keys

    def _by_id(self, column: list[int], name: str) -> dict[ItemId, int]:
        if len(column) != len(self.ids):
            raise ValueError(f"expected {len(self.ids)} {name}, got {len(column)}")
        return dict(zip(self.ids, column, strict=True))


MAX_REMEMBERED = 10_000

STOPPED = OPEN_LEVEL + 1
"""Standing of a stopped upload; the standing of others is their level."""

_GONE = STOPPED + 1
"""Standing of a row whose items were taken down or have another row now."""


class Uploads:
    """All uploads ever launched."""

    def __init__(self, args: FairStart, max_remembered: int = MAX_REMEMBERED) -> None:
        """Start empty; `max_remembered` ended trials keep an audit record."""
        self._args, self._max_remembered = args, max_remembered
        self._within_ms = int(args.within_h * HOUR_MS)
        self._rows: dict[ItemId, int] = {}
        self._contents: dict[ItemId, int] = {}
        self._keys: list[int] = []
        self._latest: dict[int, int] = {}
        self._standing = bytearray()
        self._trials: dict[int, Trial] = {}
        self._owing: dict[int, Trial] = {}
        self._ended: dict[int, UploadState] = {}
        self._places = Places()

    def trial(self, item_id: ItemId) -> Trial | None:
        """Return an item's trial; None without one, or if it is over."""
        row = self._rows.get(item_id)
        return None if row is None else self._trials.get(row)

    def put(self, record: ItemRecord, earliest_ms: int, now_ms: int) -> None:
        """Start the trial of a launch; a takedown or delisting suspends it.

        A launch dated before `earliest_ms` counts as launched now. An upload that moves to another
        home keeps its trial.
        """
        item = record.item
        if item is not None and record.item_id in self._rows:
            self._change(item, now_ms)
        elif item is not None and record.debut:
            self._enter(item, record.at_ms if record.at_ms >= earliest_ms else now_ms)
        trial = self.trial(record.item_id)
        if trial is None:
            return
        if item is None:
            trial.leave(record.item_id, record.at_ms)
        elif item.listed:
            trial.enlist(record.item_id, primary_language(item.language), record.at_ms)
        else:
            trial.unlist(record.item_id, record.at_ms)
        self._stand(trial)

    def follow(self, trial: Trial, audited: Callable[[Trial], UploadState]) -> None:
        """Update the indices after a trial changed; store `audited(trial)` if it is over."""
        self._stand(trial)
        if not trial.is_over:
            return
        del self._trials[trial.row]
        self._ended[trial.row] = audited(trial)
        if len(self._ended) > self._max_remembered:
            del self._ended[next(iter(self._ended))]

    def trials(self) -> list[Trial]:
        """Return the current trials, by row."""
        return [self._trials[row] for row in sorted(self._trials)]

    def owing(self) -> list[Trial]:
        """Return the trials with a shortfall, by row, so that sums are the same after a restart."""
        return [self._owing[row] for row in sorted(self._owing)]

    def states(self, audited: Callable[[Trial], UploadState]) -> list[UploadState]:
        """Return an audit record an upload, by row: all under trial and the latest ended."""
        states = {row: audited(trial) for row, trial in self._trials.items()} | self._ended
        return [states[row] for row in sorted(states)]

    @property
    def standing(self) -> bytearray:
        """Level of each row, or `STOPPED` and beyond; read-only."""
        return self._standing

    def owing_in(self, row: int) -> Trial | None:
        """Return the trial of a row if it has a shortfall."""
        return self._owing.get(row)

    def rows_in(self, catalogue: Catalogue) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none."""
        return self._places.of(catalogue, self._rows)

    def to_stored(self) -> StoredUploads:
        """Return the state; the same stream gives the same state."""
        return StoredUploads.of(
            self._rows,
            self._contents,
            self._keys,
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
        uploads = cls(args)
        uploads._rows, uploads._contents = stored.row_of(), stored.content_of()
        uploads._keys = stored.key_of()
        uploads._latest = {key: row for row, key in enumerate(uploads._keys)}
        uploads._standing = bytearray(stored.standing)
        uploads._trials = {trial.row: trial for trial in stored.trials}
        uploads._owing = {trial.row: trial for trial in stored.trials if trial.is_owing}
        uploads._ended = stored.ended
        return uploads

    def _enter(self, item: Item, born_ms: int, *, is_new: bool = True) -> None:
        """Give an item the row of its near-duplicates, or one of its own; the caller lists it.

        Without `is_new`, as for an item that was there before, it gets no delivery guarantee.
        """
        key = _key(item)
        before = self._latest.get(key)
        if before is not None and self._is_shared(before, item):
            self._place(item, before)
            return
        was_paid = before is not None and item.creator != ""
        row = self._add_row(key)
        self._place(item, row)
        home = home_country(item)
        self._trials[row] = Trial(
            row=row,
            item_id=item.item_id,
            creator=item.creator,
            country=home,
            language=primary_language(item.language),
            members={},
            born_ms=born_ms,
            owed=self._args.owed_in(home) if is_new and not was_paid else 0,
            due_ms=born_ms + self._within_ms,
            seen_ms=born_ms,
            level_ms=(born_ms, 0, 0, 0),
            away_ms=born_ms,
        )

    def _is_shared(self, row: int, item: Item) -> bool:
        """Return whether an item shares its near-duplicate's trial, or inherits its end."""
        trial = self._trials.get(row)
        if trial is not None:
            return trial.level < OPEN_LEVEL
        return self._standing[row] == STOPPED and item.creator != ""

    def _change(self, item: Item, now_ms: int) -> None:
        """Note an item's change; changed content restarts its trial without a new guarantee."""
        row, is_other = self._rows[item.item_id], self._contents[item.item_id] != _content(item)
        self._contents[item.item_id] = _content(item)
        trial = self._trials.get(row)
        if trial is None:
            over = self._standing[row]
            if over == _GONE or (over == OPEN_LEVEL and is_other):
                self._forget(row, item.item_id)
                self._enter(item, now_ms, is_new=False)
            return
        key = _key(item)
        if key != self._keys[row]:
            trial = self._move(trial, item, key, now_ms)
        if is_other and trial is not None:
            trial.restart(now_ms)

    def _move(self, trial: Trial, item: Item, key: int, now_ms: int) -> Trial | None:
        """Give an item that is no near-duplicate of its row any more another row.

        Returns:
            The trial if it moves along: nothing is left in the old row, and the new one has none.
        """
        latest = self._latest.get(key)
        is_alone = trial.is_alone(item.item_id)
        if not is_alone or (latest is not None and self._is_shared(latest, item)):
            trial.leave(item.item_id, now_ms)
            self._stand(trial)
            if is_alone:
                self._leave_row(trial)
            self._enter(item, now_ms, is_new=False)
            return None
        self._leave_row(trial)
        trial.row = self._add_row(key)
        trial.creator, trial.country = item.creator, home_country(item)
        self._trials[trial.row] = trial
        self._place(item, trial.row)
        return trial

    def _forget(self, row: int, item_id: ItemId) -> None:
        """Drop the audit record of an item that has another row now."""
        ended = self._ended.get(row)
        if ended is not None and ended.item_id == item_id:
            del self._ended[row]

    def _add_row(self, key: int) -> int:
        row = self._latest[key] = len(self._keys)
        self._keys.append(key)
        self._standing.append(0)
        return row

    def _leave_row(self, trial: Trial) -> None:
        del self._trials[trial.row]
        self._owing.pop(trial.row, None)
        self._standing[trial.row] = _GONE

    def _place(self, item: Item, row: int) -> None:
        if item.item_id in self._rows:
            self._places.move(item.item_id, row)
        self._rows[item.item_id] = row
        self._contents[item.item_id] = _content(item)

    def _stand(self, trial: Trial) -> None:
        """Update a trial's standing and its place among the uploads with a shortfall."""
        standing = _GONE if trial.stopped == TAKEN_DOWN else STOPPED
        self._standing[trial.row] = standing if trial.stopped else trial.level
        if trial.is_owing:
            self._owing[trial.row] = trial
        else:
            self._owing.pop(trial.row, None)


def _key(item: Item) -> int:
    """Return the key that near-duplicates sharing a row have in common."""
    return item_key(f"{duplicate_key(item)} {home_country(item)} {item.creator}")


def _content(item: Item) -> int:
    """Return a hash of an item's content: its media address, else its near-duplicate key.

    The address's query is left out, as it is often a changing signature. An address that cannot be
    parsed, as older logs may hold one, counts as written, up to its query.
    """
    if not item.media:
        return duplicate_key(item)
    try:
        media = urlsplit(item.media)
    except ValueError:
        return item_key(re.split(r"[?#]", item.media, maxsplit=1)[0])
    return item_key(f"{media.netloc}{media.path}")
