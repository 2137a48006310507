"""Side effects of a policy on simulated users: bait, variety, long visits, nights and dislikes.

A policy trained for retention may exploit these without being asked to, so it is compared with
known policies on the same simulated users. Ratios have standard errors clustered by user. Formula
and reasons: `docs/decisions/audit-policy.md`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from env.columns.schema import N_ACTION, N_SHARED
from env.gym.choosers import ChooserName, best, chooser
from env.gym.observation import Screen
from env.gym.rollouts import Chooser
from env.gym.vector import SwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints
from env.world.moods import N_TOPICS
from env.world.objective import LONG_VISIT_S, is_night, overtime_s
from env.world.presets import Preset
from env.world.simulation import EVENTS, StepResult
from env.world.world import BAIT
from policies.ranker.ranker import Ranker, ranks_feeds
from serve.errors import JobError
from serve.jobs.policies import entry_point

MakeChooser = Callable[[int], Chooser]
"""Makes a policy from the seed of its random choices."""


def find_chooser(name: str, env: SwipeVectorEnv) -> MakeChooser:
    """Return the policy of this name for an environment with dict observations.

    A ranker of the feed's columns knows users only from the time of this call on.

    Raises:
        JobError: there is no such policy, or it is a ranker of other columns.
        SnapshotCorruption: a ranker's file does not match its manifest.
    """
    if name in get_args(ChooserName):
        return lambda seed: chooser(name, seed)  # type: ignore[arg-type]  # it is one
    if ":" in name:
        return _own_chooser(name)
    if not Path(name).is_file():
        names = ", ".join(get_args(ChooserName))
        raise JobError(f"expected {names}, the file of a ranker or MODULE:FUNCTION, got {name!r}")
    return _ranker_chooser(Ranker.from_file(Path(name)), env)


def _own_chooser(name: str) -> MakeChooser:
    make = entry_point(name)

    def made(seed: int) -> Chooser:
        choose = make(seed)
        if not callable(choose):
            raise JobError(f"{name}: expected a chooser (env.gym.rollouts), got {choose!r}")
        return choose

    return made


def _ranker_chooser(ranker: Ranker, env: SwipeVectorEnv) -> MakeChooser:
    screen = env.screen
    expected = screen.user.shape[1], screen.items.shape[2] + screen.personal.shape[2]
    got = ranker.args.n_user, ranker.args.n_item
    if ranks_feeds(*got):
        feed = Screen(env.swiping, "feed", keeps_items=False)
        return lambda seed: _look(feed, _draw(ranker, np.random.default_rng(seed)))
    if got != expected:
        raise JobError(
            f"expected a ranker of this world's {expected[0]} columns of a user and "
            f"{expected[1]} of a candidate, or of the feed's {N_SHARED} and {N_ACTION}, got "
            f"{got[0]} and {got[1]}; was it trained in it?"
        )
    return lambda seed: _draw(ranker, np.random.default_rng(seed))


def _look(screen: Screen, choose: Chooser) -> Chooser:
    """Return a chooser that observes this screen instead of its argument."""
    return lambda observation: choose(screen.write(copy=False))


def _draw(ranker: Ranker, rng: np.random.Generator) -> Chooser:
    """Return a chooser that samples a candidate from the softmax of its logits (Gumbel trick)."""

    def choose(observation: Any) -> Any:
        rows = np.concatenate([observation["item"], observation["personal"]], axis=-1)
        logits = ranker.batch_scores(observation["user"], rows)
        return best(logits + rng.gumbel(size=logits.shape), observation["mask"], 1)

    return choose


MUCH_BAIT = 0.5
AT = (0.5, 0.95, 0.99)
"""Quantiles of visits."""

_NOT_INTERESTED, _TAIL = EVENTS.index("not_interested"), EVENTS.index("tail")


class RatioEstimate(msgspec.Struct, frozen=True):
    """A figure over users, with its standard error."""

    value: float
    se: float


class PolicyAudit(msgspec.Struct, frozen=True):
    """Behaviour of simulated users under a policy.

    Attributes:
        active_days: days with a visit per user, until the horizon or churn.
        bait: mean bait of a card, 0 to 1, known in the simulated world only.
        bait_share: share of cards with bait above 0.5.
        topic_entropy: entropy of a user's topics, nats; at most log 32 = 3.47.
        visit_cards: cards per visit, at the quantiles `AT`.
        visit_minutes: minutes per visit, likewise.
        long_visits: share of visits beyond an hour.
        overtime: share of watch time beyond a visit's first hour.
        night: share of cards between midnight and five on the user's clock.
        not_interested: share of cards marked "not interested".
        tail: share of cards of the less exposed half of the items.
    """

    policy: str
    users: int
    days: int
    cards: int
    active_days: RatioEstimate
    bait: RatioEstimate
    bait_share: RatioEstimate
    topic_entropy: RatioEstimate
    visit_cards: tuple[float, ...]
    visit_minutes: tuple[float, ...]
    long_visits: RatioEstimate
    overtime: RatioEstimate
    night: RatioEstimate
    not_interested: RatioEstimate
    tail: RatioEstimate


def open_world(preset: Preset, n_users: int, n_days: int) -> SwipeVectorEnv:
    """Return the world for auditing policies."""
    return SwipeVectorEnv(n_users, preset=preset, horizon_days=n_days, copy=False)


def audit_policy(env: SwipeVectorEnv, name: str, choose: Chooser, seed: int) -> PolicyAudit:
    """Return the behaviour of users under a policy, each until the end of their first life.

    Args:
        env: from `open_world`.
        seed: user i has seed + i under every policy (common random numbers).
    """
    env.reset(seed=seed)
    lived, swiping = _Lived(env.num_envs), env.swiping
    while lived.lives.any():
        position, stock = swiping.crowd.position.copy(), swiping.stock
        turn = swiping.play(choose(env.screen.write(copy=False))[:, None])
        rows = turn.rows[:, 0]
        lived.count(position, turn, stock.columns[BAIT][rows], stock.topic[rows])
    return lived.audit(name, swiping.preset.horizon_days)


class _Lived:
    """Sums per user so far.

    Attributes:
        lives: whether the user's first life continues.
    """

    def __init__(self, n: int) -> None:
        self.lives: Bools = np.ones(n, dtype=np.bool_)
        self._cards, self._bait, self._much_bait, self._night = np.zeros((4, n))
        self._watched_s, self._overtime_s, self._visits, self._long = np.zeros((4, n))
        self._not_interested, self._tail = np.zeros((2, n))
        self._topics = np.zeros((n, N_TOPICS))
        self._visit_cards: list[Floats] = []
        self._visit_s: list[Floats] = []

    def count(self, position: Floats, turn: StepResult, bait: Floats, topic: Ints) -> None:
        """Count one card of each living user.

        Args:
            position: cards of the visit before it, shape (n,).
            turn: result of the card.
            bait: bait of its item, shape (n,).
            topic: topic of its item, shape (n,).
        """
        live, worth = 1.0 * self.lives, turn.worth
        self._cards += live
        self._bait += live * bait
        self._much_bait += live * (bait > MUCH_BAIT)
        self._night += live * is_night(worth.hour, worth.before_s)
        self._watched_s += live * worth.watch_s
        self._overtime_s += live * overtime_s(worth.before_s, worth.watch_s)
        self._not_interested += live * turn.events[0, _NOT_INTERESTED]
        self._tail += live * turn.events[0, _TAIL]
        self._topics[np.arange(len(topic)), topic] += live
        leave = self.lives & turn.session_end
        visit_s = worth.before_s + worth.watch_s
        self._visits += leave
        self._long += leave & (visit_s > LONG_VISIT_S)
        self._visit_cards.append(position[leave] + 1.0)
        self._visit_s.append(visit_s[leave])
        self.lives &= ~(turn.terminated | turn.truncated)

    def audit(self, name: str, n_days: int) -> PolicyAudit:
        cards, n = self._cards, np.ones(len(self._cards))
        return PolicyAudit(
            policy=name,
            users=len(cards),
            days=n_days,
            cards=int(cards.sum()),
            active_days=ratio(self._visits, n),
            bait=ratio(self._bait, cards),
            bait_share=ratio(self._much_bait, cards),
            topic_entropy=ratio(cards * entropy(self._topics), cards),
            visit_cards=_quantiles(self._visit_cards),
            visit_minutes=tuple(s / 60.0 for s in _quantiles(self._visit_s)),
            long_visits=ratio(self._long, self._visits),
            overtime=ratio(self._overtime_s, self._watched_s),
            night=ratio(self._night, cards),
            not_interested=ratio(self._not_interested, cards),
            tail=ratio(self._tail, cards),
        )


def ratio(sums: Floats, counts: Floats) -> RatioEstimate:
    """Return the ratio of sums over users, with its standard error.

    With r = sum x_i / sum n_i, the error is sqrt(sum (x_i - r n_i)^2) / sum n_i (Cochran, Sampling
    Techniques, 1977, 6.4).

    Args:
        sums: numerators x_i by user, shape (n,).
        counts: denominators n_i, shape (n,), not all 0.

    >>> ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0])).value
    1.0
    """
    total = float(counts.sum())
    value = float(sums.sum()) / total
    return RatioEstimate(value, float(np.sqrt(np.square(sums - value * counts).sum())) / total)


def entropy(counts: Floats) -> Floats:
    """Return the entropy of each row of counts in nats, shape (n,); biased low for few counts.

    >>> entropy(np.array([[2.0, 2.0], [4.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    logs = np.log(np.where(shares > 0.0, shares, 1.0))
    return np.asarray(0.0 - (shares * logs).sum(axis=1))


def _quantiles(visits: list[Floats]) -> tuple[float, ...]:
    return tuple(np.quantile(np.concatenate(visits), AT).tolist())


FIGURES = {
    "active days": "active_days",
    "mean bait": "bait",
    "cards of much bait": "bait_share",
    "topic entropy, nats": "topic_entropy",
    "visits beyond an hour": "long_visits",
    "watching beyond it": "overtime",
    "cards from 0 to 5 h": "night",
    "cards not interested in": "not_interested",
    "cards of the less seen half": "tail",
}

VISITS = {
    "cards a visit, p50 p95 p99": "visit_cards",
    "minutes a visit, p50 p95 p99": "visit_minutes",
}


def print_audits(audits: list[PolicyAudit]) -> None:
    """Print the audits side by side, as a table."""
    first = audits[0]
    table = Table(title=f"{first.users:,} users, up to {first.days} days, simulated")
    table.add_column("")
    for audit in audits:
        table.add_column(escape(audit.policy), justify="right")
    for title, name in FIGURES.items():
        table.add_row(title, *(_told(getattr(audit, name)) for audit in audits))
    for title, name in VISITS.items():
        table.add_row(
            title, *("  ".join(f"{n:,.0f}" for n in getattr(audit, name)) for audit in audits)
        )
    Console(highlight=False).print(table)


def _told(figure: RatioEstimate) -> str:
    return f"{figure.value:.4f} ± {figure.se:.4f}"
