"""A person of one mind: how soon the feed follows them, and how soon it lets go.

A real server learns from the simulated crowd, over HTTP. Then newcomers come: some like one topic
only and turn to another after sixty cards, some like two, some have no preference. What following
costs the crowd is measured in the KuaiRand world, see `tests.studies.person.crowd`. Method and
findings: `docs/decisions/topic-posterior.md`.
"""

import asyncio
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from env.world import generated
from env.world.user import simulated_users
from serve.bench.loop import fill_data_folder, first_swipe_ms
from serve.config import ClockSettings, Config, DataSettings, ServerSettings
from serve.jobs.import_data import load_world
from serve.jobs.verify import verify_log
from serve.processes.start import serving
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm
from serve.wire.client import FeedClient
from tests.studies.person.crowd import CrowdSize, crowd_ratio
from tests.studies.person.newcomers import Likes, Newcomer, distinct_in_ten, in_ten, swipe_all
from tests.studies.person.settings import without_following

Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total."""

N_TOPICS = 6
BEFORE_TURN = 60
AFTER_TURN = 30
REST_MS = 60_000
EPOCH_MS = 1_700_000_000_000
INDIFFERENT_RATE = 0.3
"""Share of cards that a user without a preference likes, whatever their topic."""


class InsistentSize(msgspec.Struct, frozen=True):
    """How much is played.

    Attributes:
        tries: users of each kind.
        learn: cards of the crowd before they come.
        users: accounts of the crowd.
        present: of these at a time.
        ahead: cards left on a page when newcomers ask for the next; the browser's page has 3.
        crowd: size of the comparison in the KuaiRand world.
    """

    tries: int = 12
    learn: int = 8_000
    users: int = 800
    present: int = 40
    ahead: int = 0
    crowd: CrowdSize = CrowdSize()


class FollowFigures(msgspec.Struct, frozen=True):
    """How newcomers were followed; shares are cards in ten, means over users.

    Attributes:
        cards_1_10: of the one topic that they like, and so on.
        old_after_turn: of the topic liked before, of the ten cards after 20 from the turn on.
        new_after_turn: of the topic liked since, of the same cards.
        old_cards_11_20: the same of the second ten cards from the turn on.
        new_cards_11_20: likewise.
        two_topics_least: of the less shown of two liked topics, of cards 31 to 60.
        two_topics_both: of both together.
        distinct_without_preference: distinct topics in ten of a user who likes any.
        redrawn_decisions: of the log of all this.
        redrawn_mismatches: that did not come out the same.
    """

    cards_1_10: float
    cards_11_20: float
    cards_21_30: float
    cards_51_60: float
    old_after_turn: float
    new_after_turn: float
    old_cards_11_20: float
    new_cards_11_20: float
    two_topics_least: float
    two_topics_both: float
    distinct_without_preference: float
    redrawn_decisions: int
    redrawn_mismatches: int


class InsistentResult(FollowFigures, frozen=True):
    """The figures with following on, and what they are measured against.

    Attributes:
        reward_ratio: reward a card in the KuaiRand world, with following over without.
        reward_ratio_low: lower 95% bound over the paired seeds.
        before: the figures without following; None: left out.
    """

    seed: int
    reward_ratio: float | None
    reward_ratio_low: float | None
    before: FollowFigures | None


def run_insistent(
    size: InsistentSize, *, seed: int, config: Config, compare: bool, advance: Advance
) -> InsistentResult:
    """Follow newcomers, and compare with not following.

    Args:
        seed: of the crowd's choices, and of users without a preference.
        config: of the server; folder, port and clock are the study's own.
        compare: whether to measure without following as well.
    """
    now = follow_newcomers(size, seed=seed, config=config, advance=advance)
    before = None
    if compare:
        off = without_following(config)
        before = follow_newcomers(size, seed=seed, config=off, advance=advance)
    ratio = crowd_ratio(size.crowd, seed=seed, config=config, advance=advance)
    return InsistentResult(
        **msgspec.structs.asdict(now),
        seed=seed,
        reward_ratio=ratio.value if ratio else None,
        reward_ratio_low=ratio.low if ratio else None,
        before=before,
    )


def follow_newcomers(
    size: InsistentSize, *, seed: int, config: Config, advance: Advance
) -> FollowFigures:
    """Let a crowd teach a server, then meet newcomers of each kind, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="nextswipe-insistent-") as folder:
        config = msgspec.structs.replace(
            config,
            server=ServerSettings(port=0),
            data=DataSettings(folder),
            clock=ClockSettings(simulated=True),
            learner=msgspec.structs.replace(config.learner, snapshots_kept=1_000),
        )
        fill_data_folder(config, seed, None, EPOCH_MS, size.users)
        with serving(config, with_ray=False) as address:
            users = asyncio.run(_meet(config, size, seed, address, advance))
        verified = verify_log(config)
    return _figures(users, verified.n_decisions, verified.mismatches)


class _Users(NamedTuple):
    """The newcomers by kind, after they have swiped."""

    insistent: list[tuple[Newcomer, str, str]]  # with the topic before the turn and after it
    of_two: list[tuple[Newcomer, str, str]]  # with both topics
    indifferent: list[Newcomer]


async def _meet(
    config: Config, size: InsistentSize, seed: int, address: str, advance: Advance
) -> _Users:
    """Let the crowd swipe, then the newcomers."""
    async with FeedClient(address) as client:
        now_ms = await _teach(config, size, seed, client, advance)
        users = _newcomers(size, seed, now_ms)
        insistent = [user for user, _, _ in users.insistent]
        others = [*(user for user, _, _ in users.of_two), *users.indifferent]
        await swipe_all(client, insistent, BEFORE_TURN + AFTER_TURN)
        await swipe_all(client, others, BEFORE_TURN)
        return users


async def _teach(
    config: Config, size: InsistentSize, seed: int, client: FeedClient, advance: Advance
) -> int:
    """Let the crowd swipe; return the time at which it has left."""
    world, accounts = load_world(config, seed)
    crowd = ConstantAttendance(simulated_users(world, accounts), size.present)
    swarm = Swarm(client, crowd, seed=seed, start_ms=first_swipe_ms(config))
    await swarm.swipe(
        size.learn, on_window=lambda tally: advance("the crowd", tally.cards, size.learn)
    )
    await swarm.leave()
    return swarm.clock_ms + REST_MS


def _newcomers(size: InsistentSize, seed: int, now_ms: int) -> _Users:
    tries, ahead = size.tries, size.ahead
    topics = list(generated.TOPICS)[:N_TOPICS]
    pairs = [
        (topics[k % N_TOPICS], topics[(k + 1 + k // N_TOPICS) % N_TOPICS]) for k in range(tries)
    ]
    return _Users(
        [
            (Newcomer(f"insistent-{k}", _likes_in_turn(old, new), now_ms, ahead), old, new)
            for k, (old, new) in enumerate(pairs)
        ],
        [
            (Newcomer(f"of-two-{k}", _likes_any_of(a, b), now_ms, ahead), a, b)
            for k, (a, b) in enumerate(pairs)
        ],
        [
            Newcomer(f"indifferent-{k}", _likes_by_chance(seed, k), now_ms, ahead)
            for k in range(tries)
        ],
    )


def _likes_in_turn(old: str, new: str) -> Likes:
    return lambda topic, n: topic == (old if n < BEFORE_TURN else new)


def _likes_any_of(*liked: str) -> Likes:
    return lambda topic, n: topic in liked


def _likes_by_chance(seed: int, k: int) -> Likes:
    drawn = np.random.default_rng([seed, k]).random(BEFORE_TURN) < INDIFFERENT_RATE
    return lambda topic, n: bool(drawn[n])


def _figures(users: _Users, n_decisions: int, mismatches: int) -> FollowFigures:
    old, new, two = [], [], []
    for user, a, b in users.insistent:
        tens = [user.topics[k : k + 10] for k in range(0, len(user.topics), 10)]
        old.append([in_ten(ten, a) for ten in tens])
        new.append([in_ten(ten, b) for ten in tens])
    for user, a, b in users.of_two:
        late = user.topics[30:BEFORE_TURN]
        two.append(sorted((in_ten(late, a), in_ten(late, b))))
    old_mean, new_mean, two_mean = (np.mean(part, axis=0).tolist() for part in (old, new, two))
    turn = BEFORE_TURN // 10
    return FollowFigures(
        cards_1_10=old_mean[0],
        cards_11_20=old_mean[1],
        cards_21_30=old_mean[2],
        cards_51_60=old_mean[5],
        old_after_turn=old_mean[turn + 2],
        new_after_turn=new_mean[turn + 2],
        old_cards_11_20=old_mean[turn + 1],
        new_cards_11_20=new_mean[turn + 1],
        two_topics_least=two_mean[0],
        two_topics_both=sum(two_mean),
        distinct_without_preference=float(
            np.mean([distinct_in_ten(user.topics) for user in users.indifferent])
        ),
        redrawn_decisions=n_decisions,
        redrawn_mismatches=mismatches,
    )
