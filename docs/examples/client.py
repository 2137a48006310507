"""Asks a running server for three cards, and likes the first one."""

import asyncio
import time

from serve.wire.client import FeedClient
from serve.wire.feed import Event, FeedbackRequest, FeedRequest


async def main() -> None:
    async with FeedClient("http://127.0.0.1:8000") as client:
        page = await client.feed(FeedRequest(user_id="me", size=3))
        card = page.items[0]
        liked = Event("like-1", card.decision_id, "like", at_ms=time.time_ns() // 1_000_000)
        told = await client.feedback(FeedbackRequest((liked,)))
        print(f"{len(page.items)} cards, {told.accepted} like accepted")


asyncio.run(main())
