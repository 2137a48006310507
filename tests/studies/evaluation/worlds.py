"""Logs of SwipeEnv with exact propensities, and what a world knows of every candidate in them.

Policies here are pmfs of the dict observation, as a server sees it. A log is what happens to a
vector of users under one of them; beside each decision stands what every candidate would have
earned in expectation, in closed form from the user's hidden state. Estimators never see it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from env.arrays.reals import logistic
from env.gym.vector import SwipeVectorEnv
from env.reward import Reward
from env.twin.env import MiniSwipeVectorEnv
from env.twin.model import MIDDLE, N_ACTIONS, N_LEVELS, N_PULSES, N_STATES
from env.twin.solve import DynamicProgramme
from env.vocabulary import Bools, Float32s, Floats, Ints
from env.world.answers import evening_scene, expected_reward, utility
from env.world.observer import PERSONAL
from env.world.population import UserTraits
from env.world.presets import Preset
from env.world.supply import ITEM_FACTS, Stock
from env.world.world import APPEAL, LANGUAGE, TOPIC, terms_of
from policies.explorers import draw
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.trajectories import MarkovSteps, Trajectories
from replay.reward_models.ridge import cross_fitted_predictions

POSITIONS = 3
_DRAWS = 50_000


class Impressions(NamedTuple):
    """What was drawn, one row an impression."""

    position: Ints  # (n,)
    item: Ints  # (n,)
    click: Floats  # (n,) 0 or 1


class CatalogueWorld:
    """Items, positions and their click rates; the sampler logs, or the uniform policy does."""

    def __init__(self, n_items: int, click_rate: float, sampler_logs: bool, seed: int) -> None:
        """Draw a world."""
        rng = np.random.default_rng(seed)
        factor = np.exp(0.4 * rng.normal(size=n_items) - 0.08)
        place = np.array([1.2, 1.0, 0.8])
        self.chance = click_rate * place[:, np.newaxis] * factor  # (POSITIONS, n_items)
        sampler, uniform = _thompson(click_rate * factor, rng), np.full(n_items, 1.0 / n_items)
        self.logging: Floats = sampler if sampler_logs else uniform  # (n_items,)
        self.target: Floats = uniform if sampler_logs else sampler  # (n_items,)

    @property
    def truth(self) -> float:
        """What the target earns an impression."""
        return float((self.chance @ self.target).mean())

    @property
    def ess_share(self) -> float:
        """The effective sample size of an endless log, as a share of its impressions."""
        return 1.0 / float((self.target**2 / self.logging).sum())

    def draw(self, rng: np.random.Generator, n: int) -> Impressions:
        """Return a log of n impressions, each of another user."""
        position = rng.integers(POSITIONS, size=n)
        item = rng.choice(len(self.logging), size=n, p=self.logging)
        click = (rng.random(n) < self.chance[position, item]).astype(np.float64)
        return Impressions(position, item, click)

    def columns(self, log: Impressions) -> tuple[Columns, RewardPredictions]:
        """Return a log as an estimator reads it, with what cross-fitted shrunk means say."""
        user = np.arange(len(log.click))
        target = np.broadcast_to(self.target, (len(user), len(self.target)))
        columns = Columns(user, log.click, self.logging[log.item], self.target[log.item])
        return columns, cross_fitted_predictions(user, log.position, log.item, log.click, target)


def _thompson(rate: Floats, rng: np.random.Generator) -> Floats:
    """Return how often each item is the best of a draw from what was learned of all."""
    shown = np.exp(rng.uniform(np.log(3e2), np.log(3e3), size=len(rate)))
    clicks = rng.binomial(shown.astype(np.int64), rate)
    best = rng.beta(1.0 + clicks, 1.0 + shown - clicks, size=(_DRAWS, len(rate))).argmax(axis=1)
    counts = np.bincount(best, minlength=len(rate)) + 0.5  # never never: what is logged has support
    return np.asarray(counts / counts.sum())


Signal = Literal["valid", "like"]
Distance = Literal["mild", "strong"]
Scale = Literal["event", "amount"]
KINDS, ACTIONS, DIMS = 512, 20, 8
DECISIONS = 4
"""Of each user."""

SEGMENTS = 8
"""Groups of kinds that the reward model can tell apart: it knows less than the world."""

_TICKS = 1024
_FLOOR = 0.1
_BASES = {"valid": -0.2, "like": -4.2}
_SHARPNESS = {"mild": 2.2, "strong": 4.5}


class Log(NamedTuple):
    """What was drawn, one row a decision."""

    user: Ints  # (n,)
    kind: Ints  # (n,) below KINDS
    action: Ints  # (n,) below ACTIONS
    cell: Ints  # (n,) kind * ACTIONS + action
    event: Floats  # (n,) 0 or 1
    amount: Floats  # (n,) in [0, 1]

    def reward(self, scale: Scale) -> Floats:
        """Return the rewards on one of the two scales, shape (n,)."""
        return self.event if scale == "event" else self.amount


class World:
    """Kinds of users, actions, a logging and a target policy, and what there is to earn."""

    def __init__(self, signal: Signal, distance: Distance, seed: int) -> None:
        """Draw a world; the seed decides tastes, not the distance of the policies."""
        rng = np.random.default_rng(seed)
        contexts = rng.normal(size=(KINDS, DIMS))
        taste = contexts @ rng.normal(size=(DIMS, ACTIONS)) / np.sqrt(DIMS)
        liking = 0.7 * taste + 0.5 * rng.normal(size=ACTIONS)
        misjudged = 0.5 * (liking + rng.normal(size=liking.shape))
        self.chance = 1.0 / (1.0 + np.exp(-(_BASES[signal] + liking)))  # (KINDS, ACTIONS)
        self.largest = rng.uniform(0.5, 1.0, size=ACTIONS)  # amount of an event
        self.segment = _segments(contexts)  # (KINDS,)
        ticks = _rounded((1.0 - _FLOOR) * _softmax(misjudged) + _FLOOR / ACTIONS)
        self._draws = np.repeat(np.tile(np.arange(ACTIONS, dtype=np.int8), KINDS), ticks.ravel())
        self.logging = ticks / _TICKS  # (KINDS, ACTIONS)
        self.target = _softmax(_SHARPNESS[distance] * liking)  # (KINDS, ACTIONS)

    def truth(self, scale: Scale) -> float:
        """Return what the target policy earns a decision."""
        mean = self.chance if scale == "event" else self.chance * self.largest / 2.0
        return float((self.target * mean).sum(axis=1).mean())

    @property
    def ess_share(self) -> float:
        """The effective sample size of an endless log, as a share of its decisions."""
        return 1.0 / float((self.target**2 / self.logging).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator, n: int) -> Log:
        """Return a log of n decisions, n a multiple of DECISIONS.

        Given an event, its amount is uniform up to the action's largest.
        """
        n_users = n // DECISIONS
        kind = np.repeat(rng.integers(KINDS, size=n_users), DECISIONS)
        action = self._draws.take(kind * _TICKS + rng.integers(_TICKS, size=n)).astype(np.int64)
        cell = kind * ACTIONS + action
        share = rng.random(n) / self.chance.take(cell)  # uniform in (0, 1) where it happened
        event = (share < 1.0).astype(np.float64)
        amount = event * self.largest.take(action) * share
        user = np.repeat(np.arange(n_users), DECISIONS)
        return Log(user, kind, action, cell, event, amount)


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _rounded(pmfs: Floats) -> Ints:
    """Return pmfs in ticks, at least one each, shape as given; the most likely takes the rest."""
    ticks = np.maximum(np.floor(pmfs * _TICKS), 1.0).astype(np.int64)
    ticks[np.arange(len(ticks)), pmfs.argmax(axis=1)] += _TICKS - ticks.sum(axis=1)
    return ticks


def _segments(contexts: Floats) -> Ints:
    """Return a group of each kind by the signs of its first dimensions, shape (KINDS,)."""
    bits = int(np.log2(SEGMENTS))
    return np.asarray((contexts[:, :bits] > 0.0) @ (1 << np.arange(bits)), dtype=np.int64)


N_SCENES = 8
N_ITEMS = 6
N_SLOTS = 5
ORDERS = np.array(list(permutations(range(N_ITEMS), N_SLOTS)), dtype=np.int64)  # (720, 5)
MOODS = np.array([-0.6, 0.0, 0.6])
"""Log-odds by which a kind of user likes cards more; kinds are equally frequent."""

FLOOR = 0.1
BOREDOM = 0.8
STAY = (0.7, 2.7)
"""Log-odds to see the next card, after one not liked and after one liked."""


@dataclass(frozen=True, slots=True, eq=False)
class PagePolicy:
    """A policy's distribution over orders.

    Attributes:
        conditional: of each item at each slot given the slots before, shape (scenes, orders, slots,
            items).
        chosen: of the order's own items, shape (scenes, orders, slots).
        order: of whole pages, shape (scenes, orders).
    """

    conditional: Floats
    chosen: Floats
    order: Floats

    @classmethod
    def of(cls, scores: Floats) -> "PagePolicy":
        """Return the policy that draws by a softmax of scores of shape (scenes, items)."""
        left = _items_left()
        raised = np.exp(scores)[:, None, None, :] * left
        softmax = raised / raised.sum(axis=3, keepdims=True)
        floor = left / left.sum(axis=2, keepdims=True)
        conditional = (1.0 - FLOOR) * softmax + FLOOR * floor
        at = np.broadcast_to(ORDERS[None, :, :, None], (*conditional.shape[:3], 1))
        chosen = np.take_along_axis(conditional, at, axis=3)[..., 0]
        return cls(conditional, chosen, chosen.prod(axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class PageLog:
    """Pages drawn and what was liked on them, one row a page."""

    user: Ints  # (n,)
    scene: Ints  # (n,)
    order: Ints  # (n,) index into ORDERS
    reward: Floats  # (n, slots) 0 or 1
    seen: Bools  # (n, slots)


@dataclass(frozen=True, slots=True, eq=False)
class PageWorld:
    """A world of pages that are swiped from the top.

    Attributes:
        likes: chances to like the card at each slot if it is seen, shape (moods, scenes, orders,
            slots).
        stay: log-odds to see the next card, after one not liked and after one liked.
    """

    likes: Floats
    stay: tuple[float, float] = STAY

    @classmethod
    def of(
        cls, appeal: Floats, boredom: float = BOREDOM, stay: tuple[float, float] = STAY
    ) -> "PageWorld":
        """Return the world in which items appeal by log-odds of shape (scenes, items)."""
        same = np.zeros(ORDERS.shape)
        same[:, 1:] = ORDERS[:, 1:] % 2 == ORDERS[:, :-1] % 2
        odds = appeal[:, ORDERS] - boredom * same
        likes = np.asarray(logistic(MOODS[:, None, None, None] + odds))
        return cls(likes, stay)

    def value(self, policy: PagePolicy) -> float:
        """Return the expected likes of a page, over users and scenes, exactly."""
        seen, expected = np.ones(self.likes.shape[:3]), np.zeros(self.likes.shape[:3])
        stay = np.asarray(logistic(np.array(self.stay)))
        for slot in range(N_SLOTS):
            liked = self.likes[..., slot]
            expected += seen * liked
            seen = seen * (liked * stay[1] + (1.0 - liked) * stay[0])
        return float((expected.mean(axis=0) * policy.order).sum(axis=1).mean())

    def draw(
        self, policy: PagePolicy, n_users: int, n_pages: int, generator: np.random.Generator
    ) -> PageLog:
        """Return pages of each user, drawn by a policy."""
        user = np.repeat(np.arange(n_users), n_pages)
        mood = generator.integers(len(MOODS), size=n_users)[user]
        scene = generator.integers(N_SCENES, size=len(user))
        upto = policy.order.cumsum(axis=1) + np.arange(N_SCENES)[:, None]
        order = np.searchsorted(upto.ravel(), scene + generator.random(len(user)), side="right")
        order = np.minimum(order - scene * len(ORDERS), len(ORDERS) - 1)
        likes = generator.random((len(user), N_SLOTS)) < self.likes[mood, scene, order]
        stays = generator.random((len(user), N_SLOTS)) < np.asarray(
            logistic(np.where(likes, self.stay[1], self.stay[0]))
        )
        seen = np.ones_like(likes)
        seen[:, 1:] = np.logical_and.accumulate(stays[:, :-1], axis=1)
        return PageLog(user, scene, order, (likes & seen).astype(np.float64), seen)


def _items_left() -> Bools:
    """Return which items are left before each slot of each order, shape (orders, slots, items)."""
    shown = ORDERS[:, :, None] == np.arange(N_ITEMS)
    left: Bools = np.ones(shown.shape, dtype=np.bool_)
    left[:, 1:] = ~np.logical_or.accumulate(shown, axis=1)[:, :-1]
    return left


DEGREE = 3


@dataclass(frozen=True, slots=True, eq=False)
class MiniLog:
    """Steps of users in order, one row a step.

    Attributes:
        user: from 0, in order, shape (n,).
        session: of the user, from 0, shape (n,).
        state: before the step, shape (n,).
        action: shape (n,).
        after: state after it, shape (n,).
        watch_s: reward, shape (n,).
        discount: of what follows, shape (n,).
        left: whether the session ended with it, shape (n,).
    """

    user: Ints
    session: Ints
    state: Ints
    action: Ints
    after: Ints
    watch_s: Floats
    discount: Floats
    left: Bools

    def of_users(self, first: int, end: int) -> "MiniLog":
        """Return the steps of users in [first, end), numbered from 0."""
        rows = slice(*np.searchsorted(self.user, (first, end)).tolist())
        picked = {name: getattr(self, name)[rows] for name in MiniLog.__slots__}
        picked["user"] = picked["user"] - first
        return MiniLog(**picked)

    def first_sessions(self, n_sessions: int) -> "MiniLog":
        """Return the steps of each user's first sessions, nothing following a session's end."""
        rows = self.session < n_sessions
        picked = {name: getattr(self, name)[rows] for name in MiniLog.__slots__}
        picked["discount"] = np.where(picked["left"], 0.0, 1.0)
        return MiniLog(**picked)

    def trajectories(self, behaviour: Floats, target: Floats, by_session: bool) -> Trajectories:
        """Return the steps with a target's probabilities; policies are pmfs of shape (336, 4)."""
        at = (self.state, self.action)
        begins = np.diff(self.user, prepend=-1) != 0
        if by_session:
            begins |= np.diff(self.session, prepend=-1) != 0
        user = self.user[begins]
        episode = np.cumsum(begins) - 1
        return Trajectories(user, episode, self.watch_s, behaviour[at], target[at], self.discount)

    def markov(self, target: Floats) -> MarkovSteps:
        """Return the states of the steps with their features."""
        return MarkovSteps(self.state, self.action, self.after, target, state_features())


def state_features() -> Floats:
    """Return cubics of satisfaction by satiation, load and action, shape (336, 4, 256)."""
    satisfied = np.arange(N_STATES) // N_PULSES / (N_LEVELS - 1) * 2.0 - 1.0
    powers = np.vander(satisfied, DEGREE + 1, increasing=True)
    pulse = np.eye(N_PULSES)[np.arange(N_STATES) % N_PULSES]
    by_state = np.einsum("sp,sk->spk", pulse, powers).reshape(N_STATES, -1)
    by_pair: Floats = np.einsum("sx,ab->saxb", by_state, np.eye(N_ACTIONS))
    return by_pair.reshape(N_STATES, N_ACTIONS, -1)


def mixed(policy: Floats, share: float) -> Floats:
    """Return a policy that follows another in a share of its choices, else draws uniformly."""
    return share * policy + (1.0 - share) / N_ACTIONS


def live(policy: Floats, n_users: int, n_days: int, generator: np.random.Generator) -> MiniLog:
    """Return the lives of users under a policy until the session that follows the last day."""
    env = MiniSwipeVectorEnv(n_users, obs="ids", horizon_days=n_days)
    upto = policy.cumsum(axis=1)[:, :-1]
    state, _ = env.reset(seed=int(generator.integers(2**62)))
    alive, session = np.ones(n_users, dtype=np.bool_), np.zeros(n_users, dtype=np.int64)
    blocks = []
    while alive.any():
        action = (generator.random(n_users)[:, None] >= upto[state]).sum(axis=1)
        after, reward, terminated, truncated, info = env.step(action)
        columns = (session, state, action, after, reward, info["discount"], info["session_end"])
        here = np.flatnonzero(alive)
        blocks.append([here, *(column[here] for column in columns)])
        session = session + info["session_end"]
        alive &= ~(terminated | truncated)
        state = after
    rows = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    order = np.argsort(rows[0], kind="stable")
    return MiniLog(*(column[order] for column in rows))


def session_value(
    programme: DynamicProgramme, behaviour: Floats, target: Floats, n_sessions: int
) -> float:
    """Return the seconds of a session under the target, over the log's first sessions, exactly.

    Sessions begin where the behaviour policy left users, so the value is a mean over the levels at
    which sessions begin under it.
    """
    begins = np.zeros(N_LEVELS)
    begins[MIDDLE] = 1.0
    starts = np.arange(N_LEVELS) * N_PULSES
    stay = np.einsum("xa,xay->xy", behaviour, programme.stay)
    leave = np.einsum("xa,xal->xl", behaviour, programme.leave)
    ends = np.linalg.solve(np.eye(N_STATES) - stay, leave)[starts]
    night = (1.0 - programme.model.churn)[:, None] * programme.rest
    levels = [begins]
    for _ in range(n_sessions - 1):
        levels.append(levels[-1] @ ends @ night)
    total = np.sum(levels, axis=0)
    stay = np.einsum("xa,xay->xy", target, programme.stay)
    gains = (target * programme.model.watch_s).sum(axis=1)
    value = np.linalg.solve(np.eye(N_STATES) - stay, gains)[starts]
    return float(total @ value / total.sum())


Pmf = Callable[[Mapping[str, Any]], Floats]
"""From a dict observation of n users to the probabilities of their candidates, shape (n, K)."""


@dataclass(frozen=True, slots=True, eq=False)
class SwipeLog:
    """n decisions of a vector of users, in the order of the turns."""

    user: Ints  # (n,) code of each life; a place gets the next one when a life ends
    action: Ints  # (n,) in [0, K)
    reward: Floats  # (n,)
    propensity: Floats  # (n,) of the action, in (0, 1]
    targets: Floats  # (n_policies, n, K) pmfs of the target policies
    features: Float32s  # (n, K, len(ITEM_FACTS) + len(PERSONAL)) what the server knows
    expected: Floats  # (n, K) exact, hidden


def play_log(
    env: SwipeVectorEnv, logging: Pmf, targets: Mapping[str, Pmf], n_turns: int, seed: int
) -> SwipeLog:
    """Return what happens to users under a policy, from their first card on.

    Args:
        env: of dict observations and single cards, with users as `env.world.crowd` knows them.
        logging: the policy, of positive probability everywhere.
        targets: whose probabilities are written down at each decision.
        n_turns: cards of each place, the turn that replaces a user left out.
        seed: of the users, s to s + n - 1, and of the draws.
    """
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    place, lives = np.arange(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    turns, pmfs = [], []
    for _ in range(n_turns):
        if not isinstance(observation, dict):
            raise TypeError("expected an environment of dict observations")
        pmf, there = logging(observation), ~env.swiping.over
        action = draw(pmf, rng)
        pmfs.append(np.stack([target(observation)[there] for target in targets.values()]))
        known, expected = known_of(observation)[there], exact_rewards(env)[there]
        user = (place + env.num_envs * lives)[there]
        lives += env.swiping.over
        observation, reward, *_ = env.step(action)
        acted = action[there]
        turns.append((user, acted, reward[there], pmf[place, action][there], known, expected))
    user, acted, rewards, propensity, features, values = (
        np.concatenate(parts) for parts in zip(*turns, strict=True)
    )
    return SwipeLog(
        user=user,
        action=acted,
        reward=rewards,
        propensity=propensity,
        targets=np.concatenate(pmfs, axis=1),
        features=features,
        expected=values,
    )


def known_of(observation: Mapping[str, Any]) -> Float32s:
    """Return what a server knows of candidates but their vectors, (n, K, facts + personal)."""
    facts = observation["item"][..., -len(ITEM_FACTS) :]
    return np.concatenate([facts, observation["personal"]], axis=-1)


def feature(name: str) -> int:
    """Return the place of a number of `ITEM_FACTS` or `PERSONAL` among what is known."""
    return (*ITEM_FACTS, *PERSONAL).index(name)


def exact_rewards(env: SwipeVectorEnv) -> Floats:
    """Return the exact expected engagement of every candidate now, shape (n, K)."""
    swiping = env.swiping
    rows = swiping.candidates.rows
    return expected_of(swiping.crowd, swiping.stock, rows, swiping.preset, env.objective.reward)


class Minds(Protocol):
    """The state of n users on which an answer depends, true or believed."""

    @property
    def n(self) -> int:
        """How many they are."""

    @property
    def users(self) -> UserTraits:
        """Who they are; their tastes are `taste`."""

    @property
    def taste(self) -> Floats:
        """Of each, shape (n_dims, n)."""

    @property
    def satiation(self) -> Floats:
        """With each topic, shape (n, N_TOPICS)."""

    @property
    def load(self) -> Floats:
        """Shape (n,)."""

    @property
    def hour(self) -> Floats:
        """Of the visit, shape (n,)."""


def expected_of(minds: Minds, stock: Stock, rows: Ints, preset: Preset, reward: Reward) -> Floats:
    """Return the exact expected reward of showing items to users as they are, shape (n, K).

    Args:
        minds: n users; they do not move.
        stock: of the items.
        rows: of the items, shape (n, K).
        preset: of the world.
        reward: linear in the events.
    """
    users, place = minds.users, np.repeat(np.arange(minds.n), rows.shape[1])
    shown = rows.reshape(-1)
    item = np.take(stock.columns, shown, axis=1)
    vectors = np.take(stock.vectors, shown, axis=1)
    affinity = np.einsum("di,di->i", vectors, minds.taste[:, place])
    log_odds = utility(
        preset.rates,
        affinity,
        item[APPEAL] + users.lean[place],
        1.0 * (item[LANGUAGE] == users.language[place]),
        minds.satiation[place, item[TOPIC].astype(np.int64)],
        minds.load[place],
        evening_scene(preset.population.evening, minds.hour[place]),
    )
    value = expected_reward(
        preset.rates,
        reward,
        np.asarray(log_odds),
        terms_of(item),
        affinity / preset.priors.affinity_sd,
    )
    return value.reshape(rows.shape)
