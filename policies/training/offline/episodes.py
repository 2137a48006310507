"""Logged lives as RLlib's episodes, one for each user from their first session on.

A step's observation holds the user, the candidates and the slot's mask, as in serving. Discounts
and logged probabilities go into the episode's extra outputs. Rejected alternatives:
`docs/decisions/offline-training.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from env.pages.lives import NO_PAGE, LifeReward, Lives
from env.vocabulary import Float32s, Floats, Ints
from policies.training.layout import ObservationLayout
from policies.training.offline.settings import Credit

DISCOUNT, TARGETS = "discount", "targets"


def layout_of(lives: Lives) -> ObservationLayout:
    """Return the layout of lives' observations."""
    return ObservationLayout(lives.shared.shape[1], lives.rows.shape[1], lives.rows.shape[2])


def observation_space(layout: ObservationLayout) -> spaces.Dict:
    """Return the space of a step's observation."""
    k = layout.n_candidates
    return spaces.Dict(
        {
            "user": spaces.Box(-np.inf, np.inf, (layout.n_user,), np.float32),
            "item": spaces.Box(-np.inf, np.inf, (k, layout.n_item), np.float32),
            "mask": spaces.Box(0, 1, (k,), np.int8),
        }
    )


def episodes_of(
    lives: Lives, reward: LifeReward, credit: Credit, targets: Floats | None = None
) -> list[SingleAgentEpisode]:
    """Return each life as an episode of RLlib, in order.

    Args:
        credit: "session" cuts the credit at a session's end, except for the return.
        targets: target probabilities of each step, shape (n, K).
    """
    rewards, discounts = reward.rewards(lives), reward.discounts(lives)
    if credit == "session":
        discounts = np.where(lives.leaves, 0.0, discounts)
    ends = np.append(lives.first[1:], len(lives))
    extra = {Columns.ACTION_LOGP: np.log(lives.propensity), DISCOUNT: discounts}
    if targets is not None:
        extra[TARGETS] = targets.astype(np.float32)
    return [
        _episode(lives, life, slice(first, end), rewards, extra)
        for life, (first, end) in enumerate(zip(lives.first.tolist(), ends.tolist(), strict=True))
    ]


def _episode(
    lives: Lives, life: int, steps: slice, rewards: Floats, extra: dict[str, Any]
) -> SingleAgentEpisode:
    last_page = int(lives.last_page[life])
    goes_on = last_page != NO_PAGE
    pages = np.append(lives.page[steps], last_page if goes_on else lives.page[steps][-1])
    last_mask = lives.last_mask[life] if goes_on else lives.mask[steps][-1]
    seen = {
        "user": lives.users(pages),
        "item": lives.candidates(pages),
        "mask": np.vstack([lives.mask[steps], last_mask]).astype(np.int8),
    }
    n = len(pages) - 1
    return SingleAgentEpisode(
        id_=f"{int(lives.user[life]):016x}",
        observations=InfiniteLookbackBuffer(seen),
        infos=InfiniteLookbackBuffer([{}] * (n + 1)),
        actions=InfiniteLookbackBuffer(np.array(lives.action[steps])),
        rewards=InfiniteLookbackBuffer(rewards[steps]),
        terminated=not goes_on,
        truncated=goes_on,
        extra_model_outputs={
            name: InfiniteLookbackBuffer(column[steps]) for name, column in extra.items()
        },
        len_lookback_buffer=0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class LoggedSteps:
    """n steps of m episodes, one episode after another."""

    observations: dict[str, Any]  # (n, ...)
    last: dict[str, Any]  # (m, ...) after each episode's last step
    actions: Ints  # (n,)
    rewards: Floats  # (n,)
    discounts: Floats  # (n,) of the time after each step
    ends: Ints  # (m,) each episode's last step
    targets: Float32s | None = None  # (n, K) if they came with them

    @classmethod
    def of(cls, episodes: Sequence[SingleAgentEpisode]) -> "LoggedSteps":
        """Return the steps of episodes that hold numpy arrays."""
        seen = [episode.get_observations() for episode in episodes]
        return cls(
            observations={
                name: np.concatenate([block[name][:-1] for block in seen]) for name in seen[0]
            },
            last={name: np.stack([block[name][-1] for block in seen]) for name in seen[0]},
            actions=_joined([episode.get_actions() for episode in episodes]),
            rewards=_joined([episode.get_rewards() for episode in episodes]),
            discounts=_joined([e.get_extra_model_outputs(DISCOUNT) for e in episodes]),
            ends=np.cumsum([len(episode) for episode in episodes]) - 1,
            targets=_joined([e.get_extra_model_outputs(TARGETS) for e in episodes])
            if TARGETS in episodes[0].extra_model_outputs
            else None,
        )

    def lambda_returns(self, values: Floats, last: Floats, lambda_: float) -> Floats:
        """Return the lambda-return of each step, shape (n,).

        G_t = r_t + d_t ((1 - lambda) v(s_{t+1}) + lambda G_{t+1}), with v alone after an episode's
        last step (Sutton and Barto, "Reinforcement Learning", 2018, section 12.1).

        Args:
            values: v of the state before each step, shape (n,).
            last: v of the state after each episode, shape (m,).
            lambda_: in [0, 1].
        """
        after = np.append(values[1:], 0.0)
        after[self.ends] = last
        trace = np.full(len(values), lambda_)
        trace[self.ends] = 0.0
        fixed = self.rewards + self.discounts * (1.0 - trace) * after
        going = self.discounts * trace
        returns, onward = np.empty(len(values)), 0.0
        for step in range(len(values) - 1, -1, -1):
            onward = fixed[step] + going[step] * onward
            returns[step] = onward
        return returns


def minibatches(n: int, size: int) -> Iterator[slice]:
    """Yield slices that cover n rows in order."""
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


def _joined(parts: Sequence[Any]) -> Any:
    return np.concatenate(parts)
