"""Embedding beside the learner: uploads that came without a vector get one by a second put.

The state is the log: an item that was asked about says so in `Item.embedder`, so after a restart
all others are found again, in the order of their puts. Reasons and rejected designs:
`docs/decisions/item-content.md`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from threading import Event
from typing import NamedTuple

import msgspec

from env.items.content import ContentEncoder, EncodedBlock, encoded
from env.items.projections import NO_PROJECTIONS, Projections
from env.records import ItemRecord, LogLine, ProjectionRecord
from env.vocabulary import Item, ItemId
from serve.content.hook import Embedded, HookArgs, HookError, needs_embedding, with_answer
from serve.content.titles import TextsEncoder, content_blocks
from serve.content.worker import HookStopped, HookWorker
from serve.monitoring.heartbeats import EmbeddingCounts
from serve.store.ledger import put_items
from serve.store.store import Store, StoreUnavailable, Transaction, write_now

logger = logging.getLogger(__name__)
BATCH = 16
"""Items of one call: an upload waits at most for a call that has begun."""

LINES = 256
POLL_S = 0.5
RETRY_S = 60.0
"""Time between two attempts to load a hook that could be loaded at the start."""


class Asked(NamedTuple):
    """An item as its hook was asked about it, with the answer."""

    record: ItemRecord
    item: Item
    answer: Embedded


class Embedder:
    """Asks a hook about items that need it and puts them again with its answers."""

    def __init__(
        self,
        store: Store,
        args: HookArgs,
        *,
        now_ms: Callable[[], int],
        titles: TextsEncoder | None = None,
    ) -> None:
        """Start at the beginning of the items' records.

        Args:
            store: holds the items.
            args: names the hook.
            now_ms: the server's clock, for the records.
            titles: encodes titles of items that lose another hook's vector.
        """
        self._store, self._args, self._now_ms, self._titles = store, args, now_ms, titles
        self._projections = NO_PROJECTIONS
        self._offset = 0
        self._waiting: dict[ItemId, ItemRecord] = {}
        self._outdated: dict[ItemId, ItemRecord] = {}
        self._outcomes: Counter[str] = Counter()

    def counts(self) -> EmbeddingCounts:
        """Return the items that wait, and those done since the start, by outcome."""
        return EmbeddingCounts(len(self._waiting), dict(self._outcomes))

    def run(self, stop: Event, *, poll_s: float = POLL_S, retry_s: float = RETRY_S) -> None:
        """Embed until told to stop."""
        with HookWorker(self._args, stop=stop) as worker:
            while not stop.is_set():
                pause_s = poll_s
                try:
                    if self.step(worker):
                        continue
                except HookStopped:
                    return
                except HookError as error:
                    logger.warning("embedding waits: %s", error)
                    pause_s = retry_s
                except StoreUnavailable as error:
                    logger.warning("embedding waits: %s", error)
                except Exception:
                    # Uploads stay without a vector, and learning goes on.
                    logger.exception("embedding waits")
                    pause_s = retry_s
                stop.wait(pause_s)

    def step(self, worker: HookWorker) -> bool:
        """Read new records, or embed one batch; return whether there was something to do."""
        n_lines = self._read()
        if n_lines == LINES:
            return True  # a later record may have the answer
        if self._outdated:
            self._clear(list(islice(self._outdated.values(), LINES)))
            return True
        return self._put_batch(worker) or n_lines > 0

    def _read(self) -> int:
        with self._store.view() as view:
            if view.catalogue_offset() <= self._offset:
                return 0
        lines = list(self._store.item_lines(self._offset, LINES))
        for line in lines:
            self._note(line)
        return len(lines)

    def _note(self, line: LogLine) -> None:
        record = line.record
        self._offset = line.offset
        if isinstance(record, ProjectionRecord):
            self._projections = self._projections.after(record)
        if not isinstance(record, ItemRecord):
            return
        self._waiting.pop(record.item_id, None)
        self._outdated.pop(record.item_id, None)
        item = record.item
        if item is None or not needs_embedding(item, self._args.name):
            return
        (self._waiting if item.vector is None else self._outdated)[record.item_id] = record

    def _put_batch(self, worker: HookWorker) -> bool:
        """Put some items with the hook's answers; return whether any had waited."""
        batch = list(islice(self._waiting.values(), BATCH))
        items = [record.item for record in batch if record.item is not None]
        if not items:
            return False
        asked = list(map(Asked, batch, items, worker.embed(items)))
        work = partial(
            put_answers,
            asked=asked,
            hook=self._args.name,
            at_ms=self._now_ms(),
            projections=self._projections,
        )
        for item_id, answer in write_now(self._store, work):
            self._outcomes[answer.outcome] += 1
            if answer.problem:
                logger.warning("not embedded item=%s: %s", item_id, answer.problem)
        for each in asked:
            self._waiting.pop(each.item.item_id)
        return True

    def _clear(self, records: Sequence[ItemRecord]) -> None:
        """Take other hooks' vectors away first: there is one length in a catalogue."""
        before = [record.item for record in records if record.item is not None]
        after = [msgspec.structs.replace(item, vector=None, embedder="") for item in before]
        blocks = content_blocks(after, self._titles, self._projections)
        work = partial(
            _put_cleared, before=before, after=after, blocks=blocks, at_ms=self._now_ms()
        )
        n = write_now(self._store, work)
        logger.info("cleared items=%d of another hook than %s", n, self._args.name)
        for item in before:
            self._outdated.pop(item.item_id)


def put_answers(
    transaction: Transaction,
    asked: Sequence[Asked],
    hook: str,
    at_ms: int,
    projections: Projections,
) -> list[tuple[ItemId, Embedded]]:
    """Put items with a hook's answers, unless they have changed meanwhile; return what was done.

    A vector of another length than the catalogue's is a problem, and the item stays as it is.
    """
    found = transaction.find_items([each.item.item_id for each in asked])
    same = [each for each in asked if found.get(each.item.item_id) == each.item]
    known = transaction.vectors()
    answers = of_one_length([each.answer for each in same], known.length if known.n else 0)
    items = [
        with_answer(each.item, answer, hook) for each, answer in zip(same, answers, strict=True)
    ]
    encoder = ContentEncoder(projections=projections)
    blocks = [
        EncodedBlock(each.record.block, each.record.encoding)
        if item.vector is None
        else encoded(item, encoder)
        for each, item in zip(same, items, strict=True)
    ]
    put_items(transaction, items, blocks, at_ms, are_new=False)
    ids = [each.item.item_id for each in same]
    return list(zip(ids, answers, strict=True))


def of_one_length(answers: Sequence[Embedded], length: int) -> list[Embedded]:
    """Return answers of which vectors of another length are problems.

    Args:
        answers: of a hook.
        length: of the catalogue's vectors; 0: it has none, and the first vector sets it.

    >>> short, long = Embedded((1.0,)), Embedded((1.0, 0.0))
    >>> [answer.outcome for answer in of_one_length([short, long], 0)]
    ['vector', 'failed']
    """
    told = []
    for answer in answers:
        n = len(answer.vector or ())
        length = length or n
        problem = f"expected {length} numbers as in the catalogue's vectors, got {n}"
        told.append(Embedded(problem=problem) if n and n != length else answer)
    return told


def _put_cleared(
    transaction: Transaction,
    before: Sequence[Item],
    after: Sequence[Item],
    blocks: Sequence[EncodedBlock],
    at_ms: int,
) -> int:
    """Put items without a vector, unless they have changed meanwhile; return how many."""
    found = transaction.find_items([item.item_id for item in before])
    same = [k for k, item in enumerate(before) if found.get(item.item_id) == item]
    some = [after[k] for k in same], [blocks[k] for k in same]
    return put_items(transaction, *some, at_ms, are_new=False, keep_vectors=False).changed
