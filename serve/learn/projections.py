"""The trainer of projections: it learns them, and encodes the items anew that an older one encoded.

It follows the log's item lines on a thread of its own at a low priority, beside the learner. A
projection is appended to the log, so every process that folds the catalogue encodes with it. Items
that were encoded before are put once more with their new blocks, a few at a time. A restart finds
what is left from the log alone. Derivation: `docs/decisions/item-content.md`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from threading import Event
from typing import get_args

import numpy as np

from env.columns.schema import CONTENT_DIM
from env.items.content import ContentEncoder, encoded
from env.items.projections import (
    LEAST_ITEMS,
    NO_PROJECTIONS,
    UNLEARNED,
    Projections,
    Space,
    learned_projection,
    neighbours_kept,
    second_moment_of_tastes,
)
from env.records import ItemRecord, ProjectionRecord, item_key
from env.vocabulary import Float32s, Floats, Item, ItemId
from policies.collaborative.answers import AnswerWindow
from serve.content.titles import TextsEncoder, content_blocks, encode_texts
from serve.learn.collaborative import step_back
from serve.learn.fold import LearnerState
from serve.store.ledger import put_blocks, put_projection
from serve.store.store import Store, StoreUnavailable, write_now

logger = logging.getLogger(__name__)
READ_LINES = 1_000
BATCH_ITEMS = 200
"""Items that are encoded anew in one transaction."""

PAUSE_S = 0.05
"""Rest after each such batch, so that uploads and pages go first."""

GROWTH = 4
"""A projection is learned anew when items, or answers, are this many times as many."""

LEAST_ANSWERS = 10_000
MAX_NUMBERS = 1 << 24
"""Upper bound on the numbers of all embeddings that a projection is learned from."""

PER_USER = 100
AT_IMPORT = 2_000
"""Items whose embeddings an import learns a projection from."""

SPACES: tuple[Space, ...] = get_args(Space)


class ProjectionTrainer:
    """Learns projections when enough items have embeddings, and keeps all items' blocks current."""

    def __init__(
        self,
        store: Store,
        *,
        titles: TextsEncoder | None,
        now_ms: Callable[[], int],
        least_items: int = LEAST_ITEMS,
        least_answers: int = LEAST_ANSWERS,
    ) -> None:
        """Start at the log's beginning.

        Args:
            store: holds the items.
            titles: embeds titles; None: they say nothing.
            now_ms: the server's clock.
            least_items: embeddings before the first projection.
            least_answers: answers before one that knows tastes.
        """
        self._store, self._now_ms = store, now_ms
        self._least_items, self._least_answers = least_items, least_answers
        self._titles = titles
        self._encoder = ContentEncoder(titles, NO_PROJECTIONS)
        self._sequence = 0
        # Number of the encoding of each item with an embedding, by its space.
        self._encodings = {space: dict[ItemId, int]() for space in SPACES}
        self._window: AnswerWindow | None = None  # offered and not yet looked at
        self._n_offered = 0
        # Numbers of items and answers that the newest projection of each space was learned from.
        self._n_items, self._n_answers = dict[str, int](), dict[str, int]()

    def offer(self, learning: LearnerState) -> None:
        """Take a copy of the answers when they are many more than at the last time.

        It is called on the learner's thread, between two batches.
        """
        window = learning.window
        if window is None:
            return
        if window.n_folded >= max(self._least_answers, GROWTH * self._n_offered):
            self._window, self._n_offered = window.copy(), window.n_folded

    def run(self, stop: Event, *, poll_s: float = 1.0) -> None:
        """Learn and encode until told to stop, also while the store is unavailable."""
        step_back()
        while not stop.is_set():
            try:
                is_busy = self.step()
            except StoreUnavailable as error:
                logger.warning("projections wait: %s", error)
                is_busy = False
            stop.wait(PAUSE_S if is_busy else poll_s)

    def step(self) -> bool:
        """Read what is new, then learn a projection or encode some items; return whether it did."""
        while self._read() == READ_LINES:
            pass
        window, self._window = self._window, None
        due = [space for space in SPACES if self._is_due(space, window)]
        for space in due:
            self._learn(space, window)
        return bool(due) or self._encode_some()

    def _read(self) -> int:
        lines = list(self._store.item_lines(self._sequence, READ_LINES))
        for line in lines:
            match line.record:
                case ProjectionRecord() as record:
                    projections = self._encoder.projections.after(record)
                    self._encoder = ContentEncoder(self._titles, projections)
                    self._n_items[record.space] = record.n_items
                    self._n_answers[record.space] = record.n_answers
                case ItemRecord() as record:
                    self._note(record)
                case _:
                    pass  # `item_lines` yields no other records
            self._sequence = line.offset
        return len(lines)

    def _note(self, record: ItemRecord) -> None:
        for encodings in self._encodings.values():
            encodings.pop(record.item_id, None)
        item = record.item
        space = None if item is None else self._encoder.space(item)
        if item is None or space is None:
            return
        self._encodings[space][record.item_id] = record.encoding
        if item.vector is None:
            return
        known = self._encoder.projections.learned.get(space)
        if known is not None and known.weights.shape[1] != len(item.vector):
            self._n_items[space] = 0  # the catalogue's vectors have another length now
        if record.encoding < UNLEARNED and encoded(item).block == record.block:
            self._encodings[space][record.item_id] = UNLEARNED

    def _is_due(self, space: Space, window: AnswerWindow | None) -> bool:
        n_items, n_answers = len(self._encodings[space]), 0 if window is None else window.n_folded
        if n_items < self._least_items:
            return False
        grown = n_items >= GROWTH * self._n_items.get(space, 0)
        least = max(self._least_answers, GROWTH * self._n_answers.get(space, 0))
        return grown or n_answers >= least

    def _learn(self, space: Space, window: AnswerWindow | None) -> None:
        """Learn a projection from a sample of the items, and from answers where there are enough.

        It becomes current when it is read back from the log.
        """
        sampled = self._sample(space, window)
        if len(sampled) < self._least_items or len(next(iter(sampled.values()))) <= CONTENT_DIM:
            self._n_items[space] = len(self._encodings[space])  # short ones stay as they are
            return
        embeddings = np.array(list(sampled.values()), dtype=np.float32)
        tastes = None if window is None else _tastes(window, sampled, embeddings)
        record = _learned(
            space,
            embeddings,
            self._encoder.projections,
            self._now_ms(),
            tastes=tastes,
            n_items=len(self._encodings[space]),
            n_answers=0 if window is None else window.n_folded,
        )
        if record is None:
            self._n_items[space] = len(self._encodings[space])
            logger.info("kept projection=%d of=%s", self._encoder.projections.newest(space), space)
            return
        write_now(self._store, partial(put_projection, record=record))
        logger.info(
            "learned projection=%d of=%s items=%d answers=%d",
            record.number,
            space,
            record.n_items,
            record.n_answers,
        )

    def _sample(self, space: Space, window: AnswerWindow | None) -> dict[ItemId, Float32s]:
        """Return embeddings of one length: of items that were answered, and of others at random."""
        ids = list(self._encodings[space])
        order = np.random.default_rng(len(ids)).permutation(len(ids))
        if window is not None:
            keys = window.answers(PER_USER).keys
            is_answered = np.isin([item_key(ids[k]) for k in order], keys)
            order = np.concatenate([order[is_answered], order[~is_answered]])
        found: dict[ItemId, Float32s] = {}
        length = 0
        for item, embedding in self._embedded(space, self._items(ids[k] for k in order)):
            if len(embedding) != (length or len(embedding)):
                continue
            length = len(embedding)
            found[item.item_id] = embedding
            if len(found) * length >= MAX_NUMBERS:
                break
        return found

    def _embedded(self, space: Space, items: Iterator[Item]) -> Iterator[tuple[Item, Float32s]]:
        """Yield items of a space with their embeddings, shape (m,), titles a batch at a time."""
        while some := list(islice(items, BATCH_ITEMS)):
            encoder = ContentEncoder(encode_texts(self._titles, some))
            for item in some:
                named = encoder.embedding(item)
                if named is not None and named[0] == space:
                    yield item, named[1].astype(np.float32)

    def _items(self, ids: Iterator[ItemId]) -> Iterator[Item]:
        while some := list(islice(ids, BATCH_ITEMS)):
            with self._store.view() as view:
                found = view.find_items(some)
            yield from found.values()

    def _encode_some(self) -> bool:
        """Encode some items that an older projection encoded; return whether there were any."""
        stale = list(islice(self._stale(), BATCH_ITEMS))
        if not stale:
            return False
        items = list(self._items(iter(stale)))
        blocks = content_blocks(items, self._titles, self._encoder.projections)
        write_now(
            self._store, partial(put_blocks, items=items, blocks=blocks, at_ms=self._now_ms())
        )
        return True

    def _stale(self) -> Iterator[ItemId]:
        for space, encodings in self._encodings.items():
            current = self._encoder.projections.newest(space)
            yield from (item_id for item_id, number in encodings.items() if number < current)


def first_projections(
    items: Sequence[Item], encoder: ContentEncoder, at_ms: int
) -> list[ProjectionRecord]:
    """Return projections for an import: of each space that has none, if items enough have one."""
    records = []
    for space in SPACES:
        if space in encoder.projections.learned:
            continue
        named = islice((item for item in items if encoder.space(item) == space), AT_IMPORT)
        found = [embedded[1] for embedded in map(encoder.embedding, named) if embedded is not None]
        lengths = {len(embedding) for embedding in found}
        if len(found) >= LEAST_ITEMS and len(lengths) == 1 and min(lengths) > CONTENT_DIM:
            embeddings = np.array(found, dtype=np.float32)
            n = sum(encoder.space(item) == space for item in items)
            record = _learned(space, embeddings, encoder.projections, at_ms, n_items=n)
            records += [] if record is None else [record]
    return records


def known_projections(store: Store) -> Projections:
    """Return the projections of a store's log."""
    projections = NO_PROJECTIONS
    for line in store.log.read(kinds=["projection"]):
        if isinstance(line.record, ProjectionRecord):
            projections = projections.after(line.record)
    return projections


def _learned(
    space: Space,
    embeddings: Float32s,
    projections: Projections,
    at_ms: int,
    *,
    n_items: int,
    n_answers: int = 0,
    tastes: Floats | None = None,
) -> ProjectionRecord | None:
    """Return the record of a space's next projection; None if random signs keep more."""
    before = projections.of(space, embeddings.shape[1])
    number = projections.newest(space) + 1
    projection = learned_projection(embeddings, before, number=number, tastes=tastes)
    by_signs = NO_PROJECTIONS.of(space, embeddings.shape[1])
    if neighbours_kept(projection, embeddings) < neighbours_kept(by_signs, embeddings):
        return None
    halves = projection.halves()
    return ProjectionRecord(space, number, at_ms, halves, n_items=n_items, n_answers=n_answers)


def _tastes(window: AnswerWindow, sampled: Iterable[ItemId], embeddings: Float32s) -> Floats:
    """Return the second moment of the tastes that the window's answers show."""
    answers = window.answers(PER_USER)
    keys = np.array([item_key(item_id) for item_id in sampled], dtype=np.uint64)
    order = keys.argsort()
    place = keys[order].searchsorted(answers.keys).clip(max=len(keys) - 1)
    row_of = np.where(keys[order[place]] == answers.keys, order[place], -1)
    rows = row_of[answers.items]
    known = rows >= 0
    values = answers.values[known] - answers.values[known].mean() if known.any() else np.zeros(0)
    return second_moment_of_tastes(answers.users[known], rows[known], values, embeddings)
