"""What people earn with their first swipes, against what is popular where they live.

A world is warmed up: its people swipe with the default policy, which learns. Then it is frozen, and
other people register who have never been there. The same people, from the same first moment, are
served twice by the same snapshot: by the default policy, and by what is most popular in their
market. Then those of the default policy swipe on until the server knows them; their lives begin
anew, rested as at first, while what the server knows stays, and they are served once more: once as
if they had seen none of the items yet, which is what they are compared with, and once without what
they have seen. (Who has seen the best 300 of a catalogue to which nothing is added earns less than
a stranger, however well they are known.) So all comparisons are of the same people in the same
moods, and what differs is what is claimed.

Nothing is learned meanwhile, so newcomers earn by what is known of items and people like them, not
by each other's answers. Their interests do not drift here, or what was learned of them would be
about somebody else by the end. All figures are exact expected rewards of the cards that were shown;
errors are by person.

Popularity is the policy's baseline with one difference: it ranks by valid plays in the person's
market and not everywhere, which is the stronger rival.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from env.features import DYNAMIC, N_STATIC
from env.presets import load
from env.records import PageRecord
from env.vocabulary import Context, Floats, Ints
from policies.baselines import PopularityPolicy
from policies.explorers import Softmax
from serve.bench.paired import ratio_of
from serve.bench.served_cards import Shown, first_cards
from serve.bench.served_people import Person, Shard
from serve.bench.served_world import (
    CARD_MS,
    DRAW_KEY,
    ServedWorld,
    WorldSize,
    people_seeds,
    serve,
)
from serve.bench.true_quality import Quality
from serve.config import Config
from serve.pipeline import Pipeline

Advance = Callable[[str, int, int], None]

FIRST_PLACE = 500_000
"""Of newcomers: a place that nobody of the warm-up has."""
MOST_PAGES = 400
"""Of a stage: people of whom none stays for so many cards are a mistake."""

_HERE = N_STATIC + DYNAMIC.index("popularity_here")


class NewcomersSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        people: of the warm-up.
        warm_cards: that they swipe.
        newcomers: who register then.
        first: swipes that count.
        known_after: swipes after which the server knows them.
        items: of the catalogue.
        page: cards of a page.
    """

    people: int = 4_000
    warm_cards: int = 200_000
    newcomers: int = 500
    first: int = 20
    known_after: int = 300
    items: int = 4_096
    page: int = 8


class NewcomersResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        compared: newcomers who saw enough cards under all policies.
        reward: a card, exact, of their first swipes.
        reward_popularity: the same served by popularity in the home market.
        reward_quality: the same served by who knows the true quality of every candidate, and
            nobody's taste: about what can be earned before a person has answered.
        reward_warm: the same served by the default policy once they are known, all items as new.
        reward_used_up: the same without the items that they have seen by then.
        gain_over_popularity: reward / reward_popularity - 1.
        gain_of_quality: reward_quality / reward_popularity - 1.
        share_of_warm: reward / reward_warm.
        by_swipe: reward of the 1st, 2nd, .. swipe.
        by_swipe_popularity: the same of popularity.
        by_swipe_warm: the same of `reward_warm`.
    """

    size: NewcomersSize
    preset: str
    seed: int
    compared: int
    reward: float
    reward_popularity: float
    reward_quality: float
    reward_warm: float
    reward_used_up: float
    gain_over_popularity: float
    gain_se: float
    gain_of_quality: float
    share_of_warm: float
    share_se: float
    by_swipe: list[float]
    by_swipe_popularity: list[float]
    by_swipe_warm: list[float]


class PopularHere(PopularityPolicy):
    """Ranks by the popularity in the market from which the page is asked for."""

    def score(self, context: Context) -> Floats:
        """Return each candidate's popularity there, shape (n,)."""
        return context.features.actions[:, _HERE].astype(np.float64)


class TrueQuality(PopularityPolicy):
    """Ranks by what items are really worth at home, which no server knows."""

    def __init__(self, world: ServedWorld) -> None:
        """Look all items of a world up."""
        super().__init__(Softmax(0.005), name="true_quality@0")
        rows = np.arange(world.supply.stock.n)
        quality = Quality(world.preset, world.config.reward)
        self._worth = quality.of(world.supply.stock, rows, world.home_of(rows))
        self._row_of = world.row_of

    def score(self, context: Context) -> Floats:
        """Return each candidate's true quality, shape (n,)."""
        return np.asarray(self._worth[[self._row_of(name) for name in context.candidates]])


def run_newcomers(
    size: NewcomersSize, *, preset: str, seed: int, advance: Advance, config: Config | None = None
) -> NewcomersResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of people, items and draws.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    world = _warm_up(size, preset, seed, config or Config(), advance)
    cold, step = _Stage(world, size), "first swipes"
    advance(step, 0, 5)
    first = first_cards(cold.swipe(size.first), size.first)
    advance(step, 1, 5)
    rival = _Stage(world, size, rival=PopularHere(name="popularity_here@0"))
    popular = first_cards(rival.swipe(size.first), size.first)
    advance(step, 2, 5)
    best = _Stage(world, size, rival=TrueQuality(world))
    worthy = first_cards(best.swipe(size.first), size.first)
    advance(step, 3, 5)
    n = size.known_after - size.first
    cold.swipe(n, lambda seen: advance("get known", seen, n))
    people = cold.shard.people
    warm = first_cards(
        _Stage(world, size, known=_forget_items(people)).swipe(size.first), size.first
    )
    advance(step, 4, 5)
    used_up = first_cards(_Stage(world, size, known=people).swipe(size.first), size.first)
    advance(step, 5, 5)
    stayed = FIRST_PLACE + np.flatnonzero(cold.shard.life == 0)
    first, popular, worthy, warm, used_up = _of_all((first, popular, worthy, warm, used_up), stayed)
    reward_popularity, reward_quality = (float(p.expected.mean()) for p in (popular, worthy))
    gain, share = ratio_of(first, popular), ratio_of(first, warm)
    curves = [_by_swipe(part, size.first) for part in (first, popular, warm)]
    return NewcomersResult(
        size=size,
        preset=preset,
        seed=seed,
        compared=len(np.unique(first.place)),
        reward=float(first.expected.mean()),
        reward_popularity=reward_popularity,
        reward_quality=reward_quality,
        reward_warm=float(warm.expected.mean()),
        reward_used_up=float(used_up.expected.mean()),
        gain_over_popularity=gain.value - 1.0,
        gain_se=gain.se,
        gain_of_quality=reward_quality / reward_popularity - 1.0,
        share_of_warm=share.value,
        share_se=share.se,
        by_swipe=curves[0].round(4).tolist(),
        by_swipe_popularity=curves[1].round(4).tolist(),
        by_swipe_warm=curves[2].round(4).tolist(),
    )


def _warm_up(
    size: NewcomersSize, preset: str, seed: int, config: Config, advance: Advance
) -> ServedWorld:
    values = load(preset)
    still = msgspec.structs.replace(values.population, drift=0.0)
    world = ServedWorld(
        WorldSize(people=size.people, page=size.page, items=size.items),
        preset=msgspec.structs.replace(values, population=still),
        seed=seed,
        config=config,
    )
    world.run(size.warm_cards, lambda n: advance("warm up", n, size.warm_cards))
    return world


class _Stage:
    """People served by one snapshot, from one moment on."""

    def __init__(
        self,
        world: ServedWorld,
        size: NewcomersSize,
        known: Sequence[Person] | None = None,
        rival: PopularityPolicy | None = None,
    ) -> None:
        """Let the newcomers sit down.

        Args:
            world: warmed up; it does not move.
            size: how many they are.
            known: who they are to the server; strangers if None.
            rival: instead of the snapshot's policy.
        """
        served = world.pipeline.served
        if rival is not None:
            served = replace(served, policy=rival)
        self._pipeline = Pipeline(
            world.config, draw_key=DRAW_KEY, served=served, catalogue=world.pipeline.catalogue
        )
        places = FIRST_PLACE + np.arange(size.newcomers)
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
        self._world, self._size = world, size
        self._clock_ms = world.clock_ms

    def swipe(self, n: int, told: Callable[[int], None] | None = None) -> Shown:
        """Let people swipe until each who is still there has seen n more cards; return them all."""
        parts: list[Shown] = []
        seen = np.zeros(self._size.newcomers, dtype=np.int64)
        for _ in range(MOST_PAGES):
            heard = self.shard.turn(
                self._draw, self._world.row_of, now_ms=self._clock_ms, card_ms=CARD_MS
            )
            self._clock_ms += (self._size.page + 1) * CARD_MS
            parts.append(heard.shown)
            seen += np.bincount(heard.shown.place - FIRST_PLACE, minlength=len(seen))
            least = int(seen[self.shard.life == 0].min(initial=n))
            if told is not None:
                told(least)
            if least >= n:
                return Shown.join(parts)
        raise RuntimeError(f"expected {n} cards of everybody within {MOST_PAGES} pages")

    def _draw(self, person: Person) -> PageRecord | None:
        return serve(self._pipeline, person, now_ms=self._clock_ms, size=self._size.page)


def _forget_items(people: Sequence[Person]) -> list[Person]:
    """Return people of whom all is known but which items they have seen."""
    return [
        replace(person, state=msgspec.structs.replace(person.state, seen=b"", pages=()))
        for person in people
    ]


def _of_all(parts: Sequence[Shown], places: Ints) -> list[Shown]:
    """Return the cards of those who are in every part and in places."""
    for part in parts:
        places = np.intersect1d(places, part.place)
    if len(places) < 2:
        raise ValueError("expected at least 2 people who stayed, got fewer: take more newcomers")
    return [part.take(np.isin(part.place, places)) for part in parts]


def _by_swipe(shown: Shown, n: int) -> Floats:
    """Return the mean of the first, second, .. card of everybody, shape (n,)."""
    order = np.argsort(shown.place, kind="stable")
    return np.asarray(shown.expected[order].reshape(-1, n).mean(axis=0))
