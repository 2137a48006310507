"""Transaction bodies that put and remove items: they append records and update the lookups."""

from collections.abc import Sequence

import msgspec

from env.records import ItemRecord
from env.vocabulary import Item, ItemId
from serve.items_wire import ItemsResponse
from serve.store import Transaction
from serve.vectors import count_vectors

DEBUT_MS = 7 * 86_400_000
"""An upload older than this when it is first put was public before, so it is no launch."""


def put_items(
    transaction: Transaction,
    items: Sequence[Item],
    blocks: Sequence[bytes],
    at_ms: int,
    *,
    are_new: bool,
) -> ItemsResponse:
    """Put items; unchanged ones are left alone.

    Args:
        transaction: of the store.
        items: each id once; one without an upload time gets the time of its first put.
        blocks: static feature blocks of the items, float16 bytes.
        at_ms: time of the change.
        are_new: whether items put for the first time, if uploaded lately, are launches.

    Raises:
        OtherLengthError: a vector has another length than those of the catalogue.
    """
    found = transaction.find_items([item.item_id for item in items])
    before = [found.get(item.item_id) for item in items]
    removed = transaction.removed([key.item_id for key in items if key.item_id not in found])
    dated = [_dated(item, old, at_ms) for item, old in zip(items, before, strict=True)]
    changes = [
        ItemRecord(
            item.item_id,
            at_ms,
            item,
            block,
            debut=are_new
            and old is None
            and item.item_id not in removed
            and at_ms - item.published_ms <= DEBUT_MS,
        )
        for item, old, block in zip(dated, before, blocks, strict=True)
        if item != old
    ]
    added = before.count(None)
    vectors = count_vectors(transaction.vectors(), before, dated)
    if changes:
        transaction.append(changes)
        changed = [change.item for change in changes if change.item is not None]
        transaction.put_items(changed)
        transaction.set_vectors(vectors)
    return ItemsResponse(added, len(changes) - added, len(items) - len(changes))


def remove_item(transaction: Transaction, item_id: ItemId, at_ms: int) -> bool:
    """Remove an item for good; return whether it existed."""
    before = transaction.find_items([item_id]).get(item_id)
    if before is None:
        return False
    vectors = count_vectors(transaction.vectors(), [before], [])
    transaction.append([ItemRecord(item_id, at_ms)])
    transaction.remove_item(item_id)
    transaction.set_vectors(vectors)
    return True


def _dated(item: Item, before: Item | None, at_ms: int) -> Item:
    if item.published_ms:
        return item
    return msgspec.structs.replace(item, published_ms=before.published_ms if before else at_ms)
