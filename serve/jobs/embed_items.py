"""Items of an import with their vectors and static blocks, made before anything is written.

Several processes run the hook at once; an item that it was asked about before is left to the put,
which keeps the answer. See `serve.content`.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue

from env.items.content import ContentEncoder, EncodedBlock, embedded_text
from env.items.projections import LEAST_ITEMS, Projections
from env.records import ProjectionRecord
from env.vocabulary import Item
from serve.config import Config
from serve.content.embedding import BATCH, of_one_length
from serve.content.hook import Embedded, HookArgs, HookError, needs_embedding, with_answer
from serve.content.titles import (
    EncodedTexts,
    TextsEncoder,
    configured_titles,
    content_blocks,
    encode_texts,
)
from serve.content.worker import HookWorker
from serve.errors import JobError
from serve.learn.projections import AT_IMPORT, first_projections, known_projections
from serve.store.data_folder import open_data

logger = logging.getLogger(__name__)
MAX_WORKERS = 4
"""Processes that run the hook, at most; each holds its model."""

Advance = Callable[[int], None]
"""Called with the number of steps done since the last call; an item takes two."""


@dataclass(frozen=True, slots=True)
class EmbeddedItems:
    """Items as they are to be put.

    Attributes:
        items: in the order given.
        blocks: of the items.
        projections: what encoded them.
        learned: records of those among the projections that are new.
        outcomes: number of items that the hook was asked about, by outcome.
    """

    items: list[Item]
    blocks: list[EncodedBlock]
    projections: Projections
    learned: list[ProjectionRecord]
    outcomes: Counter[str] = field(default_factory=Counter)


def embed_items(
    config: Config, items: Sequence[Item], now_ms: int, advance: Advance | None = None
) -> EmbeddedItems:
    """Embed media by the configured hook, and titles; learn projections that are not known yet.

    Raises:
        JobError: the hook or the encoder of titles cannot be loaded.
    """
    tell = advance or _tell_nobody
    titles = configured_titles(config)
    args = HookArgs.of(config)
    given, outcomes = list(items), Counter[str]()
    index = [] if args is None else _waiting(config, items, args.name)
    tell(len(items) - len(index))
    if args is not None and index:
        answers = _ask(config, args, [items[k] for k in index], tell)
        for k, answer in zip(index, of_one_length(answers, _length(config, items)), strict=True):
            outcomes[answer.outcome] += 1
            given[k] = with_answer(items[k], answer, args.name)
            if answer.problem:
                logger.warning("not embedded item=%s: %s", items[k].item_id, answer.problem)
    projections, learned, texts = _project(config, given, titles, now_ms)
    blocks = content_blocks(given, titles, projections, tell, texts)
    return EmbeddedItems(given, blocks, projections, learned, outcomes)


def _project(
    config: Config, items: Sequence[Item], titles: TextsEncoder | None, now_ms: int
) -> tuple[Projections, list[ProjectionRecord], EncodedTexts | None]:
    """Return the projections to encode with, the records of new ones, and texts encoded for it."""
    with open_data(config, must_exist=False) as store:
        projections = known_projections(store)
    with_text = (item for item in items if item.vector is None and embedded_text(item))
    sample = [] if "title" in projections.learned else list(islice(with_text, AT_IMPORT))
    texts = encode_texts(titles, sample) if len(sample) >= LEAST_ITEMS else None
    learned = first_projections(items, ContentEncoder(texts, projections), now_ms)
    for record in learned:
        projections = projections.after(record)
    return projections, learned, texts


def _waiting(config: Config, items: Sequence[Item], hook: str) -> list[int]:
    """Return the indices of the items that the hook is to be asked about."""
    index = [k for k, item in enumerate(items) if needs_embedding(item, hook)]
    if not index:
        return []
    with open_data(config, must_exist=False) as store, store.view() as view:
        known = view.find_items([items[k].item_id for k in index])
    asked = {item.item_id: item.media for item in known.values() if not needs_embedding(item, hook)}
    return [k for k in index if asked.get(items[k].item_id) != items[k].media]


def _length(config: Config, items: Sequence[Item]) -> int:
    """Return the length that vectors have: that of the import's own, or the catalogue's, or 0."""
    own = next((len(item.vector) for item in items if item.vector is not None), 0)
    with open_data(config, must_exist=False) as store, store.view() as view:
        known = view.vectors()
    return own or (known.length if known.n else 0)


def _ask(config: Config, args: HookArgs, items: Sequence[Item], tell: Advance) -> list[Embedded]:
    """Return the hook's answers, from several processes, in the order of the items."""
    parts = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    n_workers = min(os.cpu_count() or 1, len(parts), MAX_WORKERS)
    free: SimpleQueue[HookWorker] = SimpleQueue()

    def ask(part: Sequence[Item]) -> list[Embedded]:
        worker = free.get()
        try:
            return worker.embed(part)
        finally:
            free.put(worker)

    def told(pool: ThreadPoolExecutor) -> Iterator[Embedded]:
        for answers in pool.map(ask, parts):
            tell(len(answers))
            yield from answers

    with ExitStack() as stack:
        for _ in range(n_workers):
            free.put(stack.enter_context(HookWorker(args)))
        pool = stack.enter_context(ThreadPoolExecutor(n_workers))
        try:
            return list(told(pool))
        except HookError as error:
            raise JobError(f"content.embed: {error}") from error


def _tell_nobody(n: int) -> None:
    """Ignore progress."""
