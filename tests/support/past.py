"""Histories for tests: cards of a small catalogue, records of views, and files of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from env.history import claimed, make_record
from env.items.content import static_block
from env.records import Card, HistoryRecord, PastEvent, pack_halves
from env.vocabulary import CreatorId, Item, ItemId, Scene, UserKey

AT_MS = 1_760_000_000_000
"""Time of a first view; the others follow every minute."""

MINUTE_MS = 60_000


def card(name: str, *, known: bool = True, tags: Sequence[str] = ("cats",)) -> Card:
    """Return the description of an item, without a block where the catalogue lacks it."""
    item = Item(ItemId(name), CreatorId(f"by-{name}"), tags=tuple(tags), duration_s=30.0)
    block = pack_halves(static_block(item)) if known else b""
    return Card(item.item_id, block, item.creator, item.tags, 30.0, language="en")


def history(
    cards: Sequence[Card],
    dwells: Sequence[float],
    events: Sequence[tuple[int, str]] = (),
    *,
    user: str = "u",
    first_ms: int = AT_MS,
    scene: Scene | None = None,
) -> HistoryRecord:
    """Return a record of one view of each card, a minute apart."""
    n = len(cards)
    record = make_record(
        "test",
        cards,
        np.arange(n),
        first_ms + MINUTE_MS * np.arange(n),
        np.array(dwells, dtype=np.float32),
        [PastEvent(row, kind) for row, kind in events],
    )
    scene = scene or Scene(0, "GB", "en", hour=-1)
    return claimed(record, UserKey(user), first_ms + MINUTE_MS * n, scene)


def write_history(path: Path, n_users: int, n_views: int, n_items: int = 30) -> Path:
    """Write a CSV of users who each saw some of the items of `histories.catalogue`."""
    rows = ["user_id,item_id,at_ms,dwell_s,like"]
    for user in range(n_users):
        for k in range(n_views):
            item = (7 * user + 3 * k) % n_items
            likes = int(item % 3 == 0)
            dwell_s = 25.0 if likes else 2.0
            rows.append(f"p{user},i{item},{AT_MS + MINUTE_MS * k + user},{dwell_s},{likes}")
    path.write_text("\n".join(rows) + "\n")
    return path
