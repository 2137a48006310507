"""Logs of simulated users under a uniformly random policy, for comparison with a target log.

The random policy is the one that calibration targets are met under. Users live the same number of
days, not of cards, as in a real log: counted by cards, daily users would leave as few gaps as
others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from env.calibration.impressions import DAY_MS, ImpressionTable, Sessions, length_survival
from env.reward import Reward
from env.vocabulary import Floats, Ints
from env.world.answers import UNCAPPED_S
from env.world.creators import LiveSupply
from env.world.moments import RARE, LogStatistics, log_statistics, pool
from env.world.population import DrawnUsers
from env.world.presets import Preset
from env.world.settings import Settings
from env.world.simulation import EVENTS, Simulation
from env.world.supply import FixedSupply
from env.world.world import terms_of

LOG_DAYS = 31
"""Days of KuaiRand's logs; gaps are cut off at their end in both logs."""

FIRST_PEOPLE, MOST_PEOPLE = 300, 20_000

MOST_CARDS = 1_500_000
"""Approximate number of cards of a run, which bounds its memory."""

SWIPE_MS = 500

HOUR_MS = 3_600_000

MOST_TURNS = 20_000


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated log, with the users' cohorts and the items' vectors."""

    impressions: ImpressionTable
    cohort: Ints  # (n_people,) in the order of the preset's
    vectors: Floats  # (n_items, n_dims)


@dataclass(frozen=True, slots=True)
class PooledStatistics:
    """Pooled statistics of several logs of different users in the same world."""

    moments: LogStatistics
    survival: Floats  # P(session length > 0), > 1, ..
    cohorts: Ints  # (n_cohorts,) users


def simulate(
    preset: Preset, n_users: int, seed: int, *, days: int = LOG_DAYS, world_seed: int = 0
) -> Simulated:
    """Return the log of users' first days under a policy that shows random candidates.

    User i has seed + i and lives `days` days, less if they churn; the first day's items stay.
    """
    supply = FixedSupply(LiveSupply(preset, world_seed).stock)
    cast = DrawnUsers(preset)
    feed = Simulation(
        replace(preset, horizon_days=days), cast, supply, Settings(), Reward(), n_users
    )
    feed.restart(seed + np.arange(n_users))
    cohort = feed.crowd.users.cohort.copy()
    columns = list(_impressions(feed, np.random.default_rng(seed)))
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    user, item, at_ms, watch_s, *events = joined
    cap_s = np.asarray(terms_of(supply.stock.columns).cap_s)[item]
    impressions = ImpressionTable(
        user=user,
        item=item,
        at_ms=at_ms,
        surface=np.zeros(len(user), dtype=np.int64),
        play_s=watch_s,
        duration_s=np.where(np.less(cap_s, UNCAPPED_S), cap_s, 0.0),
        like=events[0],
        comment=events[1],
        share=events[2],
        follow=events[3],
        not_interested=events[4],
    )
    return Simulated(impressions, cohort, np.ascontiguousarray(supply.stock.vectors.T))


def count(
    preset: Preset,
    n_cards: int,
    seed: int,
    *,
    days: int = LOG_DAYS,
    advance: Callable[[int], None] | None = None,
) -> PooledStatistics:
    """Return the statistics of as many simulated users as it takes to show `n_cards` cards.

    `seed` is the first user's, and the others' follow; `advance` is called with each run's cards.
    """
    parts: list[LogStatistics] = []
    lengths: list[Ints] = []
    cohorts = np.zeros(len(preset.population.cohorts), dtype=np.int64)
    left, n_users = n_cards, FIRST_PEOPLE
    while left > 0:
        run = simulate(preset, n_users, seed + int(cohorts.sum()), days=days)
        parts.append(log_statistics(run.impressions))
        left -= parts[-1].n
        lengths.append(Sessions.of(run.impressions).lengths())
        cohorts += np.bincount(run.cohort, minlength=len(cohorts))
        if advance is not None:
            advance(parts[-1].n)
        wanted = n_users * min(max(left, 1), MOST_CARDS) / parts[-1].n
        n_users = int(np.clip(wanted + 1, 100, MOST_PEOPLE))
    return PooledStatistics(pool(parts), length_survival(np.concatenate(lengths)), cohorts)


def _impressions(feed: Simulation, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the columns of each step until all first episodes have ended."""
    crowd, n = feed.crowd, feed.crowd.n
    lives = np.ones(n, dtype=np.bool_)
    clock_ms = np.zeros(n)
    watch, flags = EVENTS.index("watch_s"), [EVENTS.index(name) for name in RARE]
    k = feed.settings.n_candidates
    for _ in range(MOST_TURNS):
        at_ms = DAY_MS * crowd.day + HOUR_MS * crowd.hour + clock_ms
        turn = feed.play(rng.integers(0, k, (n, 1)))
        there = np.flatnonzero(lives)
        events = turn.events[0]
        watch_s = events[watch]
        yield (
            there,
            turn.rows[there, 0],
            at_ms[there].astype(np.int64),
            watch_s[there],
            *(events[flag, there] > 0.0 for flag in flags),
        )
        clock_ms = np.where(turn.session_end, 0.0, clock_ms + 1000.0 * watch_s + SWIPE_MS)
        lives &= ~(turn.terminated | turn.truncated)
        if not lives.any():
            return
    raise RuntimeError(f"a user lived for more than {MOST_TURNS} cards: do they ever leave?")
