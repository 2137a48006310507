"""What users earn with their first swipes, against what is popular where they live.

A world is warmed up: its users swipe with the default policy, which learns. Then it is frozen, and
other users register who have never been there. The same users, from the same first moment, are
served by its snapshot and by each rival. Then those of the default policy swipe on until the server
knows them; their lives begin anew, rested as at first, while what the server knows stays, and they
are served once more: once as if they had seen none of the items yet, which is what they are
compared with, and once without what they have seen. (Who has seen the best 300 of a catalogue to
which nothing is added earns less than a stranger, however well they are known.) So all comparisons
are of the same users in the same moods, and what differs is what is claimed.

Nothing is learned meanwhile, so newcomers earn by what is known of items and users like them, not
by each other's answers. Their interests do not drift here, or what was learned of them would be
about another user by the end. All figures are exact expected rewards of the cards that were shown;
errors are by user.

Rivals

- *popularity*: a feed that always ranked by valid plays in the market, from the first card of the
  warm-up on. Like every arm of `tests.studies.cold_start.coldstart` it has the log that it made:
  that is what a team has who ranks by popularity. Its candidates, slots and floor are the policy's,
  and it tries out as much as is best for it.
- *popularity on the same log*: the same ranking put in front of the policy's log. What the policy
  found out to be good is what is popular there, so this rival gets for nothing most of what there
  is to know before a user has answered.
- *a reference* that knows every item and learns tastes as well as can be, among the same candidates
  (`tests.studies.fair_start.newcomers`): about what there is to be had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from env.columns.schema import DYNAMIC, N_STATIC
from env.interface import Policy
from env.records import PageRecord
from env.vocabulary import Bools, Context, Floats, Ints
from env.world.moods import satiate, tire
from env.world.population import UserTraits
from env.world.presets import load
from env.world.world import BAIT, TOPIC
from policies.baselines import PopularityPolicy
from policies.explorers import Softmax, explorer_args
from serve.config import Config
from serve.feed.pipeline import Pipeline
from tests.studies.evaluation.worlds import expected_of
from tests.studies.served_world.cards import Shown, first_cards
from tests.studies.served_world.paired import ratio_of
from tests.studies.served_world.users import Person, Shard
from tests.studies.served_world.world import (
    CARD_MS,
    DRAW_KEY,
    ServedWorld,
    WorldSize,
    serve,
    users_seeds,
)

FIRST_PLACE = 500_000
"""Of strangers: a place that nobody of the warm-up has."""

MOST_PAGES = 400
"""Of a stage: users of whom none stays for so many cards are a mistake."""


class Stage:
    """Users served by one snapshot, from one moment on."""

    def __init__(
        self,
        world: ServedWorld,
        n_users: int,
        known: Sequence[Person] | None = None,
        rival: Policy | None = None,
    ) -> None:
        """Let the newcomers sit down.

        Args:
            world: warmed up; it does not move.
            n_users: how many they are.
            known: who they are to the server; strangers if None.
            rival: instead of the snapshot's policy.
        """
        served = world.pipeline.served
        if rival is not None:
            served = replace(served, policy=rival)
        self._pipeline = Pipeline(
            world.config, draw_key=DRAW_KEY, served=served, catalogue=world.pipeline.catalogue
        )
        places = FIRST_PLACE + np.arange(n_users)
        self.shard = Shard(
            world.preset,
            world.supply,
            world.config.reward,
            seeds=users_seeds(world.seed, places),
            first_place=FIRST_PLACE,
            now_ms=world.clock_ms,
            are_new=True,
        )
        if known is not None:
            self.shard.recognise(known)
        self._world, self._page = world, world.size.page
        self._clock_ms = world.clock_ms

    def swipe(self, n: int, told: Callable[[int], None] | None = None) -> Shown:
        """Let users swipe until each who is still there has seen n more cards; return them all."""
        parts: list[Shown] = []
        seen = np.zeros(len(self.shard.users), dtype=np.int64)
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

    def _draw(self, user: Person) -> PageRecord | None:
        return serve(self._pipeline, user, now_ms=self._clock_ms, size=self._page)


def forget_items(users: Sequence[Person]) -> list[Person]:
    """Return users of whom all is known but which items they have seen."""
    return [
        replace(user, state=msgspec.structs.replace(user.state, seen=b"", pages=()))
        for user in users
    ]


_EXPLORER = Softmax(0.005)
_STEP = 0.1
"""Of affinity, over which a slope is taken."""


@dataclass(slots=True)
class Guessed:
    """`Minds` of whom all is known but the tastes, which are guessed."""

    users: UserTraits
    taste: Floats  # (n_dims, n)
    satiation: Floats  # (n, N_TOPICS)
    load: Floats  # (n,)
    hour: Floats  # (n,)

    @property
    def n(self) -> int:
        """How many they are."""
        return len(self.load)

    def take(self, index: Ints) -> "Guessed":
        """Return some of them, as they are now."""
        return Guessed(
            self.users.take(index),
            self.taste[:, index],
            self.satiation[index],
            self.load[index],
            self.hour[index],
        )


class ReferenceStage(Stage):
    """Newcomers served by the reference.

    Attributes:
        taste: as guessed, the mean of what is believed, shape (n_dims, n).
        precision: of that, shape (n, n_dims, n_dims).
    """

    name = "reference@0"

    def __init__(self, world: ServedWorld, n_users: int) -> None:
        """Let the newcomers sit down.

        Args:
            world: warmed up; it does not move.
            n_users: how many they are.
        """
        super().__init__(world, n_users, rival=self)
        n_dims, sd = world.preset.uploads.n_dims, world.preset.priors.taste_sd
        self._noise = float(np.var(world.shown.reward - world.shown.expected))
        self.precision: Floats = np.repeat((np.eye(n_dims) / sd**2)[None], n_users, axis=0)
        self._pull: Floats = np.zeros((n_users, n_dims))
        self.taste: Floats = np.zeros((n_dims, n_users))
        self._asking: Guessed | None = None

    @property
    def explorer(self) -> dict[str, object]:
        """Nearly greedy."""
        return explorer_args(_EXPLORER)

    def score(self, context: Context) -> Floats:
        """Return what each candidate is expected to earn of who asks, shape (n,)."""
        if self._asking is None:
            raise RuntimeError("expected a user to ask for a page before it is scored")
        rows = np.array([self._world.row_of(name) for name in context.candidates])
        return np.asarray(self._expect(self._asking, rows[None])[0])

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return _EXPLORER.pmf(scores, mask)

    def _draw(self, user: Person) -> PageRecord | None:
        place = next(i for i, other in enumerate(self.shard.users) if other is user)
        self._asking = self._guess().take(np.array([place]))
        return super()._draw(user)

    def _turn(self) -> Shown:
        before = self._guess().take(np.arange(len(self.shard.users)))
        shown = super()._turn()
        self._learn(shown, before)
        return shown

    def _guess(self) -> Guessed:
        """Return the users with their tastes as guessed; all of it moves on as they do."""
        crowd = self.shard.swiping.crowd
        return Guessed(crowd.users, self.taste, crowd.satiation, crowd.load, crowd.hour)

    def _expect(self, users: Guessed, rows: Ints) -> Floats:
        world = self._world
        return expected_of(users, world.supply.stock, rows, world.preset, world.config.reward)

    def _learn(self, shown: Shown, before: Guessed) -> None:
        """Move the guesses by a page, card after card, as users' moods went."""
        stock, moods = self._world.supply.stock, self._world.preset.moods
        order = np.argsort(shown.place, kind="stable")
        place = shown.place[order] - FIRST_PLACE
        nth = np.arange(len(place)) - np.searchsorted(place, place)
        for k in range(int(nth.max(initial=-1)) + 1):
            at = order[nth == k]
            who, rows = place[nth == k], shown.row[at]
            self._hear(who, rows, shown.reward[at], before.take(who))
            topic, bait = stock.columns[TOPIC, rows].astype(np.int64), stock.columns[BAIT, rows]
            before.satiation[who] = satiate(moods, before.satiation[who], topic)
            before.load[who] = tire(moods, before.load[who], bait)
        for i in np.unique(place).tolist():
            self.taste[:, i] = np.linalg.solve(self.precision[i], self._pull[i])

    def _hear(self, who: Ints, rows: Ints, reward: Floats, users: Guessed) -> None:
        """Add a card each of some users to what is known of their tastes."""
        vectors = self._world.supply.stock.vectors[:, rows]
        expected = self._expect(users, rows[:, None])[:, 0]
        users.taste = users.taste + _STEP * vectors / (vectors**2).sum(axis=0)
        slope = (self._expect(users, rows[:, None])[:, 0] - expected) / _STEP
        linear = reward - expected + slope * (vectors * self.taste[:, who]).sum(axis=0)
        self.precision[who] += (slope**2 / self._noise)[:, None, None] * (
            vectors.T[:, :, None] * vectors.T[:, None, :]
        )
        self._pull[who] += (slope / self._noise * linear)[:, None] * vectors.T


Advance = Callable[[str, int, int], None]
_HERE = N_STATIC + DYNAMIC.index("popularity_here")


class NewcomersSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        users: of the warm-up.
        warm_cards: that they swipe.
        newcomers: who register then.
        first: swipes that count.
        known_after: swipes after which the server knows them.
        items: of the catalogue.
        page: cards of a page.
    """

    users: int = 4_000
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
        reward_popularity: the same served by a feed that always ranked by popularity.
        reward_same_log: the same served by popularity on the policy's log.
        reward_reference: the same served by the reference.
        reward_warm: the same served by the default policy once they are known, all items as new.
        reward_used_up: the same without the items that they have seen by then.
        gain_over_popularity: reward / reward_popularity - 1.
        gain_on_same_log: reward / reward_same_log - 1.
        gain_of_reference: reward_reference / reward_same_log - 1.
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
    reward_same_log: float
    reward_reference: float
    reward_warm: float
    reward_used_up: float
    gain_over_popularity: float
    gain_se: float
    gain_on_same_log: float
    gain_on_same_log_se: float
    gain_of_reference: float
    gain_of_reference_se: float
    share_of_warm: float
    share_se: float
    by_swipe: list[float]
    by_swipe_popularity: list[float]
    by_swipe_warm: list[float]


class PopularHere(PopularityPolicy):
    """The baseline with one difference: it ranks by valid plays here and not everywhere.

    That is the stronger rival.
    """

    def score(self, context: Context) -> Floats:
        """Return each candidate's popularity there, shape (n,)."""
        return context.features.actions[:, _HERE].astype(np.float64)


POPULAR_FEED = PopularHere(Softmax(0.3), name="popular_feed@0")
"""Temperatures of .02, .1 and .6 earned less (seed 0): it has to try things out."""

POPULAR_ON_SAME_LOG = PopularHere(Softmax(0.02), name="popular_here@0")
"""Temperatures of .05, .1 and .3 earned less (seed 0): it need not find out anything."""


def run_newcomers(
    size: NewcomersSize, *, preset: str, seed: int, advance: Advance, config: Config | None = None
) -> NewcomersResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of users, items and draws.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    config = config or Config()
    world = _warm_up(size, preset, seed, config, advance)
    rival_world = _warm_up(size, preset, seed, config, advance, rival=POPULAR_FEED)
    stages = {
        "policy": Stage(world, size.newcomers),
        "popularity": Stage(rival_world, size.newcomers, rival=POPULAR_FEED),
        "same log": Stage(world, size.newcomers, rival=POPULAR_ON_SAME_LOG),
        "reference": ReferenceStage(world, size.newcomers),
    }
    shown = {}
    for n_done, (name, stage) in enumerate(stages.items()):
        advance("first swipes", n_done, len(stages) + 2)
        shown[name] = first_cards(stage.swipe(size.first), size.first)
    n, cold = size.known_after - size.first, stages["policy"]
    cold.swipe(n, lambda seen: advance("get known", seen, n))
    users = cold.shard.users
    for name, known in (("warm", forget_items(users)), ("used up", users)):
        advance("first swipes", len(shown), len(stages) + 2)
        stage = Stage(world, size.newcomers, known=known)
        shown[name] = first_cards(stage.swipe(size.first), size.first)
    advance("first swipes", len(shown), len(shown))
    return _result(
        size, preset, seed, _of_all(shown, FIRST_PLACE + np.flatnonzero(cold.shard.life == 0))
    )


def _result(
    size: NewcomersSize, preset: str, seed: int, shown: Mapping[str, Shown]
) -> NewcomersResult:
    reward = {name: float(part.expected.mean()) for name, part in shown.items()}
    curve = {name: _by_swipe(part, size.first).round(4).tolist() for name, part in shown.items()}
    gain, on_same_log, share = (
        ratio_of(shown["policy"], shown[name]) for name in ("popularity", "same log", "warm")
    )
    of_reference = ratio_of(shown["reference"], shown["same log"])
    return NewcomersResult(
        size=size,
        preset=preset,
        seed=seed,
        compared=len(np.unique(shown["policy"].place)),
        reward=reward["policy"],
        reward_popularity=reward["popularity"],
        reward_same_log=reward["same log"],
        reward_reference=reward["reference"],
        reward_warm=reward["warm"],
        reward_used_up=reward["used up"],
        gain_over_popularity=gain.value - 1.0,
        gain_se=gain.se,
        gain_on_same_log=on_same_log.value - 1.0,
        gain_on_same_log_se=on_same_log.se,
        gain_of_reference=of_reference.value - 1.0,
        gain_of_reference_se=of_reference.se,
        share_of_warm=share.value,
        share_se=share.se,
        by_swipe=curve["policy"],
        by_swipe_popularity=curve["popularity"],
        by_swipe_warm=curve["warm"],
    )


def _warm_up(
    size: NewcomersSize,
    preset: str,
    seed: int,
    config: Config,
    advance: Advance,
    rival: Policy | None = None,
) -> ServedWorld:
    values = load(preset)
    still = msgspec.structs.replace(values.population, drift=0.0)
    world = ServedWorld(
        WorldSize(users=size.users, page=size.page, items=size.items),
        preset=msgspec.structs.replace(values, population=still),
        seed=seed,
        config=config,
        rival=rival,
    )
    step = "warm up" if rival is None else f"warm up {rival.name}"
    world.run(size.warm_cards, lambda n: advance(step, n, size.warm_cards))
    return world


def _of_all(parts: Mapping[str, Shown], places: Ints) -> dict[str, Shown]:
    """Return the cards of those who are in every part and in places."""
    for part in parts.values():
        places = np.intersect1d(places, part.place)
    if len(places) < 2:
        raise ValueError("expected at least 2 users who stayed, got fewer: take more newcomers")
    return {name: part.take(np.isin(part.place, places)) for name, part in parts.items()}


def _by_swipe(shown: Shown, n: int) -> Floats:
    """Return the mean of the first, second, .. card of everybody, shape (n,)."""
    order = np.argsort(shown.place, kind="stable")
    return np.asarray(shown.expected[order].reshape(-1, n).mean(axis=0))
