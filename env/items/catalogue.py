"""The catalogue: all items as columns, a fold of the log's records of items and projections.

Retrieval, filters and features read whole columns, so a request touches no Python object per item.
An item keeps its index for good; a takedown blanks the item and leaves the index unused. Feature
blocks come from the records and are never recomputed. Memory, cost of an upload and rejected
layouts: `docs/decisions/item-columns.md`.
"""

from array import array
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import distinct, is_among
from env.columns.scales import bait_beyond_mean
from env.columns.schema import (
    BLOCK_WIDTHS,
    CONTENT_DIM,
    N_STATIC,
    VECTOR_DIM,
    content_of,
    static_of,
)
from env.items.codes import Codes, ItemCodes
from env.items.content import MAX_COPY_KEYS, MAX_TAGS
from env.items.orders import Groups, Latest, ShortKeyIndex
from env.items.projections import NO_PROJECTIONS
from env.records import (
    Card,
    CatalogueRecord,
    ItemRecord,
    ProjectionRecord,
    block_hash,
    item_key,
    pack_halves,
    unpack_halves,
)
from env.vocabulary import (
    Bools,
    Float32s,
    Floats,
    Ints,
    Item,
    ItemId,
    Keys,
    ShortKeys,
    primary_language,
)

_CAPACITY = 1024
_Column = npt.NDArray[Any]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Item)


class Catalogue:
    """All items ever put, as columns.

    The columns are read-only views that each `apply` replaces, so take them anew for each request.
    One thread applies while others read: `debuts` grows last, so no column is shorter than it, and
    a read was consistent if `sequence` did not change meanwhile. Codes are 0 where unknown, see
    `env.items.codes`.

    Attributes:
        sequence: of the last record applied, see `apply`.
        ids: item ids by index.
        codes: numbers of names, as they stand in the columns.
        projections: with which new items are encoded.
    """

    keys: Keys  # (n,) `env.records.item_key`
    hashes: Keys  # (n,) content hash of the block; its bytes are those of `block_hash`
    blocks: Float32s  # (n, N_STATIC) quantised
    # (n, d) content vectors, of unit length or zero: d is VECTOR_DIM until one has more numbers,
    # then CONTENT_DIM
    vectors: Float32s
    creators: Ints  # (n,) code
    countries: Ints  # (n,) code of the home, `env.items.content.home_country`
    languages: Ints  # (n,) code
    market_sets: Ints  # (n,) code of the set of countries that an item is bound to
    tags: Ints  # (n, MAX_TAGS) codes of the first tags, 0 where there are no more
    n_tags_of: Floats  # (n,) how many of them an item has, 1 at least
    duplicates: Ints  # (n,) code that near-duplicates share
    copies: Ints  # (n, MAX_COPY_KEYS) codes of `env.items.content.copy_keys`, 0 for none
    has_copies: Bools  # (n,) whether another item has, or had, one of its copy codes
    published_ms: Ints  # (n,) 0 where unknown
    duration_s: Floats  # (n,) 0 where unknown
    sounds: Ints  # (n,) code
    ratings: Ints  # (n,) least age in years
    baits: Floats  # (n,) from `env.columns.scales.MEAN_BAIT` on, 0 where unknown
    listed: Bools  # (n,)
    debuts: Bools  # (n,) whether it came as new to the public, `ItemRecord.debut`

    def __init__(self) -> None:
        self.sequence = 0
        self.ids: list[ItemId] = []
        self.codes = Codes()
        self.projections = NO_PROJECTIONS
        self._items: list[bytes] = []
        self._index: dict[ItemId, int] = {}
        self._by_short_key = ShortKeyIndex()
        self._latest = Latest()
        self._changed = array("i")
        self._of_creator, self._of_tag, self._alike = Groups(), Groups(), Groups()
        self._of_copies = Groups()
        self._with_vector: set[int] = set()
        self._arrays: dict[str, _Column] = {
            "keys": np.zeros(_CAPACITY, dtype=np.uint64),
            "hashes": np.zeros(_CAPACITY, dtype="<u8"),
            "blocks": np.zeros((_CAPACITY, N_STATIC), dtype=np.float32),
            "vectors": np.zeros((_CAPACITY, VECTOR_DIM), dtype=np.float32),
            "creators": np.zeros(_CAPACITY, dtype=np.int64),
            "countries": np.zeros(_CAPACITY, dtype=np.int64),
            "languages": np.zeros(_CAPACITY, dtype=np.int64),
            "market_sets": np.zeros(_CAPACITY, dtype=np.int64),
            "tags": np.zeros((_CAPACITY, MAX_TAGS), dtype=np.int64),
            "n_tags_of": np.ones(_CAPACITY, dtype=np.float64),
            "duplicates": np.zeros(_CAPACITY, dtype=np.int64),
            "copies": np.zeros((_CAPACITY, MAX_COPY_KEYS), dtype=np.int64),
            "has_copies": np.zeros(_CAPACITY, dtype=np.bool_),
            "published_ms": np.zeros(_CAPACITY, dtype=np.int64),
            "duration_s": np.zeros(_CAPACITY, dtype=np.float64),
            "sounds": np.zeros(_CAPACITY, dtype=np.int64),
            "ratings": np.zeros(_CAPACITY, dtype=np.int64),
            "baits": np.zeros(_CAPACITY, dtype=np.float64),
            "listed": np.zeros(_CAPACITY, dtype=np.bool_),
            "debuts": np.zeros(_CAPACITY, dtype=np.bool_),
        }
        self._show_columns()

    def __len__(self) -> int:
        """Return the number of indices in use, by items listed or not."""
        return len(self.ids)

    @property
    def is_of_tags(self) -> bool:
        """Whether no item has its own vector, so that tags and items share one space."""
        return not self._with_vector

    def apply(self, record: CatalogueRecord, sequence: int | None = None) -> None:
        """Put, change or take down an item, or learn how the next ones are encoded.

        Args:
            record: of an item, with its block, a takedown having neither; or of a projection.
            sequence: position of the record in the log; None counts on from the last.

        Raises:
            ValueError: the record's item has another id, or its block is malformed.
        """
        if isinstance(record, ProjectionRecord):
            self.projections = self.projections.after(record)
        else:
            self._apply_item(record)
        self.sequence = self.sequence + 1 if sequence is None else sequence

    def _apply_item(self, record: ItemRecord) -> None:
        if record.item is not None:
            self._put(record.item_id, record.item, record.block)
            self._arrays["debuts"][self._index[record.item_id]] |= record.debut
        elif record.item_id in self._index:
            self._take_down(record.item_id)
        index = self._index.get(record.item_id)
        if index is not None:  # last, so that concurrent readers look again
            self._changed.append(index)

    def index_of(self, item_id: ItemId) -> int | None:
        """Return an item's index, None where it was never put."""
        return self._index.get(item_id)

    def item(self, index: int) -> Item:
        """Return an item as last described; one taken down has its id only."""
        return _decoder.decode(self._items[index])

    def card(self, index: int) -> Card:
        """Return the description of a shown item that a page's record carries."""
        item = self.item(index)
        return Card(
            item_id=item.item_id,
            block=self.block(index),
            creator=item.creator,
            tags=item.tags,
            duration_s=item.duration_s or 0.0,
            sound=item.sound,
            bait=item.bait,
            language=primary_language(item.language),
        )

    def block(self, index: int) -> bytes:
        """Return an item's block as its record has it, float16 bytes."""
        rest = self.vectors[index, VECTOR_DIM:]
        static = pack_halves(self.blocks[index])
        return static + pack_halves(rest) if rest.any() else static

    def find(self, short_keys: ShortKeys) -> Ints:
        """Return the indices of items by the low 32 bits of their keys, without unknown ones.

        Where several items share a short key all are found, the further ones at the end.
        """
        return self._by_short_key.find(self.keys, short_keys)

    def latest(self) -> Ints:
        """Return all indices, newest first, shape (n,); the next call may overwrite it."""
        return self._latest.order(self.published_ms)

    def of_creators(self, codes: Ints) -> Ints:
        """Return the items of some creators, ascending, by creator codes."""
        index = self._of_creator.had(codes.tolist())
        return distinct(index[is_among(self.creators[index], codes)])

    def of_tags(self, codes: Ints) -> Ints:
        """Return the items with one of these tags among their first `MAX_TAGS`, ascending."""
        index = self._of_tag.had(codes.tolist())
        return distinct(index[is_among(self.tags[index], codes).any(axis=1)])

    def alike(self, codes: Ints) -> Ints:
        """Return the items that share one of these near-duplicate codes, ascending."""
        index = self._alike.had(distinct(codes).tolist())
        return distinct(index[is_among(self.duplicates[index], codes)])

    def with_copies(self, index: Ints) -> Ints:
        """Return the items at `index` and all copies of each, ascending.

        A copy of a copy is not among them, unless it is a copy of one of these as well.
        """
        some = index[self.has_copies[index]]
        if not len(some):
            return distinct(index)
        codes = distinct(self.copies[some].ravel())
        codes = codes[codes > 0]
        found = self._of_copies.had(codes.tolist())
        copies = found[is_among(self.copies[found], codes).any(axis=1)]
        return distinct(np.concatenate([index, copies]))

    @property
    def n_changes(self) -> int:
        """Number of changes so far; a concurrent reader reads it before the columns."""
        return len(self._changed)

    def changed_since(self, n_changes: int) -> Ints:
        """Return the items changed or added since that many changes, ascending."""
        return distinct(np.array(self._changed[n_changes:], dtype=np.int64))

    def in_market(self, country: str, index: Ints | slice = slice(None)) -> Bools:
        """Return which items may be shown in a country; those without markets may be anywhere.

        Args:
            country: upper-case; empty where unknown.
            index: shape (m,), the items asked for; all by default.

        Returns:
            Shape (m,), or (n,) for all.
        """
        allowed: Bools = self.codes.allow(country)[self.market_sets[index]]
        return allowed

    def _put(self, item_id: ItemId, item: Item, block: bytes) -> None:
        if item.item_id != item_id:
            raise ValueError(f"expected the item {item_id} in its record, got {item.item_id}")
        content = unpack_halves(content_of(block))
        if not len(content) or not np.isfinite(unpack_halves(block)).all():
            raise ValueError(
                f"expected a block of {' or '.join(map(str, BLOCK_WIDTHS))} finite halves in the "
                f"record of item {item_id}, got {len(block)} bytes; was it made by "
                "env.items.content.static_block?"
            )
        self._widen(len(content))
        index = self._index.get(item_id)
        is_old = index is not None
        if index is None:
            index = self._append(item_id)
        self._note(index, item)
        before_ms = int(self.published_ms[index]) if is_old else None
        codes = self.codes.put(item)
        row = {
            **codes._asdict(),
            "hashes": int.from_bytes(block_hash(block), "little"),
            "blocks": unpack_halves(static_of(block)),
            "n_tags_of": max(np.count_nonzero(codes.tags), 1),
            "published_ms": item.published_ms,
            "duration_s": item.duration_s or 0.0,
            "ratings": item.rating,
            "baits": bait_beyond_mean(item.bait),
            "listed": item.listed,
        }
        self._group(index, codes, is_old=is_old)
        for name, value in row.items():
            self._arrays[name][index] = value
        self._arrays["vectors"][index] = 0.0
        self._arrays["vectors"][index, : len(content)] = content
        if before_ms != item.published_ms:
            self._latest.put(index, before_ms)

    def _widen(self, n_dims: int) -> None:
        """Make room for vectors of this many numbers."""
        narrow = self._arrays["vectors"]
        if narrow.shape[1] < n_dims:
            wide = np.zeros((len(narrow), CONTENT_DIM), dtype=np.float32)
            wide[:, :VECTOR_DIM] = narrow
            self._arrays["vectors"] = wide
            self._show_columns()

    def _note(self, index: int, item: Item) -> None:
        """Keep an item's encoded description."""
        self._items[index] = _encoder.encode(item)
        if item.vector is None:
            self._with_vector.discard(index)
        else:
            self._with_vector.add(index)

    def _group(self, index: int, codes: ItemCodes, *, is_old: bool) -> None:
        """Add an item to the groups of its creator, tags and near-duplicates that it is new to."""
        if codes.creators and codes.creators != self.creators[index]:
            self._of_creator.put(codes.creators, index)
        if not is_old or codes.duplicates != self.duplicates[index]:
            self._alike.put(codes.duplicates, index)
        for copy in set(codes.copies.tolist()) - set(self.copies[index].tolist()) - {0}:
            first = self._of_copies.first_of(copy)
            self._of_copies.put(copy, index)
            if first >= 0:
                self._arrays["has_copies"][[first, index]] = True
        for tag in set(codes.tags.tolist()) - set(self.tags[index].tolist()) - {0}:
            self._of_tag.put(tag, index)

    def _append(self, item_id: ItemId) -> int:
        index = len(self.ids)
        if index == len(self._arrays["keys"]):
            self._arrays = {name: _doubled(column) for name, column in self._arrays.items()}
        self.ids.append(item_id)
        self._items.append(b"")
        self._index[item_id] = index
        self._arrays["keys"][index] = item_key(item_id)
        self._show_columns()
        return index

    def _take_down(self, item_id: ItemId) -> None:
        index = self._index[item_id]
        self._note(index, Item(item_id, listed=False))
        self._arrays["listed"][index] = False
        for name in ("creators", "countries", "languages", "market_sets", "tags", "sounds"):
            self._arrays[name][index] = 0

    def _show_columns(self) -> None:
        for name, column in self._arrays.items():
            view = column[: len(self.ids)]
            view.flags.writeable = False
            setattr(self, name, view)


def _doubled(column: _Column) -> _Column:
    return np.concatenate([column, np.zeros_like(column)])
