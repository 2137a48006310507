"""HTTP request and response types for items; see `serve.wire.feed`."""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from env.vocabulary import CreatorId, Item, ItemId
from serve.limits import (
    ADDRESS_RULE,
    MAX_COUNTRIES,
    MAX_ITEMS,
    MAX_RATING,
    MAX_VECTOR_LENGTH,
    Address,
    Country,
    Creator,
    Id,
    Language,
    Market,
    Ms,
    Number,
    Word,
    is_address,
)


class ItemBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A video as its uploader describes it.

    Attributes:
        published_ms: 0: the time of the first put.
        duration_s: seconds; absent if unknown.
        markets: countries in which it may be shown; empty: everywhere.
        rating: least age in years of its audience; 0: no limit.
        products: address of the product that the card sells, by country of sale.
        listed: false takes it out of every feed without forgetting it.
        bait: how much it attracts beyond its value to users, 0 to 1; absent if unknown.
        description: searched and embedded, but not on the card.
        embedder: as an item came from here; then the `vector` beside it is not the caller's own,
            and is left out.
    """

    item_id: Id | None = None
    creator: Creator = ""
    title: Annotated[str, Meta(max_length=500)] = ""
    tags: Annotated[tuple[Word, ...], Meta(max_length=50)] = ()
    duration_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] | None = None
    published_ms: Ms = 0
    language: Language = ""
    country: Country = ""
    markets: Annotated[tuple[Country, ...], Meta(max_length=MAX_COUNTRIES)] = ()
    sound: Annotated[str, Meta(max_length=128)] = ""
    media: Address = ""
    vector: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=4096)] | None = None
    rating: Annotated[int, Meta(ge=0, le=MAX_RATING)] = 0
    products: Annotated[dict[Market, Address], Meta(max_length=MAX_COUNTRIES)] = {}
    listed: bool = True
    bait: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    description: Annotated[str, Meta(max_length=2000)] = ""
    embedder: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        if self.vector is not None and math.hypot(*self.vector) > MAX_VECTOR_LENGTH:
            raise ValueError(f"Expected a length <= {MAX_VECTOR_LENGTH:g} of field `vector`")
        _require_address("media", self.media)
        for country, address in self.products.items():
            _require_address(f"products.{country}", address)

    def item(self, item_id: ItemId) -> Item:
        """Return the item of this description."""
        return Item(
            item_id=item_id,
            creator=CreatorId(self.creator),
            title=self.title,
            tags=self.tags,
            duration_s=self.duration_s,
            published_ms=self.published_ms,
            language=self.language,
            country=self.country,
            markets=self.markets,
            sound=self.sound,
            media=self.media,
            vector=None if self.embedder else self.vector,
            rating=self.rating,
            products=self.products,
            listed=self.listed,
            bait=self.bait,
            description=self.description,
        )


def _require_address(field: str, text: str) -> None:
    if not is_address(text):
        raise ValueError(f"Expected {ADDRESS_RULE} in field `{field}`")


class ItemsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items to put, each with its `item_id`; all are accepted or none."""

    items: Annotated[tuple[ItemBody, ...], Meta(max_length=MAX_ITEMS)]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for i, body in enumerate(self.items):
            if body.item_id is None:
                raise ValueError(f"Expected an id in field `items[{i}].item_id`, got none")
            if body.item_id in seen:
                raise ValueError(
                    f"Expected a new id in field `items[{i}].item_id`, got a repeated one"
                )
            seen.add(body.item_id)


class ItemsResponse(msgspec.Struct, frozen=True):
    """Counts of added, changed and unchanged items; all changes are on disk."""

    added: int
    changed: int
    unchanged: int


class FoundResponse(msgspec.Struct, frozen=True):
    """Items that a search found, the best match first."""

    items: tuple[Item, ...]
