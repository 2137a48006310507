"""This module turns page records into the responses that clients get.

It signs the decision ids, shows each item as it is now, and adds the products that may be sold in
the user's country. A response is never stored with its page: a repeated request would then show an
item that has been taken down since.
"""

import msgspec

from env.items.catalogue import Catalogue
from env.records import Card, PageRecord
from env.vocabulary import Item, decision_id
from policies.candidates.markets import Markets, product
from serve.tokens import Tokens
from serve.wire.feed import CardBody, FeedResponse


class ResponseBuilder:
    """Builds feed responses from page records."""

    def __init__(self, tokens: Tokens, catalogue: Catalogue, markets: Markets) -> None:
        self._tokens = tokens
        self._catalogue = catalogue
        self._markets = markets

    def of(self, page: PageRecord) -> FeedResponse:
        """Return the response that delivers a page."""
        cards = zip(page.drawn, page.cards, page.reasons, strict=True)
        items = tuple(
            self._card(page, drawn.slot, drawn.propensity, card, reason)
            for drawn, card, reason in cards
        )
        return FeedResponse(page.page_id, items, page.degraded)

    def _card(
        self, page: PageRecord, slot: int, propensity: float, card: Card, reason: str
    ) -> CardBody:
        item = self.item(card)
        country = page.scene.country
        return CardBody(
            decision_id=self._tokens.sign(decision_id(page.page_id, slot)),
            item_id=card.item_id,
            slot=slot,
            propensity=propensity,
            policy=page.policy,
            reason=reason,
            item=_for_client(item),
            product=product(item, country, self._markets.of(country)),
        )

    def item(self, card: Card) -> Item:
        """Return a card's item as it is now; a removed item is reduced to its id."""
        index = self._catalogue.index_of(card.item_id)
        return Item(card.item_id, listed=False) if index is None else self._catalogue.item(index)


def _for_client(item: Item) -> Item:
    if item.vector is None and not item.products and item.bait is None:
        return item
    return msgspec.structs.replace(item, vector=None, products={}, bait=None)
