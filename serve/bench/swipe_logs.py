"""Logs of SwipeEnv with exact propensities, and what a world knows of every candidate in them.

Policies here are pmfs of the dict observation, as a server sees it. A log is what happens to a
vector of people under one of them; beside each decision stands what every candidate would have
earned in expectation, in closed form from the person's hidden state. Estimators never see it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from env.answers import evening_scene, utility
from env.chances import expected_reward
from env.observe import PERSONAL
from env.population import People
from env.presets import Preset
from env.reward import Reward
from env.supply import ITEM_FACTS, Stock
from env.vector import SwipeVectorEnv
from env.vocabulary import Float32s, Floats, Ints
from env.world import APPEAL, LANGUAGE, TOPIC, terms_of
from policies.pmfs import draw

Pmf = Callable[[Mapping[str, Any]], Floats]
"""From a dict observation of n people to the probabilities of their candidates, shape (n, K)."""


@dataclass(frozen=True, slots=True, eq=False)
class SwipeLog:
    """n decisions of a vector of people, in the order of the turns."""

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
    """Return what happens to people under a policy, from their first card on.

    Args:
        env: of dict observations and single cards, with people as `env.crowd` knows them.
        logging: the policy, of positive probability everywhere.
        targets: whose probabilities are written down at each decision.
        n_turns: cards of each place, the turn that replaces a person left out.
        seed: of the people, s to s + n - 1, and of the draws.
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
    facts = observation["items"][..., -len(ITEM_FACTS) :]
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
    """What an answer hangs on, of n people: an `env.crowd.Crowd`, or what is believed of one."""

    @property
    def n(self) -> int:
        """How many they are."""

    @property
    def people(self) -> People:
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
    """Return the exact expected reward of showing items to people as they are, shape (n, K).

    Args:
        minds: n people; they do not move.
        stock: of the items.
        rows: of the items, shape (n, K).
        preset: of the world.
        reward: linear in the events.
    """
    people, place = minds.people, np.repeat(np.arange(minds.n), rows.shape[1])
    shown = rows.reshape(-1)
    item = np.take(stock.columns, shown, axis=1)
    vectors = np.take(stock.vectors, shown, axis=1)
    affinity = np.einsum("di,di->i", vectors, minds.taste[:, place])
    log_odds = utility(
        preset.rates,
        affinity,
        item[APPEAL] + people.lean[place],
        1.0 * (item[LANGUAGE] == people.language[place]),
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
