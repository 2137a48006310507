"""A reference for newcomers: it knows all of the world but their tastes, which it learns.

It is told every item's appeal, everybody's lean, mood and hour, and the law of answers. What it
believes of a taste begins with the world's own normal prior and moves with each answer:

    r = f(u) + noise,  u = taste . x + what is known,  f' = slope
    precision += slope^2 / sigma^2 x x'                (extended Kalman filter; Jazwinski,
    pull      += slope / sigma^2 (r - f(u) + slope x . mean) x      "Stochastic Processes and
    mean       = precision^-1 pull                                   Filtering Theory", 1970)

with f and slope taken at the mean of before. It chooses among the same candidates and by the same
rules of slots as the policy does, greedily but for the floor. No policy that does not know people
beforehand gets far beyond; what one that learns from a log lacks to it is knowledge of items.

Rejected: ranking by items' true quality at home (it knows less of a person than any policy, their
language and mood left out, and is beaten), and planning ahead for what answers would teach.
"""

from dataclasses import dataclass

import numpy as np

from env.moods import satiate, tire
from env.population import People
from env.records import PageRecord
from env.vocabulary import Bools, Context, Floats, Ints
from env.world import BAIT, TOPIC
from policies.explorers import Softmax, explorer_args
from serve.bench.newcomer_stage import FIRST_PLACE, Stage
from serve.bench.served_cards import Shown
from serve.bench.served_people import Person
from serve.bench.served_world import ServedWorld
from serve.bench.swipe_logs import expected_of

_EXPLORER = Softmax(0.005)
_STEP = 0.1
"""Of affinity, over which a slope is taken."""


@dataclass(slots=True)
class Guessed:
    """`Minds` of whom all is known but the tastes, which are guessed."""

    people: People
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
            self.people.take(index),
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

    def __init__(self, world: ServedWorld, n_people: int) -> None:
        """Let the newcomers sit down.

        Args:
            world: warmed up; it does not move.
            n_people: how many they are.
        """
        super().__init__(world, n_people, rival=self)
        n_dims, sd = world.preset.uploads.n_dims, world.preset.priors.taste_sd
        self._noise = float(np.var(world.shown.reward - world.shown.expected))
        self.precision: Floats = np.repeat((np.eye(n_dims) / sd**2)[None], n_people, axis=0)
        self._pull: Floats = np.zeros((n_people, n_dims))
        self.taste: Floats = np.zeros((n_dims, n_people))
        self._asking: Guessed | None = None

    @property
    def explorer(self) -> dict[str, object]:
        """Nearly greedy."""
        return explorer_args(_EXPLORER)

    def score(self, context: Context) -> Floats:
        """Return what each candidate is expected to earn of who asks, shape (n,)."""
        if self._asking is None:
            raise RuntimeError("expected somebody to ask for a page before it is scored")
        rows = np.array([self._world.row_of(name) for name in context.candidates])
        return np.asarray(self._expect(self._asking, rows[None])[0])

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return _EXPLORER.pmf(scores, mask)

    def _draw(self, person: Person) -> PageRecord | None:
        place = next(i for i, other in enumerate(self.shard.people) if other is person)
        self._asking = self._guess().take(np.array([place]))
        return super()._draw(person)

    def _turn(self) -> Shown:
        before = self._guess().take(np.arange(len(self.shard.people)))
        shown = super()._turn()
        self._learn(shown, before)
        return shown

    def _guess(self) -> Guessed:
        """Return the people with their tastes as guessed; all of it moves on as they do."""
        crowd = self.shard.swiping.crowd
        return Guessed(crowd.people, self.taste, crowd.satiation, crowd.load, crowd.hour)

    def _expect(self, people: Guessed, rows: Ints) -> Floats:
        world = self._world
        return expected_of(people, world.supply.stock, rows, world.preset, world.config.reward)

    def _learn(self, shown: Shown, before: Guessed) -> None:
        """Move the guesses by a page, card after card, as people's moods went."""
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

    def _hear(self, who: Ints, rows: Ints, reward: Floats, people: Guessed) -> None:
        """Add a card each of some people to what is known of their tastes."""
        vectors = self._world.supply.stock.vectors[:, rows]
        expected = self._expect(people, rows[:, None])[:, 0]
        people.taste = people.taste + _STEP * vectors / (vectors**2).sum(axis=0)
        slope = (self._expect(people, rows[:, None])[:, 0] - expected) / _STEP
        linear = reward - expected + slope * (vectors * self.taste[:, who]).sum(axis=0)
        self.precision[who] += (slope**2 / self._noise)[:, None, None] * (
            vectors.T[:, :, None] * vectors.T[:, None, :]
        )
        self._pull[who] += (slope / self._noise * linear)[:, None] * vectors.T
