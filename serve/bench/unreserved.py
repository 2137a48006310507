"""What reserved slots take from the pages at hand: each page beside what it would be without them.

A page that has a reserved slot is drawn once more, for the same person at the same moment, from the
same seed and by the same version of everything, but by a server that reserves nothing. Both are
worth what their cards are exactly expected to earn of the person as they open the page. Nobody is
shown the other page, so there is one learner and one history, and what is compared is the choice.

It is not all that a promise does. What the owed cards taught is known to both servers, so that the
other page too may show what only the promise made known: of that, it says nothing in its favour.

Rejected: two worlds alone, one with the promise and one without, each with a learner of its own.
Within hours these know different items by luck. What that comes to does not hang on the promise, is
as much as all that the promise costs, and is the same for all people, so no number of them averages
it out.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from env.audiences import Audiences
from env.records import PageRecord
from env.vocabulary import Floats
from policies.pools import FAIR_START
from serve.bench.paired import Ratio, ratio_of_sums
from serve.bench.served_people import Person, Shard
from serve.bench.served_world import DRAW_KEY, ServedWorld, serve
from serve.follower import Served
from serve.pipeline import Pipeline


class Unreserved:
    """Sees the pages of a world as people open them, and draws those with reserved slots again.

    Attributes:
        n_pages: that were seen.
        n_redrawn: those of them that have a reserved slot.
        earned: what pages are worth as drawn, and without reserved slots, by place, shape (2, n).
        cards: of these pages, likewise.
    """

    def __init__(self, world: ServedWorld) -> None:
        """See no page yet; `ServedWorld.onlookers` tells of them.

        Args:
            world: whose pages are seen.
        """
        fair_start = msgspec.structs.replace(world.config.fair_start, budget=0.0)
        config = msgspec.structs.replace(world.config, fair_start=fair_start)
        self.n_pages = self.n_redrawn = 0
        self._args = config.audiences
        self._served = world.pipeline.served
        self._pipeline = Pipeline(
            config,
            draw_key=DRAW_KEY,
            served=self._without(self._served),
            catalogue=world.pipeline.catalogue,
        )
        people = world.size.people
        self.earned: Floats = np.zeros((2, people))
        self.cards: Floats = np.zeros((2, people))

    @property
    def kept(self) -> Ratio:
        """How much of the worth of a card is left where slots are reserved; its error by person."""
        (earned, otherwise), (cards, others) = self.earned, self.cards
        return ratio_of_sums(earned, cards, otherwise, others)

    def see(self, world: ServedWorld, shard: Shard, pages: Sequence[PageRecord | None]) -> None:
        """See the pages that the people of a shard have just been given, None for those without."""
        others = [
            self._otherwise(world, person, page)
            for person, page in zip(shard.people, pages, strict=True)
        ]
        for nth, drawn in enumerate((pages, others)):
            worth, n_cards = shard.worth_of(drawn, world.row_of)
            places = slice(shard.first_place, shard.first_place + len(n_cards))
            self.earned[nth, places] += worth
            self.cards[nth, places] += n_cards

    def redraw(self, world: ServedWorld, person: Person) -> PageRecord | None:
        """Return what somebody's last page would be if nothing were reserved; they do not move."""
        self._follow(world)
        before = replace(person, n_pages=person.n_pages - 1)
        return serve(self._pipeline, before, now_ms=world.clock_ms, size=world.size.page)

    def _otherwise(
        self, world: ServedWorld, person: Person, page: PageRecord | None
    ) -> PageRecord | None:
        """Return a page without reserved slots: as it is, where it has none."""
        self.n_pages += page is not None
        if page is None or all(rule.name != FAIR_START for rule in page.rules):
            return page
        self.n_redrawn += 1
        return self.redraw(world, person)

    def _follow(self, world: ServedWorld) -> None:
        """Draw with what the world's own pages are drawn with now."""
        if world.pipeline.served is not self._served:
            self._served = world.pipeline.served
            self._pipeline.swap(self._without(self._served))

    def _without(self, served: Served) -> Served:
        """Return the same version as a server without a budget for reserved slots reads it."""
        audiences = Audiences.from_bytes(served.audiences.to_bytes(), self._args)
        return Served(served.policy, served.states, audiences, served.version, served.offset)
