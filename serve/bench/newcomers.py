"""What people earn with their first swipes, against what is popular where they live.

A world is warmed up: its people swipe with the default policy, which learns. Then it is frozen, and
other people register who have never been there. The same people, from the same first moment, are
served by its snapshot and by each rival. Then those of the default policy swipe on until the server
knows them; their lives begin anew, rested as at first, while what the server knows stays, and they
are served once more: once as if they had seen none of the items yet, which is what they are
compared with, and once without what they have seen. (Who has seen the best 300 of a catalogue to
which nothing is added earns less than a stranger, however well they are known.) So all comparisons
are of the same people in the same moods, and what differs is what is claimed.

Nothing is learned meanwhile, so newcomers earn by what is known of items and people like them, not
by each other's answers. Their interests do not drift here, or what was learned of them would be
about somebody else by the end. All figures are exact expected rewards of the cards that were shown;
errors are by person.

Rivals

- *popularity*: a feed that always ranked by valid plays in the market, from the first card of the
  warm-up on. Like every arm of `serve.bench.coldstart` it has the log that it made: that is what a
  team has who ranks by popularity. Its candidates, slots and floor are the policy's, and it tries
  out as much as is best for it.
- *popularity on the same log*: the same ranking put in front of the policy's log. What the policy
  found out to be good is what is popular there, so this rival gets for nothing most of what there
  is to know before a person has answered.
- *a reference* that knows every item and learns tastes as well as can be, among the same candidates
  (`serve.bench.newcomer_reference`): about what there is to be had.
"""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from env.features import DYNAMIC, N_STATIC
from env.interface import Policy
from env.presets import load
from env.vocabulary import Context, Floats, Ints
from policies.baselines import PopularityPolicy
from policies.explorers import Softmax
from serve.bench.newcomer_reference import ReferenceStage
from serve.bench.newcomer_stage import FIRST_PLACE, Stage, forget_items
from serve.bench.paired import ratio_of
from serve.bench.served_cards import Shown, first_cards
from serve.bench.served_world import ServedWorld, WorldSize
from serve.config import Config

Advance = Callable[[str, int, int], None]

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
        seed: of people, items and draws.
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
    people = cold.shard.people
    for name, known in (("warm", forget_items(people)), ("used up", people)):
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
        WorldSize(people=size.people, page=size.page, items=size.items),
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
        raise ValueError("expected at least 2 people who stayed, got fewer: take more newcomers")
    return {name: part.take(np.isin(part.place, places)) for name, part in parts.items()}


def _by_swipe(shown: Shown, n: int) -> Floats:
    """Return the mean of the first, second, .. card of everybody, shape (n,)."""
    order = np.argsort(shown.place, kind="stable")
    return np.asarray(shown.expected[order].reshape(-1, n).mean(axis=0))
