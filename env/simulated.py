"""Logs of simulated users under a uniformly random policy, for comparison with a target log.

The random policy is the one that calibration targets are met under. Users live the same number of
days, not of cards, as in a real log: counted by cards, daily users would leave as few gaps as
others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from env.answers import UNCAPPED_S
from env.creators import LiveSupply
from env.impressions import Impressions
from env.moments import RARE, Moments, moments_of, pool
from env.population import DrawnCast
from env.presets import Preset
from env.reward import Reward
from env.sessions import DAY_MS, Sessions, length_survival
from env.settings import Settings
from env.supply import FixedSupply
from env.swiping import EVENTS, Swiping
from env.vocabulary import Floats, Ints
from env.world import terms_of

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

    impressions: Impressions
    cohort: Ints  # (n_people,) in the order of the preset's
    vectors: Floats  # (n_items, n_dims)


@dataclass(frozen=True, slots=True)
class Counted:
    """Pooled statistics of several logs of different users in the same world."""

    moments: Moments
    survival: Floats  # P(session length > 0), > 1, ..
    cohorts: Ints  # (n_cohorts,) people


def simulate(
    preset: Preset, n_people: int, seed: int, *, days: int = LOG_DAYS, world_seed: int = 0
) -> Simulated:
    """Return the log of users' first days under a policy that shows random candidates.

    User i has seed + i and lives `days` days, less if they churn; the first day's items stay.
    """
    supply = FixedSupply(LiveSupply(preset, world_seed).stock)
    cast = DrawnCast(preset)
    feed = Swiping(replace(preset, horizon_days=days), cast, supply, Settings(), Reward(), n_people)
    feed.restart(seed + np.arange(n_people))
    cohort = feed.crowd.people.cohort.copy()
    columns = list(_impressions(feed, np.random.default_rng(seed)))
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    user, item, at_ms, watch_s, *events = joined
    cap_s = np.asarray(terms_of(supply.stock.columns).cap_s)[item]
    impressions = Impressions(
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
) -> Counted:
    """Return the statistics of as many simulated users as it takes to show `n_cards` cards.

    `seed` is the first user's, and the others' follow; `advance` is called with each run's cards.
    """
    parts: list[Moments] = []
    lengths: list[Ints] = []
    cohorts = np.zeros(len(preset.population.cohorts), dtype=np.int64)
    left, n_people = n_cards, FIRST_PEOPLE
    while left > 0:
        run = simulate(preset, n_people, seed + int(cohorts.sum()), days=days)
        parts.append(moments_of(run.impressions))
        left -= parts[-1].n
        lengths.append(Sessions.of(run.impressions).lengths())
        cohorts += np.bincount(run.cohort, minlength=len(cohorts))
        if advance is not None:
            advance(parts[-1].n)
        wanted = n_people * min(max(left, 1), MOST_CARDS) / parts[-1].n
        n_people = int(np.clip(wanted + 1, 100, MOST_PEOPLE))
    return Counted(pool(parts), length_survival(np.concatenate(lengths)), cohorts)


def _impressions(feed: Swiping, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
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
    raise RuntimeError(f"somebody lived for more than {MOST_TURNS} cards: do they ever leave?")
