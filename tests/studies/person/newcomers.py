"""Newcomers with a mind of their own, in front of a server whose crowd was learned before.

Each asks for pages as the page of the browser does: ten cards, and the next page while some are
left. What they like they watch and like; all else they skip after a second. So a page may
be drawn before the last cards of the one before it are answered, as a user of the product meets it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.wire.client import FeedClient
from serve.wire.feed import CardBody, Event, FeedbackRequest, FeedRequest, SceneBody

PAGE_SIZE = 10
SKIP_S = 1.0
WATCH_S = 25.0
SWIPE_MS = 400

Likes = Callable[[str, int], bool]
"""Whether a user likes a card of a topic, as their n-th card."""


@dataclass
class Newcomer:
    """A user who has just come, with the topics that they were shown.

    Attributes:
        ahead: cards left on a page when the next one is asked for.
        topics: first tags of the cards seen, in order.
    """

    name: str
    likes: Likes
    now_ms: int
    ahead: int
    topics: list[str] = field(default_factory=list)
    _deck: list[CardBody] = field(default_factory=list)

    async def swipe(self, client: FeedClient, n_cards: int) -> None:
        """See n_cards more cards."""
        for _ in range(n_cards):
            if len(self._deck) <= self.ahead:
                await self._ask(client)
            if not self._deck:
                raise RuntimeError(f"{self.name}: expected a card after {len(self.topics)}")
            await self._see(client, self._deck.pop(0))

    async def _ask(self, client: FeedClient) -> None:
        scene = SceneBody(country="US", language="en", device="phone", at_ms=self.now_ms)
        asked = FeedRequest(
            user_id=self.name, session_id=f"{self.name}-visit", size=PAGE_SIZE, scene=scene
        )
        self._deck += (await client.feed(asked)).items

    async def _see(self, client: FeedClient, card: CardBody) -> None:
        topic, n = card.item.tags[0], len(self.topics)
        likes = self.likes(topic, n)
        dwell_s = min(card.item.duration_s or WATCH_S, WATCH_S) if likes else SKIP_S
        shown_ms = self.now_ms
        self.now_ms += SWIPE_MS + round(1000 * dwell_s)
        events = [self._event(card, "impression", shown_ms)]
        if likes:
            events.append(self._event(card, "like", self.now_ms))
        events.append(self._event(card, "dwell", self.now_ms, dwell_s))
        told = await client.feedback(FeedbackRequest(tuple(events)))
        if told.refused:
            raise RuntimeError(f"{self.name}: expected no refusal, got {told.refused}")
        self.topics.append(topic)

    def _event(self, card: CardBody, kind: str, at_ms: int, value: float | None = None) -> Event:
        event_id = f"{kind}-{card.decision_id}"[:64]
        return Event(event_id, card.decision_id, kind, at_ms, value)


async def swipe_all(client: FeedClient, users: Sequence[Newcomer], n_cards: int) -> None:
    """Let users see n_cards each, ten at a time in turn, so that their clocks stay close."""
    for start in range(0, n_cards, PAGE_SIZE):
        some = min(PAGE_SIZE, n_cards - start)
        await asyncio.gather(*(user.swipe(client, some) for user in users))


def in_ten(topics: Sequence[str], wanted: str) -> float:
    """Return how many in ten of the cards are of a topic.

    >>> in_ten(["pets", "cars", "pets", "music"], "pets")
    5.0
    """
    return 10.0 * sum(topic == wanted for topic in topics) / len(topics)


def distinct_in_ten(topics: Sequence[str]) -> float:
    """Return the mean number of distinct topics of each ten cards in a row.

    >>> distinct_in_ten(["pets", "cars"] * 10)
    2.0
    """
    tens = [topics[k : k + 10] for k in range(0, len(topics) - 9, 10)]
    return float(np.mean([len(set(ten)) for ten in tens]))
