"""Pages of a log, checked and kept in compact form while a dataset is read.

The join drops a page's candidates early, but off-policy evaluation needs all of them with masks and
features. A reader therefore passes the log's lines through `Pages` before the join.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from env.blocks import Blocks
from env.features import SCHEMA
from env.records import Drawn, LogLine, PageRecord
from env.vocabulary import ItemId, PageId, decision_id


class Pages:
    """The selected pages, in the log's order, without cards and reasons."""

    def __init__(self, where: Callable[[PageRecord], bool] = lambda page: True) -> None:
        self.blocks = Blocks()
        self.n_drawn = 0
        self._where = where
        self._records: list[PageRecord] = []
        self._places: dict[PageId, int] = {}
        self._ids: dict[ItemId, ItemId] = {}  # so that pages share the ids of their items

    def __len__(self) -> int:
        return len(self._records)

    def watch(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Yield the lines, keeping their pages and the blocks of their items."""
        for line in lines:
            self.blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                check_line(line.offset, line.record)
                self._keep(line.record)
            yield line

    def keep(self, record: PageRecord) -> None:
        """Check a page and keep it if it was selected; a repeated page changes nothing."""
        check_page(record)
        self._keep(record)

    def _keep(self, record: PageRecord) -> None:
        if record.page_id in self._places or not self._where(record):
            return
        self._places[record.page_id] = len(self._records)
        ids = tuple(self._ids.setdefault(i, i) for i in record.candidates)
        self._records.append(msgspec.structs.replace(record, candidates=ids, cards=(), reasons=()))
        self.n_drawn += len(record.drawn)

    def place(self, page_id: PageId) -> int | None:
        """Return the index of a page among those kept, or None if it was not selected."""
        return self._places.get(page_id)

    def record(self, place: int) -> PageRecord:
        """Return the compact record at an index."""
        return self._records[place]

    def known(self, place: int) -> PageRecord:
        """Return the compact record at an index; raise ValueError if a block is unknown."""
        record = self._records[place]
        check_known(record, self.blocks)
        return record


def check_line(offset: int, record: PageRecord) -> None:
    """Check a page and name the line of the log on failure."""
    try:
        check_page(record)
    except ValueError as error:
        raise ValueError(f"log line {offset}: {error}") from error


def check_known(record: PageRecord, blocks: Blocks) -> None:
    """Raise ValueError if a candidate's block is in no line that passed."""
    for i, item_id in enumerate(record.candidates):
        if record.blocks[8 * i : 8 * i + 8] not in blocks:
            raise ValueError(
                f"page {record.page_id} has candidate {item_id}, whose features are not in "
                "the log; is it read from its beginning?"
            )


def check_page(record: PageRecord) -> None:
    """Check that a page can support an estimate.

    Raises:
        ValueError: a propensity is out of (0, 1], a slot is not on the page, an action is not a
            candidate or not on its slot's mask, or the feature schema is another one.
    """
    if record.feature_schema != SCHEMA:
        raise ValueError(
            f"expected features of schema {SCHEMA}, got {record.feature_schema} in page "
            f"{record.page_id}; read logs of one schema at a time"
        )
    for drawn in record.drawn:
        _check_drawn(record, drawn)


def _check_drawn(record: PageRecord, drawn: Drawn) -> None:
    name = decision_id(record.page_id, drawn.slot)
    if not 0.0 < drawn.propensity <= 1.0:
        raise ValueError(
            f"propensity must be in (0, 1], got {drawn.propensity} in decision {name}; "
            "was the pmf masked after the draw?"
        )
    if not 0 <= drawn.slot < len(record.slots):
        raise ValueError(
            f"slot must be one of {len(record.slots)}, got {drawn.slot} in decision {name}"
        )
    if not 0 <= drawn.action < len(record.candidates):
        raise ValueError(
            f"action must be one of {len(record.candidates)} candidates, got {drawn.action} "
            f"in decision {name}"
        )
    mask = record.rules[record.slots[drawn.slot]].mask
    if not mask[drawn.action // 8] >> (drawn.action % 8) & 1:
        raise ValueError(
            f"action must be on the mask of its slot, got {drawn.action} in decision {name}; "
            "was the page changed after the draw?"
        )
