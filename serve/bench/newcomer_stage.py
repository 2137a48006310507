"""Strangers before a server that stands still: the same people, again and again.

Nothing is learned of items meanwhile, and nothing of one person from another; what the server knows
of each person moves with their answers, as it would.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from env.interface import Policy
from env.records import PageRecord
from serve.bench.served_cards import Shown
from serve.bench.served_people import Person, Shard
from serve.bench.served_world import CARD_MS, DRAW_KEY, ServedWorld, people_seeds, serve
from serve.pipeline import Pipeline

FIRST_PLACE = 500_000
"""Of strangers: a place that nobody of the warm-up has."""
MOST_PAGES = 400
"""Of a stage: people of whom none stays for so many cards are a mistake."""


class Stage:
    """People served by one snapshot, from one moment on."""

    def __init__(
        self,
        world: ServedWorld,
        n_people: int,
        known: Sequence[Person] | None = None,
        rival: Policy | None = None,
    ) -> None:
        """Let the newcomers sit down.

        Args:
            world: warmed up; it does not move.
            n_people: how many they are.
            known: who they are to the server; strangers if None.
            rival: instead of the snapshot's policy.
        """
        served = world.pipeline.served
        if rival is not None:
            served = replace(served, policy=rival)
        self._pipeline = Pipeline(
            world.config, draw_key=DRAW_KEY, served=served, catalogue=world.pipeline.catalogue
        )
        places = FIRST_PLACE + np.arange(n_people)
        self.shard = Shard(
            world.preset,
            world.supply,
            world.config.reward,
            seeds=people_seeds(world.seed, places),
            first_place=FIRST_PLACE,
            now_ms=world.clock_ms,
            are_new=True,
        )
        if known is not None:
            self.shard.recognise(known)
        self._world, self._page = world, world.size.page
        self._clock_ms = world.clock_ms

    def swipe(self, n: int, told: Callable[[int], None] | None = None) -> Shown:
        """Let people swipe until each who is still there has seen n more cards; return them all."""
        parts: list[Shown] = []
        seen = np.zeros(len(self.shard.people), dtype=np.int64)
        for _ in range(MOST_PAGES):
            shown = self._turn()
            parts.append(shown)
            seen += np.bincount(shown.place - FIRST_PLACE, minlength=len(seen))
            least = int(seen[self.shard.life == 0].min(initial=n))
            if told is not None:
                told(least)
            if least >= n:
                return Shown.join(parts)
        raise RuntimeError(f"expected {n} cards of everybody within {MOST_PAGES} pages")

    def _turn(self) -> Shown:
        """Let everybody swipe a page; return what was seen of it."""
        heard = self.shard.turn(
            self._draw, self._world.row_of, now_ms=self._clock_ms, card_ms=CARD_MS
        )
        self._clock_ms += (self._page + 1) * CARD_MS
        return heard.shown

    def _draw(self, person: Person) -> PageRecord | None:
        return serve(self._pipeline, person, now_ms=self._clock_ms, size=self._page)


def forget_items(people: Sequence[Person]) -> list[Person]:
    """Return people of whom all is known but which items they have seen."""
    return [
        replace(person, state=msgspec.structs.replace(person.state, seen=b"", pages=()))
        for person in people
    ]
