"""What `nextswipe arms` says of simulated users whose expected rewards are known.

A real server learns from a swarm first, as after `nextswipe up`; then another one on the same
data folder splits the users as the settings say. The world is asked for the expected reward of each
card as it is shown; the difference of the arms' means is the truth that the interval has to hold.
"""

import asyncio
import tempfile
from collections.abc import Callable

import msgspec
import numpy as np

from env.vocabulary import ItemId
from env.world.user import SimulatedUserState, expected_reward, simulated_users
from env.world.world import UserParameters, World
from serve.bench.loop import fill_data_folder, first_swipe_ms
from serve.config import ClockSettings, Config, DataSettings, Experiment, ServerSettings
from serve.jobs.arms import read_arms, verdict
from serve.jobs.import_data import load_world
from serve.processes.start import serving
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm, Witness
from serve.wire.client import FeedClient
from serve.wire.feed import CardBody

Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the cards swiped in it, and the total."""


FIRST_MS = 1_767_225_600_000
"""Date of the generated catalogue: 1 January 2026."""


class ArmsSize(msgspec.Struct, frozen=True):
    """Size of one world: cards before the split, those at its two looks, and users."""

    warm: int = 10_000
    early: int = 500
    cards: int = 20_000
    present: int = 100
    users: int = 2_000


class ArmsLook(msgspec.Struct, frozen=True):
    """What was said at one look, of the first arm that is not the control."""

    cards: int  # shown
    truth: float  # difference of the mean expected rewards of the cards shown
    difference: float
    low: float
    high: float
    holds: bool  # the truth is between low and high
    early: bool
    winner: str
    says: str


class ArmsWorld(msgspec.Struct, frozen=True):
    """Both looks at one world."""

    seed: int
    looks: tuple[ArmsLook, ...]


class ArmsResult(msgspec.Struct, frozen=True):
    """The looks at all worlds, and how often what was said was right."""

    worlds: tuple[ArmsWorld, ...]
    held: float  # share of looks that hold the truth
    named: float  # share of worlds in which the better arm was named in the end
    wrong: int  # looks at which a worse arm was named
    early: float  # share of worlds in which it was too early at the first look


class _Truth:
    """Gathers the expected reward of each card, by the policy that drew it."""

    def __init__(self, world: World, config: Config) -> None:
        self._world, self._config = world, config
        self._arms = {arm.policy: arm.name for arm in config.experiment.arms}
        self._earned: dict[str, list[float]] = {arm: [] for arm in config.experiment.shares}

    def __call__(self, card: CardBody, user: UserParameters, state: SimulatedUserState) -> None:
        index = np.array([self._world.index_of(ItemId(card.item_id))])
        expected = expected_reward(self._world, user, state, index, self._config.reward)
        self._earned[self._arms[card.policy.partition("@")[0]]].append(float(expected[0]))

    def difference(self, arm: str, control: str) -> float:
        return float(np.mean(self._earned[arm]) - np.mean(self._earned[control]))


def run_arms(config: Config, size: ArmsSize, *, seeds: range, advance: Advance) -> ArmsResult:
    """Swipe one world for each seed.

    Args:
        config: its experiment, of policies that differ, and its reward are used.
        size: of each world.
        seeds: of the worlds and of their users' choices.
        advance: progress callback.
    """
    worlds = tuple(_run_world(config, size, seed, advance) for seed in seeds)
    looks = [look for world in worlds for look in world.looks]
    control = config.experiment.control
    return ArmsResult(
        worlds=worlds,
        held=float(np.mean([look.holds for look in looks])),
        named=float(np.mean([_is_right(world.looks[-1], control) for world in worlds])),
        wrong=sum(bool(look.winner) and not _is_right(look, control) for look in looks),
        early=float(np.mean([world.looks[0].early for world in worlds])),
    )


def _is_right(look: ArmsLook, control: str) -> bool:
    return bool(look.winner) and (look.winner == control) == (look.truth < 0.0)


def _run_world(given: Config, size: ArmsSize, seed: int, advance: Advance) -> ArmsWorld:
    with tempfile.TemporaryDirectory(prefix="nextswipe-arms-") as folder:
        config = msgspec.structs.replace(
            given,
            server=ServerSettings(port=0),
            data=DataSettings(folder),
            clock=ClockSettings(simulated=True),
        )
        fill_data_folder(config, seed, None, FIRST_MS, size.users)
        swiping = _Swiping(config, size, seed, advance)
        if size.warm:
            whole = msgspec.structs.replace(config, experiment=Experiment())
            with serving(whole, with_ray=False) as address:
                asyncio.run(swiping.warm(address))
        with serving(config, with_ray=False) as address:
            return ArmsWorld(seed, asyncio.run(swiping.split(address)))


class _Swiping:
    """The users of one world, who keep their state from one server to the next."""

    def __init__(self, config: Config, size: ArmsSize, seed: int, advance: Advance) -> None:
        self._config, self._size, self._seed, self._advance = config, size, seed, advance
        world, accounts = load_world(config, seed)
        self._users, self._truth = simulated_users(world, accounts), _Truth(world, config)
        self._clock_ms = first_swipe_ms(config)

    async def warm(self, address: str) -> None:
        async with FeedClient(address) as client:
            swarm = self._swarm(client, self._seed, None)
            await self._swipe(swarm, "warm", self._size.warm)
            await swarm.leave()
            self._clock_ms = swarm.clock_ms

    async def split(self, address: str) -> tuple[ArmsLook, ...]:
        async with FeedClient(address) as client:
            swarm, looks = self._swarm(client, self._seed + 1_000, self._truth), []
            for cards in (self._size.early, self._size.cards):
                await self._swipe(swarm, "split", cards)
                looks.append(_look(self._config, self._truth, swarm.tally.cards))
            await swarm.leave()
        return tuple(looks)

    def _swarm(self, client: FeedClient, seed: int, witness: Witness | None) -> Swarm:
        present = ConstantAttendance(self._users, self._size.present)
        return Swarm(client, present, seed=seed, start_ms=self._clock_ms, witness=witness)

    async def _swipe(self, swarm: Swarm, step: str, until: int) -> None:
        name = f"world {self._seed}, {step}"
        await swarm.swipe(
            until - swarm.tally.cards,
            on_window=lambda tally: self._advance(name, tally.cards, until),
        )


def _look(config: Config, truth: _Truth, cards: int) -> ArmsLook:
    told = read_arms(config)
    arm = next(one.arm for one in told.arms if one.arm != told.control)
    apart = told.figure("reward_per_card", arm).difference
    if apart is None:
        raise RuntimeError(f"expected users of both arms after {cards} cards, got {told.arms}")
    true = truth.difference(arm, told.control)
    return ArmsLook(
        cards=cards,
        truth=true,
        difference=apart.value,
        low=apart.low,
        high=apart.high,
        holds=apart.low < true < apart.high,
        early=told.is_early,
        winner=told.winner,
        says=verdict(told),
    )
