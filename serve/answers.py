"""Pages as clients get them: decisions signed, items as they are now, what may be bought there.

Rejected: keeping the answer with the page (an item that was taken down since would be shown in full
to whoever repeats a request).
"""

import msgspec

from env.catalogue import Catalogue
from env.records import Card, PageRecord
from env.vocabulary import Item, decision_id
from policies.markets import Markets, product
from serve.tokens import Tokens
from serve.wire import CardBody, FeedResponse


class Answers:
    """Makes answers of pages."""

    def __init__(self, tokens: Tokens, catalogue: Catalogue, markets: Markets) -> None:
        """Make answers.

        Args:
            tokens: sign the decisions.
            catalogue: of the items, moved by others.
            markets: say where products may be offered.
        """
        self._tokens = tokens
        self._catalogue = catalogue
        self._markets = markets

    def of(self, page: PageRecord) -> FeedResponse:
        """Return the answer that gives a page."""
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
        """Return a card's item as it is now; after a takedown, little of it."""
        index = self._catalogue.index_of(card.item_id)
        return Item(card.item_id, listed=False) if index is None else self._catalogue.item(index)


def _for_client(item: Item) -> Item:
    if item.vector is None and not item.products and item.bait is None:
        return item
    return msgspec.structs.replace(item, vector=None, products={}, bait=None)
