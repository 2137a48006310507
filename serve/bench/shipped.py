"""Benchmark of the shipped exploration: an hour of the feed must answer users' questions about it.

An hour of the simulated world is served in this process with the settings as shipped. Its log is
then asked, as `nextswipe evaluate` asks it, about uniform, popularity, the current version and that
of half an hour ago. The users' own state gives the truth, and the reward of each page without
exploration. Method, and how a real server differs: `docs/decisions/bench-loop.md`.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from env.interface import Policy, page_pmfs
from env.reward import Reward
from env.vocabulary import Decision, DecisionId, Floats, ItemId, Page, UserId
from env.world.user import SimulatedUserState, expected_reward, simulated_users
from env.world.world import UserParameters, World
from policies.bandit.cross_fitted import CrossFittedPolicy
from policies.explorers import AnyExplorer, SquareCB, explorer_args
from replay.estimators.intervals import clustered_se
from replay.evaluate.evaluate import PolicyReport
from replay.evaluate.targets import PolicyTarget, Target
from replay.join.our_log import LogSource
from serve.bench.in_process import serving_in_process
from serve.bench.loop import fill_data_folder, first_swipe_ms
from serve.config import ClockSettings, Config, ContentSettings, DataSettings
from serve.jobs.evaluate import open_evaluation
from serve.jobs.import_data import load_world
from serve.jobs.policies import bandit_version
from serve.learn.refold import RefoldedVersions
from serve.learn.served import initial_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.store.data_folder import open_data
from serve.store.generations import all_versions
from serve.store.store import StorePast
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm
from serve.wire.feed import CardBody

Advance = Callable[[str, int, int], None]
WITHOUT = SquareCB(gamma=100_000.0)
"""Next to no exploration: the best card but for ties, beside the floor that both hours have."""

MINUTE_MS = 60_000


class HourSize(msgspec.Struct, frozen=True):
    """Size of each hour.

    Attributes:
        minutes: of the world's clock.
        users: accounts of the world.
        present: visits at a time; 165 make about 30,000 cards an hour.
    """

    minutes: int = 60
    users: int = 2_000
    present: int = 165


class QuestionAnswer(msgspec.Struct, frozen=True):
    """The answer to one question, or why there is none."""

    seed: int
    policy: str
    answered: bool
    value: float | None  # a card, of the default estimator
    low: float | None
    high: float | None
    truth: float  # a card, on the same decisions
    holds: bool  # whether there is an answer whose interval holds the truth
    ess: float
    refusals: tuple[str, ...]


class ExplorationCost(msgspec.Struct, frozen=True):
    """What exploration costs in one world, relative to the expected reward a card without it.

    Attributes:
        cost: on the same pages, had the versions that drew them not explored.
        se: of it, clustered by user.
        reward: expected, a card of the hour.
        reward_without: of an hour without exploration, in which another model was learned; None: it
            was not served.
        hours_apart: relative loss between the two hours, paired by user; what is learned in an hour
            differs by chance, and with it the reward by some hundredths.
        hours_apart_se: of it, clustered by user; it does not contain that chance.
    """

    seed: int
    cards: int
    cost: float
    se: float
    reward: float
    reward_without: float | None = None
    hours_apart: float | None = None
    hours_apart_se: float | None = None


class ShippedResult(msgspec.Struct, frozen=True):
    """Results of `bench loop --shipped`.

    Attributes:
        ope_questions: questions that were asked, four a seed.
        ope_questions_answered: those of which all gates passed.
        intervals_holding_truth: those answered whose interval holds the truth.
        exploration_cost: mean over the seeds of the relative loss of expected reward a card, on the
            same pages.
        exploration_cost_se: its standard error, over the seeds; of one seed, over its users.
        hours_apart: mean over the seeds of the relative loss between hours with and without; None:
            none was served without.
        hours_apart_se: its standard error, likewise.
    """

    explorer: dict[str, object]
    size: HourSize
    seeds: int
    ope_questions: int
    ope_questions_answered: int
    intervals_holding_truth: int
    exploration_cost: float
    exploration_cost_se: float
    hours_apart: float | None
    hours_apart_se: float | None
    costs: tuple[ExplorationCost, ...]
    answers: tuple[QuestionAnswer, ...]


def run_shipped(
    size: HourSize,
    *,
    seeds: int,
    first_seed: int,
    now_ms: int,
    advance: Advance,
    apart: bool = False,
) -> ShippedResult:
    """Return what the hours of several worlds answer and cost.

    Args:
        seeds: number of worlds.
        first_seed: seed of the first world; the others follow.
        now_ms: the wall clock, before which the items were uploaded.
        apart: also serve an hour without exploration in each world.
    """
    answers, costs = list[QuestionAnswer](), list[ExplorationCost]()
    for seed in range(first_seed, first_seed + seeds):
        name = f"seed {seed}"
        with tempfile.TemporaryDirectory(prefix="nextswipe-shipped-") as folder:
            config = shipped_config(folder)
            hour = run_hour(config, size, seed, now_ms, advance, name)
            advance(f"{name}: evaluate", 0, 1)
            answered, cost = ask(config, hour, seed)
            answers += answered
            advance(f"{name}: evaluate", 1, 1)
        costs.append(_cost(seed, cost, hour))
        if apart:
            with tempfile.TemporaryDirectory(prefix="nextswipe-without-") as folder:
                without = exploring(shipped_config(folder), WITHOUT)
                other = run_hour(without, size, seed, now_ms, advance, f"{name}, without")
            costs[-1] = _with_hour_apart(costs[-1], hour.earned(), other.earned())
    paired = _mean([cost.cost for cost in costs], costs[0].se)
    between = [cost.hours_apart for cost in costs if cost.hours_apart is not None]
    hours = _mean(between, costs[0].hours_apart_se or 0.0) if between else (None, None)
    return ShippedResult(
        explorer=explorer_args(Config().feed.explorer),
        size=size,
        seeds=seeds,
        ope_questions=len(answers),
        ope_questions_answered=sum(answer.answered for answer in answers),
        intervals_holding_truth=sum(answer.holds for answer in answers),
        exploration_cost=paired[0],
        exploration_cost_se=paired[1],
        hours_apart=hours[0],
        hours_apart_se=hours[1],
        costs=tuple(costs),
        answers=tuple(answers),
    )


def _mean(values: Sequence[float], se: float) -> tuple[float, float]:
    """Return mean and standard error; `se` is that of a single value."""
    each = np.array(values)
    if len(each) > 1:
        se = float(each.std(ddof=1) / np.sqrt(len(each)))
    return float(each.mean()), se


def shipped_config(folder: str) -> Config:
    """Return the shipped settings for a data folder whose clock is the world's."""
    return Config(
        data=DataSettings(folder),
        clock=ClockSettings(simulated=True),
        content=ContentSettings(titles=False),  # whatever extras are installed
    )


def exploring(config: Config, explorer: AnyExplorer) -> Config:
    """Return settings with another explorer."""
    feed = msgspec.structs.replace(config.feed, explorer=explorer)
    return msgspec.structs.replace(config, feed=feed)


@dataclass
class Hour:
    """An hour that was swiped: each card with its user, and their state before it."""

    world: World
    reward: Reward
    seen: dict[DecisionId, tuple[ItemId, UserParameters, SimulatedUserState]] = field(
        default_factory=dict
    )

    def witness(self, card: CardBody, user: UserParameters, state: SimulatedUserState) -> None:
        """Remember the state before a card is answered."""
        decision, _, _ = card.decision_id.rpartition(".")
        self.seen[DecisionId(decision)] = card.item_id, user, state

    def oracle(self, page: Page, decision: Decision) -> Floats:
        """Return the true expected reward of each candidate at a decision, shape (n,)."""
        _, user, state = self.seen[decision.decision_id]
        index = np.array([self.world.index_of(i) for i in page.context.candidates])
        return expected_reward(self.world, user, state, index, self.reward)

    def earned(self) -> dict[UserId, tuple[float, int]]:
        """Return the expected reward of all cards that each user saw, and their number."""
        earned: dict[UserId, tuple[float, int]] = {}
        for item, user, state in self.seen.values():
            index = np.array([self.world.index_of(item)])
            had, n = earned.get(user.user_id, (0.0, 0))
            value = float(expected_reward(self.world, user, state, index, self.reward)[0])
            earned[user.user_id] = had + value, n + 1
        return earned


def run_hour(
    config: Config, size: HourSize, seed: int, now_ms: int, advance: Advance, name: str
) -> Hour:
    """Fill an empty data folder, and let users swipe for the size's minutes.

    Args:
        name: of the step that `advance` is called with.
    """
    fill_data_folder(config, seed, None, now_ms, size.users)
    world, accounts = load_world(config, seed)
    hour = Hour(world, config.reward)
    start_ms, n_ms = first_swipe_ms(config), size.minutes * MINUTE_MS
    users = ConstantAttendance(simulated_users(world, accounts), size.present)

    async def swipe() -> None:
        with serving_in_process(config, start_ms) as server:
            swarm = Swarm(server, users, seed=seed, start_ms=start_ms, witness=hour.witness)

            def on_window(_: object) -> None:
                server.advance(swarm.clock_ms)
                advance(name, min(swarm.clock_ms - start_ms, n_ms), n_ms)

            while swarm.clock_ms < start_ms + n_ms:
                await swarm.swipe(1, on_window=on_window)
            await swarm.leave()
            server.advance(swarm.clock_ms)
            server.learn()

    asyncio.run(swipe())
    return hour


def ask(config: Config, hour: Hour, seed: int) -> tuple[list[QuestionAnswer], tuple[float, float]]:
    """Ask an hour's log about uniform, popularity, the current version and an older one.

    Returns:
        The answers; and the relative loss to exploration on the log's decisions, with its error.
    """
    with open_evaluation(config, ["uniform", "popularity", "vowpal", "vowpal@30m"]) as job:
        reports = job.answer().reports
        truths, cost = _truths(config, hour, [whole(target) for target in job.targets])
    answers = [_answer(seed, report, true) for report, true in zip(reports, truths, strict=True)]
    return answers, cost


def whole(target: Target) -> Policy:
    """Return a target's policy as it is served: its own model for everybody."""
    if not isinstance(target, PolicyTarget):
        raise TypeError(f"expected a policy, got {target.name}")
    policy = target.policy
    return policy.whole if isinstance(policy, CrossFittedPolicy) else policy


def _answer(seed: int, report: PolicyReport, truth: float) -> QuestionAnswer:
    answered = bool(report.estimates) and not report.refusals
    first = report.estimates[0] if answered else None
    return QuestionAnswer(
        seed=seed,
        policy=report.policy,
        answered=answered,
        value=None if first is None else first.value,
        low=None if first is None else first.low,
        high=None if first is None else first.high,
        truth=truth,
        holds=first is not None and first.low <= truth <= first.high,
        ess=report.health.ess,
        refusals=tuple(map(str, report.refusals)),
    )


def _truths(
    config: Config, hour: Hour, targets: Sequence[Policy]
) -> tuple[list[float], tuple[float, float]]:
    """Return what policies are truly worth on an hour's decisions, and what exploration costs.

    A decision is worth the mean true reward under a policy's pmf, given its slot, floor and earlier
    cards. Its cost is the difference between the version that drew it and the same version with the
    explorer `WITHOUT`.

    Returns:
        The mean worth of each target; the relative loss to exploration with its standard error,
        clustered by user.
    """
    parts: list[list[float]] = []
    users: list[int] = []
    with open_data(config) as store:
        versions = RefoldedVersions(
            store.log,
            StorePast(store),
            all_versions(store),
            learning_args(config),
            open_snapshots(config),
        )
        first = initial_model(vowpal_args(config))
        for batch in LogSource(store.log.read, config.reward).batches():
            for page, rows in batch.pages:
                number = bandit_version(page.decisions[0].policy)
                scorer = versions.scorer(number) if number else first
                if scorer is None:
                    raise RuntimeError(f"expected a published version, got {number}")
                drew = scorer.exploring(config.feed.explorer), scorer.exploring(WITHOUT)
                pmfs = [page_pmfs(page, policy) for policy in (*drew, *targets)]
                slots = set(batch.slot[rows].tolist())
                for each in zip(*pmfs, strict=True):
                    if each[0][0].slot in slots:
                        true = hour.oracle(page, each[0][0])
                        parts.append([float(pmf @ true) for _, pmf in each])
                        users.append(int(batch.user[rows[0]]))
    worth = np.array(parts)
    with_it, without, *_ = mean = worth.mean(axis=0)
    ratio = float(with_it / without)
    influence = ratio * (worth[:, 0] / with_it - worth[:, 1] / without)
    return mean[2:].tolist(), (1.0 - ratio, clustered_se(influence, np.array(users)))


Earned = Mapping[UserId, tuple[float, int]]
"""By user, the expected reward of the cards that they saw, and their number."""


def _cost(seed: int, on_pages: tuple[float, float], hour: Hour) -> ExplorationCost:
    earned = hour.earned().values()
    cards = sum(n for _, n in earned)
    reward = sum(total for total, _ in earned) / cards
    return ExplorationCost(seed, cards, on_pages[0], on_pages[1], reward)


def _with_hour_apart(cost: ExplorationCost, mine: Earned, theirs: Earned) -> ExplorationCost:
    """Return the cost with that between two hours, by the delta method on the log ratio.

    What a user has in common in both hours cancels in the influence of their sums.
    """
    users = sorted(mine.keys() | theirs.keys())
    sums = np.array([(*mine.get(u, (0.0, 0)), *theirs.get(u, (0.0, 0))) for u in users])
    relative = sums / sums.mean(axis=0)
    influence = relative[:, 0] - relative[:, 1] - relative[:, 2] + relative[:, 3]
    reward, cards, other, other_cards = sums.sum(axis=0)
    ratio = float((reward / cards) / (other / other_cards))
    return msgspec.structs.replace(
        cost,
        reward_without=float(other / other_cards),
        hours_apart=1.0 - ratio,
        hours_apart_se=ratio * float(influence.std(ddof=1) / np.sqrt(len(users))),
    )
