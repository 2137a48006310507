"""The protocol of observers, which follow the behaviour of users in a simulation.

`env.observe.Observer` serves retrieval and the world's own observation;
`env.feed_memory.FeedMemory` keeps the state that the HTTP feed would hold.
"""

from typing import Protocol

from env.crowd import Crowd, Swiped
from env.supply import Stock
from env.vocabulary import Bools, Floats, Ints


class Watcher(Protocol):
    """Observes users' behaviour; see `env.observe.Observer`."""

    def meet(self, crowd: Crowd, index: Ints) -> None:
        """Start the state of users whose lives just began."""

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
        """Open the next session of users who return."""
