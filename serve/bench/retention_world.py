"""Do people come back more often in the full world? The bench behind `--world`.

    1. tune    the myopic bandit, by what its cards earn
    2. search  ranking weights: for lives, for sessions, and with a look at what is hidden
    3. mix     the best of constant mixtures of what engages and what nourishes
    4. learn   a network from the weights for lives, another one from those for sessions
    5. live    the measured people's 60 days under each policy, with the same luck
    6. still   the same where nothing is slow, tuned, searched and learned there: no gain
    7. move    retention and myopia, as they came out of 1 and 4, in worlds with other constants

The world's items are the same for all, the people are others in each step. `session` is retention
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
from typing import TypeVar

import msgspec

from env.played_lives import People, PlayedLives, play_lives
from env.presets import Preset, load
from policies.retention.distilled import learn
from policies.retention.myopic import tune_myopic
from policies.retention.places import HELD_OUT
from policies.retention.rankings import AtRandom, Network, Weights
from policies.retention.search import Goal, search_weights
from policies.retention.search_args import SearchedArgs
from serve.bench.retention_figures import MovedWorld, WorldResult, figures_of
from serve.bench.retention_mixes import AnyPolicy, constant_mixes
from serve.bench.retention_moved import move_constants, still
from serve.retention_gains import gain_in_d30, gain_in_days

Advance = Callable[[str, int, int], None]
"""Told a stage, how many of its tasks are done, and of how many."""
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class WorldSize(msgspec.Struct, frozen=True):
    """How much is played.

    Attributes:
        people: that are measured, a multiple of `places`.
        places: in which people live side by side.
        moved: worlds with other constants.
        moved_people: that are measured in each, a multiple of `places`.
        training: how rankers come about, as under `nextswipe train retention`, but for its seed:
            that of the bench counts. Who is measured lives as long as those who judge.
    """

    people: int = 20_000
    places: int = 1_000
    moved: int = 10
    moved_people: int = 2_000
    training: SearchedArgs = SearchedArgs()

    def __post_init__(self) -> None:
        """Refuse numbers of people that do not divide.

        Raises:
            ValueError: it leaves somebody out.
        """
        for name in ("people", "moved_people"):
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
    """Return whether people come back more often.

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
        self._measured = self._held_out(size.people)

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
                "random": AtRandom(),
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

    def _tune(self) -> dict[str, Weights]:
        made = self._training
        worlds = {"ours": self._ours, "still": self._still}
        return self._all(
            "tune",
            {
                name: partial(tune_myopic, world, made.tuned, made.judged, made.n_turns, self._seed)
                for name, world in worlds.items()
            },
        )

    def _search(self, myopic: Mapping[str, Weights]) -> dict[str, Weights]:
        made = self._training
        start = myopic["ours"]
        informed = msgspec.structs.replace(start, is_informed=True)

        def search(world: Preset, start: Weights, goal: Goal) -> Callable[[], Weights]:
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

    def _mix(self, engaging: Weights) -> tuple[str, AnyPolicy]:
        mixes = constant_mixes(engaging)
        lives = self._live("mix", self._ours, mixes, self._training.judged)
        best = max(mixes, key=lambda name: float(lives[name].active_days.mean()))
        return best, mixes[best]

    def _learn(self, weights: Mapping[str, Weights]) -> dict[str, Network]:
        made = self._training
        worlds = {"life": self._ours, "session": self._ours, "still": self._still}
        return self._all(
            "learn",
            {
                name: partial(learn, world, weights[name], made.watched, made.n_turns, self._seed)
                for name, world in worlds.items()
            },
        )

    def _move(self, myopic: Weights, retention: AnyPolicy) -> list[MovedWorld]:
        size = self._size
        people = self._held_out(size.moved_people)
        seeds = [self._seed * 1_000 + k for k in range(size.moved)]
        policies: dict[str, AnyPolicy] = {"myopic": myopic, "retention": retention}
        lives = self._all(
            "move",
            {
                (seed, name): partial(
                    _play, move_constants(self._ours, seed), policy, people, self._seed
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

    def _held_out(self, n_people: int) -> People:
        places = self._size.places
        return People(HELD_OUT, places, n_people // places, self._training.judged_days)

    def _live(
        self,
        stage: str,
        world: Preset,
        policies: Mapping[str, AnyPolicy],
        people: People | None = None,
    ) -> dict[str, PlayedLives]:
        """Return lives under each policy, of those who are measured if nobody else is named."""
        return self._all(
            stage,
            {
                name: partial(_play, world, policy, people or self._measured, self._seed)
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


def _play(world: Preset, policy: AnyPolicy, people: People, seed: int) -> PlayedLives:
    return play_lives(world, policy.open(seed), people)
