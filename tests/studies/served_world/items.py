"""Items of a simulated stock as a caller would put them: what a server may know, and nothing else.

An item's vector is the caller's embedding; a shorter one is padded with zeros, which keeps every
product of two vectors as it is in the world (projected by random signs it would not). Tags name the
topic. Quality and bait stay hidden.
"""

import msgspec

from env.columns.schema import VECTOR_DIM
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import CreatorId, Item, ItemId
from env.world.answers import UNCAPPED_S
from env.world.creators import LANGUAGES, Creators
from env.world.generated import MARKETS
from env.world.supply import EVERYWHERE, Stock
from env.world.world import CAP_S

DAY_MS = 86_400_000


class Shelf(msgspec.Struct, frozen=True):
    """How a stock's rows become items.

    Attributes:
        creators: of the stock.
        start_ms: Unix milliseconds of the world's day 0.
    """

    creators: Creators
    start_ms: int

    def record(self, stock: Stock, row: int, *, debut: bool) -> ItemRecord:
        """Return the upload of an item; what was there at the start was put at the start.

        Args:
            stock: of the item.
            row: of the item.
            debut: whether it is new to the public.
        """
        item = self.item(stock, row)
        at_ms = max(item.published_ms, self.start_ms)
        return ItemRecord(item.item_id, at_ms, item, pack_halves(static_block(item)), debut=debut)

    def item(self, stock: Stock, row: int) -> Item:
        """Return an item as its uploader describes it."""
        creator, market = int(stock.creator[row]), int(stock.market[row])
        home = int(self.creators.home[creator])
        vector = stock.vectors[:, row].tolist()
        duration_s = float(stock.columns[CAP_S, row])
        return Item(
            item_id=item_id(int(stock.serial[row])),
            creator=CreatorId(f"creator-{creator:04d}"),
            tags=(f"topic-{int(stock.topic[row]):02d}",),
            duration_s=duration_s if duration_s < UNCAPPED_S else None,
            published_ms=self.start_ms + round(DAY_MS * float(stock.published[row])),
            language=LANGUAGES[int(self.creators.language[creator])],
            country=MARKETS[home].country,
            markets=() if market == EVERYWHERE else (MARKETS[market].country,),
            vector=tuple(vector + [0.0] * (VECTOR_DIM - len(vector))),
        )


def item_id(serial: int) -> ItemId:
    """Name an upload.

    >>> item_id(17)
    'clip-000017'
    """
    return ItemId(f"clip-{serial:06d}")
