"""Benchmark of the whole loop: a real server, simulated users, and checks against the log.

A first server learns from everyone. Its version is frozen, and a second server splits the users
between the uniform and the learning policy. The log then gives the uplift, redrawn pages, learning
lag, and an off-policy estimate compared with the simulated truth. Method:
`docs/decisions/bench-loop.md`.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from env.interface import EventLog
from env.records import LogLine, PageRecord
from env.reward import Reward
from env.vocabulary import Decision, DecisionId, Floats, Page
from env.world import generated
from env.world.user import SimulatedUserState, expected_reward, simulated_users
from env.world.world import UserParameters, World
from policies.bandit.scorer import HybridBanditScorer
from replay.estimators.intervals import Estimate, clustered_estimate
from replay.evaluate.evaluate import evaluate
from replay.join.dataset import read
from replay.join.join import Join
from serve.config import (
    Arm,
    ClockSettings,
    Config,
    ContentSettings,
    DataSettings,
    Experiment,
    ServerSettings,
)
from serve.importers.kuairand import read as read_kuairand
from serve.jobs.import_data import import_items, import_kuairand, import_users, load_world
from serve.jobs.imported_world import People
from serve.jobs.verify import verify_log
from serve.learn.settings import open_snapshots
from serve.processes.start import serving
from serve.store.data_folder import open_data
from serve.store.generations import current_activation
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm, SwarmTally
from serve.wire.client import FeedClient
from serve.wire.feed import CardBody

FIRST_SWIPE_MS = 12 * 3_600_000
N_GENERATED_ITEMS = 2_000
IMPORTED_MS = 0
"""Imports are dated before the simulated clock begins, because the join's time never runs
backwards.
"""


def fill_data_folder(
    config: Config, seed: int, kuairand: Path | None, now_ms: int, n_users: int
) -> float | None:
    """Import or generate a catalogue with its users; return the response model's AUC.

    Args:
        kuairand: a KuaiRand folder; None: generated data, and no AUC.
        n_users: users to generate.
    """
    if kuairand is not None:
        return import_kuairand(config, read_kuairand(kuairand), IMPORTED_MS).response_auc
    import_items(config, generated.catalogue(seed, N_GENERATED_ITEMS, now_ms), IMPORTED_MS)
    import_users(config, generated.users(seed, n_users, now_ms), IMPORTED_MS)
    return None


def first_swipe_ms(config: Config) -> int:
    """Return the time half a day after the newest upload."""
    with open_data(config) as store, store.view() as view:
        items = view.items()
    return max(item.published_ms for item in items) + FIRST_SWIPE_MS


def uplift(learned: Estimate, uniform: Estimate) -> tuple[float, float]:
    """Return the relative gain and its lower 95% bound (delta method on the log of the ratio)."""
    ratio = learned.value / uniform.value
    se = float(np.hypot(learned.se / learned.value, uniform.se / uniform.value))
    return ratio - 1.0, float(ratio * np.exp(-1.959964 * se)) - 1.0


logger = logging.getLogger(__name__)
Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total."""

HALVES = Experiment("halves", (Arm("uniform", "uniform"), Arm("learned", "vowpal")))


class LoopSize(msgspec.Struct, frozen=True):
    """Size of the benchmark.

    Attributes:
        learn: cards before the comparison.
        compare: cards during it, both halves together.
        users: accounts drawn from the imported ones.
        present: visits at a time.
    """

    learn: int = 15_000
    compare: int = 30_000
    users: int = 6_000
    present: int = 200


class LoopResult(msgspec.Struct, frozen=True):
    """Results of the loop; `nextswipe bench loop --help` gives the target of each figure."""

    catalogue: str
    seed: int
    size: LoopSize
    reward_uniform: float
    reward_learned: float
    uplift: float
    uplift_low: float
    response_auc: float | None
    feedback_acked: int
    feedback_logged: int
    redrawn_decisions: int
    redrawn_mismatches: int
    propensity_max_error: float
    effect_lag_p95_s: float
    versions: int
    http_errors: int
    ope_estimator: str
    ope_estimate: float
    ope_se: float
    ope_low: float
    ope_high: float
    ope_ess: float
    true_value: float
    ope_errors_apart: float
    ope_width: float


@dataclass
class _Witness:
    """Records the user and their state for each card of the uniform half."""

    seen: dict[DecisionId, tuple[UserParameters, SimulatedUserState]] = field(default_factory=dict)

    def __call__(self, card: CardBody, user: UserParameters, state: SimulatedUserState) -> None:
        if card.policy.startswith("uniform@"):
            decision, _, _ = card.decision_id.rpartition(".")
            self.seen[DecisionId(decision)] = (user, state)


def run_loop(
    size: LoopSize, *, seed: int, kuairand: Path | None, now_ms: int, advance: Advance
) -> LoopResult:
    """Run the loop in a temporary data folder.

    Args:
        seed: seed of the world and of its accounts' choices.
        kuairand: a KuaiRand folder; None: a generated catalogue.
    """
    with tempfile.TemporaryDirectory(prefix="nextswipe-loop-") as folder:
        config = Config(
            server=ServerSettings(port=0),
            data=DataSettings(folder),
            clock=ClockSettings(simulated=True),
            content=ContentSettings(titles=False),  # whatever extras are installed
        )
        config = msgspec.structs.replace(
            config, learner=msgspec.structs.replace(config.learner, snapshots_kept=1_000)
        )
        advance("import", 0, 1)
        response_auc = fill_data_folder(config, seed, kuairand, now_ms, LoopSize().users)
        world, imported = load_world(config, seed)
        advance("import", 1, 1)
        return _run(config, size, seed, world, imported, response_auc, advance)


def _run(
    config: Config,
    size: LoopSize,
    seed: int,
    world: World,
    imported: People,
    response_auc: float | None,
    advance: Advance,
) -> LoopResult:
    chosen = np.random.default_rng(seed).permutation(len(imported))[: size.users]
    swiping = _Swiping(
        world, [imported[k] for k in chosen], first_swipe_ms(config), size.present, advance
    )
    learned = swiping.run(config, "learn", size.learn, seed)
    frozen = _freeze(config)
    witness = _Witness()
    halves = msgspec.structs.replace(config, experiment=HALVES)
    compared = swiping.run(halves, "compare", size.compare, seed + 1, witness)

    advance("read the log", 0, 3)
    with open_data(config) as store:
        log = store.log
        uniform = read(log.read(), config.reward, lambda page: page.arm == "uniform")
        oracle = _Oracle(world, config.reward, witness)
        report = evaluate(uniform, frozen, oracle=oracle, force=True)
        advance("read the log", 1, 3)
        by_arm = {"uniform": report.logged, "learned": _earned(log, config.reward)}
        with store.view() as view:
            offsets = {version.version: version.offset for version in view.activations("policy")}
        lag_s = effect_lag_p95_s(list(log.read()), config, offsets)
        n_feedback = sum(1 for _ in log.read(kinds=["feedback"]))
    advance("read the log", 2, 3)
    verified = verify_log(config)
    advance("read the log", 3, 3)
    gain, gain_low = uplift(by_arm["learned"], by_arm["uniform"])
    dr = report.estimate("dr")
    truth = report.truth or 0.0
    return LoopResult(
        catalogue="generated" if response_auc is None else "kuairand",
        seed=seed,
        size=size,
        reward_uniform=by_arm["uniform"].value,
        reward_learned=by_arm["learned"].value,
        uplift=gain,
        uplift_low=gain_low,
        response_auc=response_auc,
        feedback_acked=learned.acked + compared.acked,
        feedback_logged=n_feedback,
        redrawn_decisions=verified.n_decisions,
        redrawn_mismatches=verified.mismatches,
        propensity_max_error=verified.max_error,
        effect_lag_p95_s=lag_s,
        versions=len(offsets),
        http_errors=learned.errors + learned.refused + compared.errors + compared.refused,
        ope_estimator=dr.estimator,
        ope_estimate=dr.value,
        ope_se=dr.se,
        ope_low=dr.low,
        ope_high=dr.high,
        ope_ess=dr.ess,
        true_value=truth,
        ope_errors_apart=abs(dr.value - truth) / dr.se,
        ope_width=(dr.high - dr.low) / dr.value,
    )


@dataclass
class _Swiping:
    """The users of one world, who keep their state from one server to the next."""

    world: World
    accounts: People
    clock_ms: int
    present: int
    advance: Advance

    def __post_init__(self) -> None:
        self.users = simulated_users(self.world, self.accounts)

    def run(
        self, config: Config, step: str, n_cards: int, seed: int, witness: _Witness | None = None
    ) -> SwarmTally:
        """Start a server, let the users swipe, stop it; return the tally."""
        self.advance(f"{step}: start the server", 0, 1)
        with serving(config) as address:
            return asyncio.run(self._swipe(address, step, n_cards, seed, witness))

    async def _swipe(
        self, address: str, step: str, n_cards: int, seed: int, witness: _Witness | None
    ) -> SwarmTally:
        async with FeedClient(address) as client:
            swarm = Swarm(
                client,
                ConstantAttendance(self.users, self.present),
                seed=seed,
                start_ms=self.clock_ms,
                witness=witness,
            )
            await swarm.swipe(
                n_cards, on_window=lambda tally: self.advance(step, tally.cards, n_cards)
            )
            await swarm.leave()
            self.clock_ms = swarm.clock_ms
            return swarm.tally


@dataclass
class _Oracle:
    """The true expected rewards of a logged decision, given the user's state at that time."""

    world: World
    reward: Reward
    witness: _Witness

    def __call__(self, page: Page, decision: Decision) -> Floats:
        user, state = self.witness.seen[decision.decision_id]
        index = np.array([self.world.index_of(i) for i in page.context.candidates])
        return expected_reward(self.world, user, state, index, self.reward)


def _freeze(config: Config) -> HybridBanditScorer:
    """Return the current version as a replica would load it."""
    with open_data(config) as store, store.view() as view:
        version = current_activation(view, "policy")
    if version is None:
        raise RuntimeError("expected a published version after learning, found none")
    weights = open_snapshots(config).load_part(version.version, "scorer")
    return HybridBanditScorer.from_bytes(weights, config.feed.explorer, version.version)


def _earned(log: EventLog, reward: Reward) -> Estimate:
    half = read(log.read(), reward, lambda page: page.arm == "learned")
    mean = float(half.reward.mean())
    influence = half.reward - mean
    return clustered_estimate("logged", mean, influence, half.user, float(len(half)))


def effect_lag_p95_s(lines: Sequence[LogLine], config: Config, offsets: Mapping[int, int]) -> float:
    """Return the time from a closed interaction to a served page that has learned from it.

    It is the 95th percentile in wall-clock seconds, from the closing line to the first page of a
    version with an offset at or past that line. An interaction that no page covers counts up to the
    end of the log, so a stalled learner shows.

    Args:
        config: settings of the server.
        offsets: offset that each published version had learned up to.
    """
    join = Join(config.reward, settle_ms=config.join.settle_ms)
    closed: list[LogLine] = []
    covered: list[tuple[int, int]] = []  # (offset that the page's version had learned, written_ms)
    for line in lines:
        closed.extend([line] * len(join.fold(line.record)))
        if isinstance(line.record, PageRecord) and line.record.policy.startswith("vowpal@"):
            learned = offsets.get(int(line.record.policy.partition("@")[2]), 0)
            if not covered or learned > covered[-1][0]:
                covered.append((learned, line.written_ms))
    edges = np.array([learned for learned, _ in covered])
    written_ms = np.array([at_ms for _, at_ms in covered] + [lines[-1].written_ms])
    places = np.searchsorted(edges, [line.offset for line in closed])
    starts_ms = np.array([line.written_ms for line in closed])
    return float(np.percentile((written_ms[places] - starts_ms) / 1000.0, 95))
