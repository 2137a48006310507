"""Learning from a log alone: is what the gate accepts better when it is played, and worse refused?

A mediocre policy (a softmax of noisy popularity, 30% uniform) serves a feed, and its log is written
as a server writes one. Each method is trained from the log and judged by it, on users whom it did
not learn from; what they accept is then played, by other users, beside the policy of the log. And
rankers that go the other way are judged, each by another two thirds of the held-out users.

What the gate can see is one session and whether its user came back; what is played is three weeks
of them.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from env.columns.schema import DYNAMIC, N_STATIC, VECTOR_DIM
from env.pages.lives import LifeReward, Lives
from env.records import Record
from env.vocabulary import Float32s, Floats
from policies.ranker.ranker import Ranker
from policies.training.offline.critic import page_scores
from policies.training.offline.job import OfflineProgress, OfflineTrainingResult, train_offline
from policies.training.offline.settings import Method, OfflineArgs
from policies.training.offline.tempering import Scores
from replay.estimators.intervals import Estimate, clustered_estimate
from serve.config import Config, DataSettings
from serve.jobs.train_offline import (
    Advance,
    OfflineGate,
    OfflineReport,
    Scored,
    judge,
    read_log,
    split,
)
from serve.store.open import open_store
from tests.studies.retention.offline_fitted import fitted_ranker
from tests.studies.retention.offline_world import (
    PagePolicy,
    PageWriter,
    WorldArgs,
    item_records,
    play,
)


@dataclass(frozen=True, slots=True, eq=False)
class Lived:
    """Sums of each user's life, n users."""

    sessions: Floats  # (n,) each on a day of its own
    worth: Floats  # (n,) rewards of cards and returns, not discounted
    engagement: Floats  # (n,) of cards alone
    watch_s: Floats  # (n,)
    cards: Floats  # (n,)


class OnPolicy(msgspec.Struct, frozen=True):
    """What a policy came to when it was played, beside the one that made the log.

    Attributes:
        policy: which.
        session: worth of a session, returns included.
        engagement: of a session's cards.
        active_days: of a user.
        watch_s: of a user.
        session_gain: over the log's policy.
        days_gain: the same, of active days.
    """

    policy: str
    session: float
    engagement: float
    active_days: float
    watch_s: float
    session_gain: Estimate
    days_gain: Estimate


def live(args: WorldArgs, policy: PagePolicy, seed: int, reward: LifeReward) -> Lived:
    """Return what users' lives under a policy come to.

    Args:
        args: of the world.
        policy: which draws the pages.
        seed: of the users.
        reward: what cards and returns are worth.
    """
    sessions, engagement, returns, watch_s, cards = np.zeros((5, args.users))
    for turned in play(args, policy, seed):
        here = turned.place
        is_back = turned.leaves & ~turned.is_gone & (turned.gap_days <= reward.window_days)
        sessions[here] += turned.leaves
        engagement[here] += turned.reward
        returns[here] += np.where(is_back, reward.day_discount**turned.gap_days, 0.0)
        watch_s[here] += turned.events["watch_s"].sum(axis=1)
        cards[here] += turned.n_cards
    worth = engagement + reward.return_worth * returns
    return Lived(sessions, worth, engagement, watch_s, cards)


def compare(policy: str, lived: Lived, behaviour: Lived) -> OnPolicy:
    """Return what a policy came to, beside the log's own, with intervals by user."""
    per_session = lived.worth.sum() / lived.sessions.sum()
    its = behaviour.worth.sum() / behaviour.sessions.sum()
    n, user = len(lived.worth), np.arange(len(lived.worth))
    influence = n * (
        (lived.worth - per_session * lived.sessions) / lived.sessions.sum()
        - (behaviour.worth - its * behaviour.sessions) / behaviour.sessions.sum()
    )
    days = lived.sessions - behaviour.sessions
    return OnPolicy(
        policy=policy,
        session=float(per_session),
        engagement=float(lived.engagement.sum() / lived.sessions.sum()),
        active_days=float(lived.sessions.mean()),
        watch_s=float(lived.watch_s.mean()),
        session_gain=clustered_estimate(
            "on policy, a session", float(per_session - its), influence, user, n
        ),
        days_gain=clustered_estimate(
            "on policy, active days", float(days.mean()), days - days.mean(), user, n
        ),
    )


FITTED = "fitted world"
METHODS: tuple[Method, ...] = ("iql", "cql", "marwil", "bc")
CARDS_A_LIFE = 240
"""About what a user sees in three weeks of the preset."""

UNIFORM = 0.3
POPULARITY = 2.0
"""By how much logits follow an item's popularity, whose sd is .16 in the preset."""

NOISE_SD = 0.5
PLAY_SEED = 1_000_000
WORSE_SHARE = 2.0 / 3.0
BATCH_LINES = 5_000


class OfflineSize(msgspec.Struct, frozen=True):
    """How much is logged and played.

    Attributes:
        cards: of the log, about.
        users: who play what was accepted.
        worse: rankers that go the other way.
        holdout: share of the log's users to judge by.
        generations: of the search in a world that is fitted to the log; 0: no such road.
    """

    cards: int = 200_000
    users: int = 1_000
    worse: int = 20
    holdout: float = 0.4
    generations: int = 12


class OfMethod(msgspec.Struct, frozen=True):
    """What a method came to.

    Attributes:
        method: which; `FITTED` is no method of learning from the log, but of another world.
        report: by the held-out users of the log.
        refusals: the gates that it did not pass.
        share: of the way from the log's policy that could be judged.
        train_s: that training took.
        played: on policy; of those accepted, and of the ranker of the fitted world.
    """

    method: str
    report: OfflineReport
    refusals: tuple[str, ...]
    share: float
    train_s: float
    played: OnPolicy | None


class Worse(msgspec.Struct, frozen=True):
    """What became of rankers that go the other way.

    Attributes:
        judged: how many.
        refused: how many of them the gate refused.
        surely_worse: of how many the whole interval lay below 0.
        greatest_low: the greatest lower bound of them all, below 0 if all were refused.
        played: the straight opposite of what was accepted, on policy.
    """

    judged: int
    refused: int
    surely_worse: int
    greatest_low: float
    played: OnPolicy


class OfflineBench(msgspec.Struct, frozen=True):
    """What learning from a log came to.

    Attributes:
        cards: logged.
        lives: users of whom whole sessions are known.
        sessions: theirs.
        logged_session: worth of a session of the log's policy, on policy.
        logged_days: its active days.
        methods: in the order in which they were asked for.
        worse: None: nothing was accepted that it could be the opposite of.
        seconds: of each step.
    """

    cards: int
    lives: int
    sessions: int
    logged_session: float
    logged_days: float
    methods: tuple[OfMethod, ...]
    worse: Worse | None
    seconds: dict[str, float]


def run_offline(
    size: OfflineSize,
    *,
    methods: Sequence[Method] = METHODS,
    args: OfflineArgs | None = None,
    seed: int = 1,
    clock_s: Callable[[], float],
    gate: OfflineGate | None = None,
    advance: Advance = lambda step, done, total: None,
) -> OfflineBench:
    """Log, learn, judge and play.

    Args:
        size: of it.
        methods: to train by.
        args: of each training, but for the method; None: the default ones.
        seed: of users, draws and the split.
        clock_s: any clock.
        gate: None: the default one.
        advance: told of progress.
    """
    args, gate = args or OfflineArgs(seed=seed), gate or OfflineGate()
    world = WorldArgs(users=max(size.cards // CARDS_A_LIFE, 2))
    watch = _Watch(clock_s)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data=DataSettings(folder=folder))
        behaviour = mediocre(seed)
        n_cards = write_log(config, world, behaviour, seed)
        watch.lap("log")
        other = None
        if size.generations:
            other = fitted_ranker(config, size.generations, seed, advance)
            watch.lap(FITTED)
        lives = read_log(config, args.reward).lives
    learned, judged = split(lives, size.holdout, seed)
    watch.lap("read")
    players = WorldArgs(users=size.users)
    base = live(players, behaviour, PLAY_SEED + seed, args.reward)
    watch.lap("play")
    found, accepted, critic = [], None, None
    for method in methods:
        trained = _train(msgspec.structs.replace(args, method=method), learned, advance)
        critic = critic or trained.critic
        scores = scores_of(trained.ranker)
        report = judge(
            (Scored(part, scores(part), trained.critic.q(part)) for part in judged), args.reward
        )
        refusals = gate.refusals(report)
        watch.lap(method)
        played = None
        if not refusals:
            accepted = accepted or trained
            lived = live(players, ranked(method, trained.ranker), PLAY_SEED + seed, args.reward)
            played = compare(method, lived, base)
            watch.lap("play")
        found.append(OfMethod(method, report, refusals, trained.share, trained.seconds, played))
    if other is not None and critic is not None:
        scores = scores_of(other)
        report = judge((Scored(part, scores(part), critic.q(part)) for part in judged), args.reward)
        lived = live(players, ranked(FITTED, other), PLAY_SEED + seed, args.reward)
        played, refusals = compare(FITTED, lived, base), gate.refusals(report)
        found.append(OfMethod(FITTED, report, refusals, 1.0, watch.laps[FITTED], played))
    worse = None
    if accepted is not None:
        worse = _judge_worse(accepted, judged, args.reward, gate, size.worse, players, base, seed)
        watch.lap("worse")
    return OfflineBench(
        cards=n_cards,
        lives=sum(part.n_lives for part in lives),
        sessions=sum(int(part.leaves.sum()) for part in lives),
        logged_session=float(base.worth.sum() / base.sessions.sum()),
        logged_days=float(base.sessions.mean()),
        methods=tuple(found),
        worse=worse,
        seconds=watch.laps,
    )


def mediocre(seed: int) -> PagePolicy:
    """Return the log's policy: popularity, a taste of its own for topics, and a third at random."""
    taste = np.random.default_rng(seed).normal(0.0, NOISE_SD, VECTOR_DIM)
    popular = N_STATIC + DYNAMIC.index("popularity")

    def logits(shared: Float32s, actions: Float32s) -> Floats:
        liked = actions[:, :, :VECTOR_DIM] @ taste
        return np.asarray(POPULARITY * actions[:, :, popular] + liked, dtype=np.float64)

    return PagePolicy("mediocre@1", logits, UNIFORM)


def write_log(config: Config, world: WorldArgs, policy: PagePolicy, seed: int) -> int:
    """Write the log of a policy's users into the data folder; return how many cards were seen."""
    writer, records, n_cards = PageWriter(world, policy), list[Record](item_records(world)), 0
    for turned in play(world, policy, seed):
        n_cards += int(turned.n_cards.sum())
        records += writer.records(turned)
    records.sort(key=lambda record: record.at_ms)
    with open_store(config, lambda: 0) as store:
        log = store.log
        for first in range(0, len(records), BATCH_LINES):
            log.append(records[first : first + BATCH_LINES], durable=False)
    return n_cards


def ranked(name: str, ranker: Ranker) -> PagePolicy:
    """Return a ranker as it is played: at temperature 1, without a floor."""
    return PagePolicy(name, ranker.batch_scores)


def scores_of(ranker: Ranker) -> Scores:
    """Return what a ranker says of lives' pages."""
    return lambda lives: page_scores(ranker, lives)


class _Watch:
    """Adds up the seconds of each step."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s, self._last = clock_s, clock_s()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = self._clock_s()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def _train(args: OfflineArgs, lives: Sequence[Lives], advance: Advance) -> OfflineTrainingResult:
    def tell(made: OfflineProgress) -> None:
        advance(f"{args.method}: {made.phase}", made.done, made.passes)

    return train_offline(args, lives, advance=tell)


def _judge_worse(
    accepted: OfflineTrainingResult,
    judged: Sequence[Lives],
    reward: LifeReward,
    gate: OfflineGate,
    n: int,
    players: WorldArgs,
    base: Lived,
    seed: int,
) -> Worse:
    """Judge rankers that go the other way from the log's policy than what was accepted.

    Each goes as far as it by a factor of its own, .5 to 1.5, and meets two thirds of the shards.
    """
    prior, ranker = scores_of(accepted.prior), scores_of(accepted.ranker)
    known = [(prior(part), ranker(part), accepted.critic.q(part)) for part in judged]
    generator = np.random.default_rng(seed)
    reports = []
    for _ in range(n):
        factor = generator.uniform(0.5, 1.5)
        chosen = generator.permutation(len(judged))[: math.ceil(WORSE_SHARE * len(judged))]
        scored = (
            Scored(judged[i], known[i][0] - factor * (known[i][1] - known[i][0]), known[i][2])
            for i in chosen.tolist()
        )
        reports.append(judge(scored, reward))
    opposite = PagePolicy(
        "opposite",
        lambda user, rows: (
            2.0 * accepted.prior.batch_scores(user, rows) - accepted.ranker.batch_scores(user, rows)
        ),
    )
    lived = live(players, opposite, PLAY_SEED + seed, reward)
    return Worse(
        judged=n,
        refused=sum(bool(gate.refusals(report)) for report in reports),
        surely_worse=sum(report.gain.high < 0.0 for report in reports),
        greatest_low=max(report.gain.low for report in reports),
        played=compare("opposite", lived, base),
    )
