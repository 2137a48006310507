"""Our own log as a Source, in bounded memory: read once to join, then once per pass for its pages.

The first reading joins feedback to decisions and writes one row per decision to disk. Each later
reading meets the pages in the same order, attaches their rows by offset, and stops where the first
one did. Pages without a row are kept for their draws, which test the propensities. Memory use:
`docs/decisions/evaluation-data.md`.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile

import numpy as np

from env.pages.records import Blocks
from env.records import LogLine, PageRecord, UserRecord
from env.reward import Reward
from env.vocabulary import Interaction, Ints, Page, PageId, UserKey
from replay.join.join import LATE_MS, Join
from replay.join.page_batches import Behaviour, Loggers, PageRows, page_batches
from replay.join.rows import ROW, CoverageCounts, RowMaker, Table, check_known, check_line
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
    ) -> None:
        """Read the log once and join it; errors are those of `replay.join.dataset.read`.

        Args:
            arm: experiment arm to read; empty: all pages.
            after: only pages after this offset count.
            behaviour: finds the logging policies, which test the propensities.
            loggers: makes, for each reading, what finds all policies that served at a time, whose
                mixture then gives the propensities; None: a page's own policy gives them.
            advance: progress callback, given the number of lines read.
        """
        self._lines = lines
        self._loggers = loggers
        self._behaviour, self._arm, self._after = behaviour, arm, after
        self.reward_version = reward.version
        self.reward_range = _range_of(reward)
        reading = _Reading(lines, reward, arm, after, advance)
        self._table = _spilled(reading.rows())
        self._end = reading.end
        self._order = np.lexsort((self._table["slot"], self._table["page"]))
        self.users = reading.users()
        self.coverage = CoverageCounts(
            reading.places.n_drawn, reading.making.n_seen, reading.making.n_censored
        )

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self._table)

    def share_until(self, offset: int) -> float:
        """Return the share of the decisions whose pages stand at or before this offset."""
        return float((self._table["page"] <= offset).mean()) if len(self) else 0.0

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


def _range_of(reward: Reward) -> tuple[float, float] | None:
    low, high = reward.low(), reward.high()
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
        reward: Reward,
        arm: str,
        after: int,
        advance: Callable[[int], None],
    ) -> None:
        self._lines, self._arm, self._after, self._advance = lines, arm, after, advance
        self._join = Join(reward, grace_ms=LATE_MS)
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

    def _closed(self) -> Iterator[Interaction]:
        for line in self._lines():
            record, self.end = line.record, line.offset
            if isinstance(record, PageRecord):
                check_line(line.offset, record)
                self._arms.setdefault(record.user, record.arm)
                if _counts(record, line.offset, self._arm, self._after):
                    self.places.keep(line.offset, record)
            yield from self._join.fold(record)
            if line.offset % _EVICT_EVERY == 0:
                self.places.evict(self._join)
            self._advance(1)
        yield from self._join.flush()


class _OpenPages:
    """Selected pages of which the join may still close a decision."""

    def __init__(self) -> None:
        self.n_drawn = 0
        self._offsets: dict[PageId, int] = {}
        self._records: dict[int, PageRecord] = {}

    def keep(self, offset: int, record: PageRecord) -> None:
        if record.page_id in self._offsets:
            return
        self._offsets[record.page_id] = offset
        self._records[offset] = record
        self.n_drawn += len(record.drawn)

    def evict(self, join: Join) -> None:
        for page_id in [page_id for page_id in self._offsets if not join.is_open(page_id)]:
            del self._records[self._offsets.pop(page_id)]

    def place(self, page_id: PageId) -> int | None:
        return self._offsets.get(page_id)

    def record(self, place: int) -> PageRecord:
        return self._records[place]


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
