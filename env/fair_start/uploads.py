"""All uploads, by row: the trials under way, and what is kept of those that are over.

Near-duplicates of one creator with the same home country share a row while its trial is under way.
Whatever else looks like them has a row of its own: a copy by another user must neither take the
original down with it nor ride on what that has proved. Of what is over a creator's next copy
inherits only that it was stopped; for the rest it starts at the bottom, and is owed nothing, since
that was paid. (Where creators are unknown nothing is inherited, for it may be another user's.)

What comes to show something else (another title, length or address of the video) starts its trial
anew, in whatever pool it was, and is owed no more than before; what was stopped remains so.

Of a trial that is over a byte is kept (its standing), and a record for the audit of the latest
`MAX_REMEMBERED`; so what grows with the age of an installation is an id and 21 bytes an upload.

Rejected: near-duplicates whoever made them as one upload (whoever copies a title could have the
original stopped, or skip the pools), and a row for each state of an item (a debt for each).
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
from env.items.content import duplicate_key, home_country, primary_language
from env.items.statistics import Places
from env.records import ItemRecord, item_key
from env.vocabulary import Ints, Item, ItemId


class StoredUploads(msgspec.Struct, frozen=True, array_like=True, tag="uploads/2"):
    """The state of `env.fair_start.uploads.Uploads`.

    Attributes:
        ids: of all items that ever had a row.
        rows: of each, 4 bytes.
        contents: of each, 8 bytes.
        keys: of each row, 8 bytes.
        standing: of each row, a byte.
        trials: that are under way.
        ended: of the latest others a record, by row.
    """

    ids: tuple[ItemId, ...]
    rows: bytes
    contents: bytes
    keys: bytes
    standing: bytes
    trials: list[Trial]
    ended: dict[int, UploadState]

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
        """Return what to keep; the same state gives the same."""
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
        """Return the rows by item.

        Raises:
            ValueError: there are more or fewer than ids.
        """
        return self._by_id(np.frombuffer(self.rows, dtype="<u4").tolist(), "rows")

    def content_of(self) -> dict[ItemId, int]:
        """Return the contents by item.

        Raises:
            ValueError: there are more or fewer than ids.
        """
        return self._by_id(np.frombuffer(self.contents, dtype="<u8").tolist(), "contents")

    def key_of(self) -> list[int]:
        """Return the keys by row.

        Raises:
            ValueError: there are more or fewer than rows that stand somewhere.
        """
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
"""Standing of an upload that was stopped; that of the others is their level."""

_GONE = STOPPED + 1
"""Of a row whose items were taken down, or have another row by now."""


class Uploads:
    """The uploads that ever had a debut."""

    def __init__(self, args: FairStart, max_remembered: int = MAX_REMEMBERED) -> None:
        """Start without any; of those that are over, records of so many are kept."""
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
        """Return the trial of an item; None where it has none, or it is over."""
        row = self._rows.get(item_id)
        return None if row is None else self._trials.get(row)

    def put(self, record: ItemRecord, earliest_ms: int, now_ms: int) -> None:
        """Let a debut enter; what is taken down or unlisted waits until it is back.

        An upload that moves to another home takes its trial along.

        Args:
            record: of any item.
            earliest_ms: a debut dated before that is born now.
            now_ms: the clock.
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
        """Keep in step with a trial that moved.

        Args:
            trial: one of these.
            audited: what is to be kept of it, if it is over.
        """
        self._stand(trial)
        if not trial.is_over:
            return
        del self._trials[trial.row]
        self._ended[trial.row] = audited(trial)
        if len(self._ended) > self._max_remembered:
            del self._ended[next(iter(self._ended))]

    def trials(self) -> list[Trial]:
        """Return the trials under way, by row."""
        return [self._trials[row] for row in sorted(self._trials)]

    def owing(self) -> list[Trial]:
        """Return the trials that are to be shown because they are owed, by row.

        The order is that of debuts, so that sums over them are the same after a restart.
        """
        return [self._owing[row] for row in sorted(self._owing)]

    def states(self, audited: Callable[[Trial], UploadState]) -> list[UploadState]:
        """Return a record an upload, by row: all that are under way and the latest others."""
        states = {row: audited(trial) for row, trial in self._trials.items()} | self._ended
        return [states[row] for row in sorted(states)]

    @property
    def standing(self) -> bytearray:
        """How far each row has come, its level or `STOPPED` and beyond; nobody writes to it."""
        return self._standing

    def owing_in(self, row: int) -> Trial | None:
        """Return the trial of a row if it is to be shown because it is owed."""
        return self._owing.get(row)

    def rows_in(self, catalogue: Catalogue) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none."""
        return self._places.of(catalogue, self._rows)

    def to_stored(self) -> StoredUploads:
        """Return the state; the same stream gives the same."""
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
        """Give an item the row of its near-duplicates, or one of its own.

        It is listed by whoever let it enter.

        Args:
            item: as uploaded or changed.
            born_ms: when its trial begins, if it is the first in its row.
            is_new: whether it may be owed anything; not if it was there before.
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
        """Return whether an item has what its near-duplicate has: its trial, or its end."""
        trial = self._trials.get(row)
        if trial is not None:
            return trial.level < OPEN_LEVEL
        return self._standing[row] == STOPPED and item.creator != ""

    def _change(self, item: Item, now_ms: int) -> None:
        """Note what an item is now; what shows something else starts anew and is owed no more."""
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
        """Give an item that has left its near-duplicates another row.

        Returns:
            Its trial, if that goes with it: if no near-duplicate is left behind and there is none
            where it comes to.
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
        """Forget the record of an end where it is of this item, which has another row now."""
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
        """Keep in step with where a trial stands, and whether it is owed anything."""
        standing = _GONE if trial.stopped == TAKEN_DOWN else STOPPED
        self._standing[trial.row] = standing if trial.stopped else trial.level
        if trial.is_owing:
            self._owing[trial.row] = trial
        else:
            self._owing.pop(trial.row, None)


def _key(item: Item) -> int:
    """Return what near-duplicates have in common that share a row."""
    return item_key(f"{duplicate_key(item)} {home_country(item)} {item.creator}")


def _content(item: Item) -> int:
    """Return what changes where an item comes to show something else: where its media is.

    Not the address's query, which is often a signature that changes. Without media it is what makes
    near-duplicates one; with it, another title is the same video. An address that cannot be parsed
    may stand in a log, though none is let in any more; it counts as it is written, up to its query.
    """
    if not item.media:
        return duplicate_key(item)
    try:
        media = urlsplit(item.media)
    except ValueError:
        return item_key(re.split(r"[?#]", item.media, maxsplit=1)[0])
    return item_key(f"{media.netloc}{media.path}")
