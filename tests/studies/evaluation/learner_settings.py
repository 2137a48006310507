"""How fast to learn and how to explore, compared in one simulated world.

First one log of uniformly drawn cards: each learning rate learns its first two thirds in their
order and predicts the last; what counts is the correlation of prediction and reward. A ridge
regression on all of it at once says what an unhurried learner would reach. Then closed loops: with
each setting users swipe a catalogue that is new to it, and what counts is what they give a card in
the last third of the pages, against the same users with uniformly drawn cards.

Server, learner and users are in one process and take turns: a version is swapped in after so many
cards, without snapshots or HTTP, so that nothing depends on how fast this machine is. The seed
fixes world and users, not the draws, which hang on a secret and on random pseudonyms.

Rejected: prediction alone as the measure (what a policy learns from is what it has shown).
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from env.fair_start.audience import Audiences
from env.interface import EventLog
from env.items.statistics import ItemStates
from env.vocabulary import Context, Floats, Ints
from env.world.user import simulated_users
from policies.bandit.policy import HybridBandit
from policies.bandit.settings import HybridBanditArgs
from policies.explorers import AnyExplorer, Epsilon, SquareCB
from replay.estimators.intervals import Estimate, clustered_estimate
from replay.join.dataset import Dataset, read
from replay.reward_models.ridge import RidgeModel
from serve.bench.loop import fill_data_folder, first_swipe_ms, uplift
from serve.config import (
    Arm,
    ClockSettings,
    Config,
    ContentSettings,
    DataSettings,
    Experiment,
    PolicyName,
)
from serve.feed.engine import Engine
from serve.feed.pipeline import Pipeline
from serve.jobs.import_data import load_world
from serve.learn.fold import LearnerState
from serve.learn.served import ServingModel
from serve.learn.settings import learning_args
from serve.processes.replica import FeedReplica
from serve.store.open import open_store
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm
from serve.wire.feed import FeedbackRequest, FeedbackResponse, FeedRequest, FeedResponse

Advance = Callable[[str, int, int], None]
"""Told the name of the step, how much is done, and of how much."""

VERSION_CARDS = 500
DEFAULT = HybridBanditArgs()
RATES = ((0.25, 0.5), (0.25, 0.0), (0.1, 0.0), (1.0, 0.5), (4.0, 0.5))


class LearnerSize(msgspec.Struct, frozen=True):
    """How much is swiped.

    Attributes:
        cards: with each setting.
        users: who may come.
        present: visits at a time.
    """

    cards: int = 20_000
    users: int = 2_000
    present: int = 200


class Setting(msgspec.Struct, frozen=True):
    """What a closed loop is run with; the rest has its default."""

    learning_rate: float = DEFAULT.learning_rate
    power_t: float = DEFAULT.power_t
    optimism: float = DEFAULT.optimism
    clip_p: float = DEFAULT.clip_p
    explorer: AnyExplorer = DEFAULT.explorer


SETTINGS = (
    Setting(),
    Setting(learning_rate=1.0),
    Setting(power_t=0.0),
    Setting(optimism=0.0),
    Setting(clip_p=0.0, learning_rate=0.0025),
    Setting(explorer=SquareCB(gamma=1_000.0)),
    Setting(explorer=SquareCB(gamma=10_000.0)),
    Setting(explorer=Epsilon(epsilon=0.1)),
)


class Predicted(msgspec.Struct, frozen=True):
    """How well a learning rate predicts: the correlation with the rewards of the last third."""

    learning_rate: float
    power_t: float
    correlation: float


class Gained(msgspec.Struct, frozen=True):
    """What a setting earned.

    Attributes:
        reward: a card, in the last third of the pages.
        gain: relative to uniformly drawn cards.
        gain_low: its lower 95% bound, by user.
    """

    setting: Setting
    reward: float
    gain: float
    gain_low: float


class LearnerResult(msgspec.Struct, frozen=True):
    """What the comparison showed."""

    catalogue: str
    seed: int
    size: LearnerSize
    predicted: tuple[Predicted, ...]
    ridge_correlation: float
    reward_uniform: float
    gained: tuple[Gained, ...]


def run_learner(
    size: LearnerSize,
    *,
    seed: int,
    kuairand: Path | None,
    now_ms: int,
    advance: Advance,
    rates: tuple[tuple[float, float], ...] = RATES,
    settings: tuple[Setting, ...] = SETTINGS,
) -> LearnerResult:
    """Compare learning rates and settings in data folders that are removed afterwards.

    Args:
        size: how much is swiped.
        seed: of the world and of its users' choices.
        kuairand: a KuaiRand folder, to which the world is fitted; None: a generated one.
        now_ms: the wall clock, for what is generated.
        advance: told of progress.
        rates: pairs of learning rate and `power_t` to compare.
        settings: to compare in closed loops.
    """
    with tempfile.TemporaryDirectory(prefix="nextswipe-learner-") as home:
        start, step = Path(home) / "start", "import"
        advance(step, 0, 1)
        auc = fill_data_folder(
            _config(start, "uniform", Setting()), seed, kuairand, now_ms, size.users
        )
        advance(step, 1, 1)
        trial = _Trial(start, size, seed, advance)
        uniform = trial.run("uniform", Setting(), "swipe uniformly drawn cards")
        base = _late_reward(uniform)
        predicted, ridge = _compare_rates(uniform, rates, advance)
        gained = []
        for k, setting in enumerate(settings):
            earned = _late_reward(
                trial.run("vowpal", setting, f"setting {k + 1} of {len(settings)}")
            )
            gained.append(Gained(setting, earned.value, *uplift(earned, base)))
    return LearnerResult(
        catalogue="generated" if auc is None else "kuairand",
        seed=seed,
        size=size,
        predicted=predicted,
        ridge_correlation=ridge,
        reward_uniform=base.value,
        gained=tuple(gained),
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    """Lets users swipe copies of one data folder."""

    start: Path
    size: LearnerSize
    seed: int
    advance: Advance

    def run(self, policy: PolicyName, setting: Setting, step: str) -> Dataset:
        """Return the decisions of a loop that began with nothing learned."""
        folder = self.start.with_name("trial")
        shutil.copytree(self.start, folder)
        config = _config(folder, policy, setting)
        replica = FeedReplica(config, now_ms=lambda: 0)
        try:
            asyncio.run(self._swipe(config, replica, step))
        finally:
            replica.close()
        with open_store(config, lambda: 0) as store:
            dataset = read(store.log.read(), config.reward)
        shutil.rmtree(folder)
        return dataset

    async def _swipe(self, config: Config, replica: FeedReplica, step: str) -> None:
        world, accounts = load_world(config, self.seed)
        chosen = np.random.default_rng(self.seed).permutation(len(accounts))[: self.size.users]
        with open_store(config, lambda: 0) as store:
            log = store.log
            learning = LearnerState(learning_args(config))
            swarm = Swarm(
                _Embedded(replica.engine, replica.pipeline, log, learning),
                ConstantAttendance(
                    simulated_users(world, [accounts[k] for k in chosen]), self.size.present
                ),
                seed=self.seed,
                start_ms=first_swipe_ms(config),
            )
            n = self.size.cards
            await swarm.swipe(n, on_window=lambda tally: self.advance(step, tally.cards, n))
            await swarm.leave()
            if swarm.tally.errors or swarm.tally.refused:
                raise RuntimeError(f"expected every request to be answered, got {swarm.tally}")


@dataclass(slots=True)
class _Embedded:
    """Server and learner in turns: what the swarm expects of a server."""

    engine: Engine
    pipeline: Pipeline
    log: EventLog
    learning: LearnerState
    version: int = 0

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page."""
        return await self.engine.feed(request)

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Take events, learn from what closed, and serve what was learned once it is enough."""
        answer = await self.engine.feedback(request)
        self.learning.fold(list(self.log.read(self.learning.offset)))
        if self.learning.learned >= VERSION_CARDS * (self.version + 1):
            self.version += 1
            policy = self.learning.policy.frozen(self.version)
            states = ItemStates.from_bytes(self.learning.states.to_bytes())
            audiences = Audiences.from_bytes(
                self.learning.audiences.to_bytes(), self.learning.args.audiences
            )
            served = ServingModel(policy, states, audiences, self.version, self.learning.offset)
            self.pipeline.swap(served)
        return answer


def _config(folder: Path, policy: PolicyName, setting: Setting) -> Config:
    config = Config(
        data=DataSettings(str(folder)),
        clock=ClockSettings(simulated=True),
        content=ContentSettings(titles=False),
        experiment=Experiment("learner", (Arm("all", policy),)),
    )
    return msgspec.structs.replace(
        config,
        feed=msgspec.structs.replace(config.feed, explorer=setting.explorer),
        learner=msgspec.structs.replace(
            config.learner,
            learning_rate=setting.learning_rate,
            power_t=setting.power_t,
            optimism=setting.optimism,
            clip_p=setting.clip_p,
        ),
    )


def _late(dataset: Dataset) -> tuple[Ints, Ints]:
    """Return the rows of the first two thirds of the pages, and those of the others."""
    is_late = 3 * dataset.page >= 2 * len(dataset.pages)
    return np.flatnonzero(~is_late), np.flatnonzero(is_late)


def _late_reward(dataset: Dataset) -> Estimate:
    _, rows = _late(dataset)
    reward = dataset.reward[rows]
    mean = float(reward.mean())
    return clustered_estimate("late", mean, reward - mean, dataset.user[rows], float(len(rows)))


def _compare_rates(
    dataset: Dataset, rates: tuple[tuple[float, float], ...], advance: Advance
) -> tuple[tuple[Predicted, ...], float]:
    """Return how well each rate predicts the last third, and how well a ridge regression does."""
    early, late = _late(dataset)
    known, held_out = dataset.interactions(early), dataset.select(late)
    found, step = [], "compare learning rates"
    for k, (rate, power_t) in enumerate(rates):
        advance(step, k, len(rates))
        policy = HybridBandit(HybridBanditArgs(learning_rate=rate, power_t=power_t))
        policy.learn(known)
        found.append(Predicted(rate, power_t, _correlation(held_out, policy.score)))
    ridge = RidgeModel()
    ridge.fit(known)
    advance(step, len(rates), len(rates))
    return tuple(found), _correlation(held_out, ridge.predict)


def _correlation(dataset: Dataset, score: Callable[[Context], Floats]) -> float:
    """Return the correlation of the scores of what was shown and what it earned."""
    predicted = np.empty(len(dataset))
    for page, rows in dataset.by_page():
        predicted[rows] = score(page.context)[dataset.action[rows]]
    return float(np.corrcoef(predicted, dataset.reward)[0, 1])
