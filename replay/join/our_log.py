"""Our own log as a Source, in bounded memory: read once to join, then once per pass for its pages.

The first reading joins feedback to decisions and writes one row per decision to disk. Each later
reading meets the pages in the same order, attaches their rows by offset, and stops where the first
one did. Pages without a row are kept for their draws, which test the propensities. Memory use:
`docs/decisions/evaluation-data.md`.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice, takewhile

import numpy as np

from env.interface import Past
from env.pages.records import Blocks
from env.records import LogLine, PageRecord, UserRecord, item_key
from env.reward import Reward
from env.vocabulary import Example, Ints, Keys, Page, PageId, UserKey
from replay.join.page_batches import Behaviour, Loggers, PageRows, page_batches
from replay.join.rows import (
    ROW,
    CoverageCounts,
    RowMaker,
    Table,
    check_known,
    check_line,
    order_of,
)
from replay.join.whole import WholeJoin
from replay.source import Batch

Lines = Callable[[], Iterable[LogLine]]
"""Reads the whole log from its beginning at each call."""

_CHUNK = 8_192
_EVICT_EVERY = 1_024


class LogSource:
    """The decisions of a log that were seen, closed and not censored, in batches."""

    def __init__(
        self,
        lines: Lines,
        reward: Reward,
        *,
        arm: str = "",
        after: int = 0,
        behaviour: Behaviour | None = None,
        loggers: Callable[[], Loggers] | None = None,
        advance: Callable[[int], None] = lambda n: None,
        default_reward: float | None = None,
        past: Past | None = None,
    ) -> None:
        """Read the log once and join it; errors are those of `replay.join.dataset.read`.

        Args:
            arm: experiment arm to read; empty: all pages.
            after: only pages after this offset count.
            behaviour: finds the logging policies, which test the propensities.
            loggers: makes, for each reading, what finds all policies that served at a time, whose
                mixture then gives the propensities; None: a page's own policy gives them.
            advance: progress callback, given the number of lines read.
            default_reward: as in the join.
            past: finds the pages of late feedback; None: all pages stay in memory while it is read.
        """
        self._lines = lines
        self._loggers = loggers
        self._behaviour, self._arm, self._after = behaviour, arm, after
        self.reward_version = reward.version
        join = WholeJoin(reward, default_reward=default_reward, past=past)
        reading = _Reading(lines, join, arm, after, advance)
        self._table = _spilled(reading.rows())
        self.reward_range = _range_of(reward, reading.making.said)
        self._end = reading.end
        self._order = order_of(self._table)
        self.users = reading.users()
        self.coverage = CoverageCounts(
            reading.places.n_drawn, reading.making.n_seen, reading.making.n_censored
        )

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self._order)

    def share_until(self, offset: int) -> float:
        """Return the share of the decisions whose pages stand at or before this offset."""
        pages = self._table["page"][self._order]
        return float((pages <= offset).mean()) if len(self) else 0.0

    def batches(self) -> Iterator[Batch]:
        """Yield decisions in page order; raise ValueError if a candidate's features are missing."""
        loggers = None if self._loggers is None else self._loggers()
        return page_batches(self._pages(), self._behaviour, loggers=loggers)

    def _pages(self) -> Iterator[PageRows]:
        blocks, cohorts, groups = Blocks(), dict[UserKey, str](), self._groups()
        nothing = np.zeros(0, dtype=np.int64)
        wanted, rows = next(groups, (-1, nothing))
        for line in takewhile(lambda line: line.offset <= self._end, self._lines()):
            record = line.record
            blocks.fold(record)
            if isinstance(record, UserRecord) and record.profile is not None:
                cohorts[record.user] = record.profile.cohort
            if not isinstance(record, PageRecord) or not _counts(
                record, line.offset, self._arm, self._after
            ):
                continue
            table = self._table[rows if line.offset == wanted else nothing]
            if line.offset == wanted:
                wanted, rows = next(groups, (-1, nothing))
            yield PageRows(
                record=record,
                page=_page(blocks, record),
                slot=table["slot"],
                user=int(table["user"][0]) if len(table) else 0,
                reward=table["reward"],
                cohort=cohorts.get(record.user, ""),
            )

    def _groups(self) -> Iterator[tuple[int, Ints]]:
        """Yield the offset of each page that has rows, with their indices in the table."""
        page = self._table["page"][self._order]
        starts = np.flatnonzero(np.diff(page, prepend=-1))
        for start, end in zip(starts, np.append(starts, len(page))[1:], strict=True):
            yield int(page[start]), self._order[start:end]


def _counts(page: PageRecord, offset: int, arm: str, after: int) -> bool:
    return offset > after and arm in ("", page.arm)


def _range_of(reward: Reward, said: Collection[str]) -> tuple[float, float] | None:
    low, high = reward.low(said), reward.high(said)
    return (low, high) if low < high else None


def _page(blocks: Blocks, record: PageRecord) -> Page:
    try:
        return blocks.page(record)
    except KeyError:
        check_known(record, blocks)  # its error names the missing block
        raise


class _Reading:
    def __init__(
        self,
        lines: Lines,
        join: WholeJoin,
        arm: str,
        after: int,
        advance: Callable[[int], None],
    ) -> None:
        self._lines, self._arm, self._after, self._advance = lines, arm, after, advance
        self._join = join
        self.places = _OpenPages()
        self.making = RowMaker()
        self.end = 0
        self._arms: dict[UserKey, str] = {}

    def rows(self) -> Iterator[tuple[object, ...]]:
        return self.making.rows(self._closed(), self.places)

    def users(self) -> dict[str, int]:
        """Return the number of users by arm; a user who changed arms counts in the first one."""
        names, counts = np.unique(list(self._arms.values()) or [""], return_counts=True)
        return {str(name): int(n) for name, n in zip(names, counts, strict=True) if name}

    def _closed(self) -> Iterator[Example]:
        for line in self._lines():
            record, self.end = line.record, line.offset
            if isinstance(record, PageRecord):
                check_line(line.offset, record)
                self._arms.setdefault(record.user, record.arm)
                if _counts(record, line.offset, self._arm, self._after):
                    self.places.keep(line.offset, record)
            examples = self._join.fold(record)
            self.places.lend(self._join.corrected_page)
            yield from examples
            if line.offset % _EVICT_EVERY == 0:
                self.places.evict(self._join)
            self._advance(1)
        yield from self._join.flush()


class _OpenPages:
    """Selected pages of which the join may still close a decision, and the places of all others."""

    def __init__(self) -> None:
        self.n_drawn = 0
        self._offsets: dict[PageId, int] = {}
        self._records: dict[int, PageRecord] = {}
        self._closed = _ClosedPlaces()
        self._lent: PageRecord | None = None

    def keep(self, offset: int, record: PageRecord) -> None:
        if record.page_id in self._offsets:
            return
        self._offsets[record.page_id] = offset
        self._records[offset] = record
        self.n_drawn += len(record.drawn)

    def lend(self, page: PageRecord | None) -> None:
        """Take the record of the page that was last corrected, which may be let go already."""
        self._lent = page

    def evict(self, join: WholeJoin) -> None:
        gone = [page_id for page_id in self._offsets if not join.is_open(page_id)]
        offsets = [self._offsets.pop(page_id) for page_id in gone]
        if gone:
            self._closed.add(gone, offsets)
        for offset in offsets:
            del self._records[offset]

    def place(self, page_id: PageId) -> int | None:
        offset = self._offsets.get(page_id)
        return self._closed.place(page_id) if offset is None else offset

    def record(self, place: int) -> PageRecord:
        record = self._records.get(place, self._lent)
        if record is None:
            raise KeyError(f"no record of the page at offset {place}")
        return record


class _ClosedPlaces:
    """Offsets of pages by the 64-bit hash of their ids: 16 bytes a page, in growing runs."""

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Ints]] = []  # each sorted, and longer than the next

    def add(self, page_ids: Sequence[PageId], offsets: Sequence[int]) -> None:
        keys = np.array([item_key(page_id) for page_id in page_ids], dtype=np.uint64)
        places = np.array(offsets, dtype=np.int64)
        while self._runs and len(self._runs[-1][0]) <= 2 * len(keys):
            older, at = self._runs.pop()
            keys, places = np.concatenate([older, keys]), np.concatenate([at, places])
        order = np.argsort(keys)
        self._runs.append((keys[order], places[order]))

    def place(self, page_id: PageId) -> int | None:
        key = np.uint64(item_key(page_id))
        for keys, places in self._runs:
            k = int(np.searchsorted(keys, key))
            if k < len(keys) and keys[k] == key:
                return int(places[k])
        return None


def _spilled(rows: Iterator[tuple[object, ...]]) -> Table:
    """Return rows as a table in a memory-mapped, unlinked file."""
    with tempfile.TemporaryFile() as file:
        n = 0
        while len(chunk := np.fromiter(islice(rows, _CHUNK), dtype=ROW)):
            file.write(chunk.tobytes())
            n += len(chunk)
        file.flush()
        if n == 0:
            return np.empty(0, dtype=ROW)
        return np.memmap(file, dtype=ROW, mode="r", shape=(n,))
