"""Who is told what people do in front of a simulated feed, and keeps a memory of it.

`env.observe.Observer` is one, which retrieval and the world's own observation need;
`env.feed_memory.FeedMemory` another, for who wants to see people as the HTTP feed does.
"""

from typing import Protocol

from env.crowd import Crowd, Swiped
from env.supply import Stock
from env.vocabulary import Bools, Floats, Ints


class Watcher(Protocol):
    """Is told what people do; see `env.observe.Observer`."""

    def meet(self, crowd: Crowd, index: Ints) -> None:
        """Begin to know people whose lives just began."""

    def learn(
        self,
        crowd: Crowd,
        stock: Stock,
        rows: Ints,
        swiped: Swiped,
        active: Bools | None = None,
    ) -> None:
        """Learn from a card."""

    def greet(self, crowd: Crowd, index: Ints, gap_days: Floats) -> None:
        """Note that people are back for another session."""
