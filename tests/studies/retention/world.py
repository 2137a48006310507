"""Do users come back more often in the full world? The bench behind `--world`.

    1. tune    the myopic bandit, by what its cards earn
    2. search  ranking weights: for lives, for sessions, and with a look at what is hidden
    3. mix     the best of constant mixtures of what engages and what nourishes
    4. learn   a network from the weights for lives, another one from those for sessions
    5. live    the measured users' 60 days under each policy, with the same luck
    6. still   the same where nothing is slow, tuned, searched and learned there: no gain
    7. move    retention and myopia, as they came out of 1 and 4, in worlds with other constants

The world's items are the same for all, the users are others in each step. `session` is retention
in all but its credit, which ends with the session. `informed` cheats: it knows bait and load as
they are, which bounds what ranking by these columns can come to. A simulator's gain is a property
of the simulator (`docs/world.md`).
"""

import os
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

from env.report.played_lives import Choose, EvaluationRollouts, EvaluationUsers, evaluation_rollouts
from env.vocabulary import Ints
from env.world.presets import Preset, load
from env.world.simulation import Simulation
from policies.training.distill import distil
from policies.training.rankings import (
    NetworkRanking,
    RandomRanking,
    WeightedRanking,
    named_weights,
    tune_myopic,
)
from policies.training.search.search import Goal, search_weights
from policies.training.search.settings import SearchTrainingArgs
from policies.training.worlds import HELD_OUT
from serve.jobs.train_search import Gain, gain_in_d30, gain_in_days


class PolicyFigures(msgspec.Struct, frozen=True):
    """What users' lives were under a policy.

    Attributes:
        name: of the policy.
        active_days: with a session, a user.
        d30: share of users who had a session on day 30.
        churned: share of users who left for ever.
        session_cards: cards a session.
        card_watch_s: seconds a card.
        card_reward: engagement a card.
    """

    name: str
    active_days: float
    d30: float
    churned: float
    session_cards: float
    card_watch_s: float
    card_reward: float


class MovedWorld(msgspec.Struct, frozen=True):
    """Retention against myopia in a world with other constants, both as they came from ours.

    Attributes:
        seed: of the constants.
        myopic_days: active days under the myopic bandit.
        gain: in active days.
    """

    seed: int
    myopic_days: float
    gain: Gain


class WorldResult(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        policies: a row each.
        gain_over_myopic: in active days, relative.
        d30_over_myopic: difference of shares.
        gain_over_session: in active days, over the same learner without credit after a session.
        gain_over_mix: over the best constant mixture.
        gain_over_weights: over the ranking weights that it began as.
        best_mix: name of that mixture.
        control: gain over the myopic bandit where nothing is slow, both made there.
        moved: worlds with other constants.
        moved_wins: of them, those where users have more active days under retention.
        seconds: of all.
        seed: of everything.
    """

    policies: list[PolicyFigures]
    gain_over_myopic: Gain
    d30_over_myopic: Gain
    gain_over_session: Gain
    gain_over_mix: Gain
    gain_over_weights: Gain
    best_mix: str
    control: Gain
    moved: list[MovedWorld]
    moved_wins: int
    seconds: float
    seed: int


def figures_of(name: str, lives: EvaluationRollouts) -> PolicyFigures:
    """Return the row of a policy."""
    return PolicyFigures(
        name=name,
        active_days=float(lives.active_days.mean()),
        d30=float(lives.day_30.mean()),
        churned=float(lives.churned.mean()),
        session_cards=float(lives.cards.sum() / lives.active_days.sum()),
        card_watch_s=float(lives.watch_s.sum() / lives.cards.sum()),
        card_reward=lives.reward_a_card(),
    )


class Mixture(msgspec.Struct, frozen=True, tag="mixture"):
    """Shows what one ranking would in a constant share of the cards, else what another would."""

    share: float
    one: WeightedRanking
    other: WeightedRanking

    def open(self, seed: int) -> Choose:
        """Return the policy at work, with its own draws."""
        rng, one, other = np.random.default_rng(seed), self.one.open(seed), self.other.open(seed)

        def choose(observation: Any, swiping: Simulation) -> Ints:
            takes_one = rng.random(len(observation["user"])) < self.share
            return np.where(takes_one, one(observation, swiping), other(observation, swiping))

        return choose


AnyPolicy = WeightedRanking | Mixture | RandomRanking | NetworkRanking


def constant_mixes(engaging: WeightedRanking) -> dict[str, Mixture | WeightedRanking]:
    """Return constant mixtures of what engages and what nourishes, by name.

    Of two kinds: the ranker of a card is drawn, or both are added up with a constant weight. What
    nourishes is played and does not look like bait.

    Args:
        engaging: ranks by what engages.
    """
    nourishing = WeightedRanking(named_weights(valid_play=1.0, baited_play=-1.0, bait_guess=-1.0))
    mixes: dict[str, Mixture | WeightedRanking] = {
        f"nourish {share:g}": Mixture(share, nourishing, engaging)
        for share in (0.25, 0.5, 0.75, 1.0)
    }
    for weight in (0.25, 0.5, 1.0):
        mixes[f"bait -{weight:g}"] = WeightedRanking(
            named_weights(valid_play=1.0, bait_guess=-weight)
        )
    return mixes


QUARTER = 0.25

_PROBABILITIES = frozenset(
    {
        "zero", "loop", "like_skipped", "comment", "comment_skipped", "share", "share_skipped",
        "follow_liked", "follow", "follow_skipped", "not_interested", "recovery", "return_classes",
        "daily_share", "churn", "newcomers", "drift_back", "creator_effect", "creator_focus",
        "local_share",
    }
)  # fmt: skip

_LOG_ODDS = frozenset({"like", "exit", "intercept"})
_LOGARITHMS = frozenset({"skip_mu", "watch_mu", "log_duration_mu"})
_DECAYS = frozenset({"satiation_decay", "load_decay"})

_KEPT = frozenset(
    {
        "n_items", "n_creators", "n_dims", "least_s", "most_s", "a_day", "audience", "give_up",
        "exposures_per_swipe", "cohorts", "devices", "return_watch_s",
    }
)  # fmt: skip


def move_constants(preset: Preset, seed: int) -> Preset:
    """Return a world all of whose constants are moved by up to a quarter, see the module.

    Args:
        preset: of the world.
        seed: of the factors.
    """
    rng = np.random.default_rng(seed)
    parts = ("rates", "moods", "priors", "uploads", "population")
    moved = {name: _move_fields(getattr(preset, name), rng) for name in parts}
    cohorts = {
        name: _move_fields(c, rng, {"share", "peak_hours"})
        for name, c in preset.population.cohorts.items()
    }
    moved["population"] = replace(moved["population"], cohorts=cohorts)
    return replace(
        preset,
        name=f"{preset.name} moved {seed}",
        intercept=_moved("intercept", preset.intercept, rng),
        duration=_moved("duration", preset.duration, rng),
        **moved,
    )


def still(preset: Preset) -> Preset:
    """Return a world without what is slow: satisfaction stays, and no topic tires.

    Whoever looks one card ahead loses next to nothing there.
    """
    return replace(
        preset,
        name=f"{preset.name} still",
        moods=replace(
            preset.moods, satisfaction_step=0.0, satisfaction_noise=0.0, exit_satiation=0.0
        ),
        rates=replace(preset.rates, satiation=0.0),
    )


def _move_fields(part: Any, rng: np.random.Generator, kept: Any = _KEPT) -> Any:
    """Return a record with each of its constants moved."""
    values = asdict(part).items()
    return replace(part, **{n: _moved(n, v, rng) for n, v in values if n not in kept})


def _moved(name: str, value: Any, rng: np.random.Generator) -> Any:
    """Return a constant or a tuple or table of them, each moved by a factor of its own."""
    if isinstance(value, dict):
        return {key: _moved(name, one, rng) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(name, one, rng) for one in value)
    return _scaled(name)(value, float(rng.uniform(1.0 - QUARTER, 1.0 + QUARTER)))


def _scaled(name: str) -> Callable[[float, float], float]:
    """Return what a factor does to a constant of this name."""
    if name in _PROBABILITIES:
        return lambda value, factor: value * factor / (1.0 - value + value * factor)
    if name in _LOG_ODDS | _LOGARITHMS:
        return lambda value, factor: value + float(np.log(factor))
    if name in _DECAYS:
        return lambda value, factor: 1.0 - (1.0 - value) * factor
    return lambda value, factor: value * factor


Advance = Callable[[str, int, int], None]
"""Told a stage, how many of its tasks are done, and of how many."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class WorldSize(msgspec.Struct, frozen=True):
    """How much is played.

    Attributes:
        users: that are measured, a multiple of `places`.
        places: in which users live side by side.
        moved: worlds with other constants.
        moved_users: that are measured in each, a multiple of `places`.
        training: how rankers come about, as under `nextswipe train retention`, but for its seed:
            that of the bench counts. Who is measured lives as long as those who judge.
    """

    users: int = 20_000
    places: int = 1_000
    moved: int = 10
    moved_users: int = 2_000
    training: SearchTrainingArgs = SearchTrainingArgs()

    def __post_init__(self) -> None:
        """Refuse numbers of users that do not divide.

        Raises:
            ValueError: it leaves a user out.
        """
        for name in ("users", "moved_users"):
            if getattr(self, name) < 1 or getattr(self, name) % self.places:
                got = getattr(self, name)
                raise ValueError(f"expected {name} in multiples of {self.places}, got {got}")


def run_world(
    size: WorldSize,
    *,
    seed: int,
    advance: Advance = lambda stage, done, total: None,
    processes: int | None = None,
) -> WorldResult:
    """Return whether users come back more often.

    Args:
        size: how much is played.
        seed: of everything.
        advance: told of progress.
        processes: that share the work; else one a processor.
    """
    began = time.monotonic()
    context = get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=context) as workers:
        return _Bench(size, seed, workers, advance).run(began)


class _Bench:
    """A run: its tasks are played by whoever is free, a stage after the other."""

    def __init__(self, size: WorldSize, seed: int, workers: Executor, advance: Advance) -> None:
        self._size, self._seed, self._workers, self._advance = size, seed, workers, advance
        self._training = size.training
        self._ours = load(size.training.preset)
        self._still = still(self._ours)
        self._measured = self._held_out(size.users)

    def run(self, began: float) -> WorldResult:
        """Return what comes of all stages."""
        myopic = self._tune()
        weights = self._search(myopic)
        mix_name, mix = self._mix(myopic["ours"])
        learned = self._learn(weights)
        retention = learned["life"]
        lives = self._live(
            "live",
            self._ours,
            {
                "random": RandomRanking(),
                "myopic": myopic["ours"],
                "constant mix": mix,
                "session": learned["session"],
                "weights": weights["life"],
                "retention": retention,
                "informed": weights["informed"],
            },
        )
        quiet = self._live(
            "still", self._still, {"myopic": myopic["still"], "retention": learned["still"]}
        )
        moved = self._move(myopic["ours"], retention)
        return WorldResult(
            policies=[figures_of(name, under) for name, under in lives.items()],
            gain_over_myopic=gain_in_days(lives["retention"], lives["myopic"]),
            d30_over_myopic=gain_in_d30(lives["retention"], lives["myopic"]),
            gain_over_session=gain_in_days(lives["retention"], lives["session"]),
            gain_over_mix=gain_in_days(lives["retention"], lives["constant mix"]),
            gain_over_weights=gain_in_days(lives["retention"], lives["weights"]),
            best_mix=mix_name,
            control=gain_in_days(quiet["retention"], quiet["myopic"]),
            moved=moved,
            moved_wins=sum(world.gain.value > 0.0 for world in moved),
            seconds=time.monotonic() - began,
            seed=self._seed,
        )

    def _tune(self) -> dict[str, WeightedRanking]:
        made = self._training
        worlds = {"ours": self._ours, "still": self._still}
        return self._all(
            "tune",
            {
                name: partial(tune_myopic, world, made.tuned, made.judged, made.n_turns, self._seed)
                for name, world in worlds.items()
            },
        )

    def _search(self, myopic: Mapping[str, WeightedRanking]) -> dict[str, WeightedRanking]:
        made = self._training
        start = myopic["ours"]
        informed = msgspec.structs.replace(start, is_informed=True)

        def search(
            world: Preset, start: WeightedRanking, goal: Goal
        ) -> Callable[[], WeightedRanking]:
            return partial(
                search_weights,
                world,
                made.searched,
                start,
                goal,
                made.n_generations,
                self._seed,
            )

        return self._all(
            "search",
            {
                "life": search(self._ours, start, "life"),
                "session": search(self._ours, start, "session"),
                "informed": search(self._ours, informed, "life"),
                "still": search(self._still, myopic["still"], "life"),
            },
        )

    def _mix(self, engaging: WeightedRanking) -> tuple[str, AnyPolicy]:
        mixes = constant_mixes(engaging)
        lives = self._live("mix", self._ours, mixes, self._training.judged)
        best = max(mixes, key=lambda name: float(lives[name].active_days.mean()))
        return best, mixes[best]

    def _learn(self, weights: Mapping[str, WeightedRanking]) -> dict[str, NetworkRanking]:
        made = self._training
        worlds = {"life": self._ours, "session": self._ours, "still": self._still}
        return self._all(
            "learn",
            {
                name: partial(distil, world, weights[name], made.watched, made.n_turns, self._seed)
                for name, world in worlds.items()
            },
        )

    def _move(self, myopic: WeightedRanking, retention: AnyPolicy) -> list[MovedWorld]:
        size = self._size
        users = self._held_out(size.moved_users)
        seeds = [self._seed * 1_000 + k for k in range(size.moved)]
        policies: dict[str, AnyPolicy] = {"myopic": myopic, "retention": retention}
        lives = self._all(
            "move",
            {
                (seed, name): partial(
                    _play, move_constants(self._ours, seed), policy, users, self._seed
                )
                for seed in seeds
                for name, policy in policies.items()
            },
        )
        return [
            MovedWorld(
                seed,
                float(lives[seed, "myopic"].active_days.mean()),
                gain_in_days(lives[seed, "retention"], lives[seed, "myopic"]),
            )
            for seed in seeds
        ]

    def _held_out(self, n_users: int) -> EvaluationUsers:
        places = self._size.places
        return EvaluationUsers(HELD_OUT, places, n_users // places, self._training.judged_days)

    def _live(
        self,
        stage: str,
        world: Preset,
        policies: Mapping[str, AnyPolicy],
        users: EvaluationUsers | None = None,
    ) -> dict[str, EvaluationRollouts]:
        """Return lives under each policy, of those who are measured if nobody else is named."""
        return self._all(
            stage,
            {
                name: partial(_play, world, policy, users or self._measured, self._seed)
                for name, policy in policies.items()
            },
        )

    def _all(self, stage: str, tasks: Mapping[K, Callable[[], T]]) -> dict[K, T]:
        """Return what comes of the tasks of a stage, by their names and in their order."""
        futures = {self._workers.submit(task): name for name, task in tasks.items()}
        done = {}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            self._advance(stage, len(done), len(tasks))
        return {name: done[name] for name in tasks}


def _play(
    world: Preset, policy: AnyPolicy, users: EvaluationUsers, seed: int
) -> EvaluationRollouts:
    return evaluation_rollouts(world, policy.open(seed), users)
