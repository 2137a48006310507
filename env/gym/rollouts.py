"""Rollouts: whole episodes of a policy in a vector environment, and their export to Minari.

A policy is a function from a batch of observations to a batch of actions. Each slot of the
environment gives only its first episode: the first n to end would be the short ones, with too many
users who churn.

Format and rejected alternatives: `docs/decisions/gym-datasets.md`.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from env.gym.registration import register_envs
from env.vocabulary import Bools, Floats

if TYPE_CHECKING:
    from minari import MinariDataset
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage


Arrays = NDArray[Any] | dict[str, NDArray[Any]]
Chooser = Callable[[Any], NDArray[Any]]
"""Maps a batch of observations to the actions of n users."""

MOST_STEPS = 200_000
PLACES = 16
"""Number of episodes of an export that are played at a time, which bounds its memory."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A life of t steps; `reset` of the scalar environment with `seed` starts the same life."""

    seed: int
    observations: Arrays  # (t + 1, ...)
    actions: NDArray[Any]  # (t, ...)
    rewards: Floats  # (t,)
    terminations: Bools  # (t,)
    truncations: Bools  # (t,)
    infos: dict[str, NDArray[Any]]  # (t, ...)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.rewards)


def rollout(env: "VectorEnv[Any, Any, Any]", choose: Chooser, seed: int) -> list[Episode]:
    """Return the first episode of each slot, under a policy.

    Args:
        env: of n users, with autoreset mode NEXT_STEP, and observations that stay (copy=True).
        choose: the policy.
        seed: slot i lives under seed + i.

    Raises:
        ValueError: the environment resets in another way.
        RuntimeError: an episode did not end within `MOST_STEPS` steps.
    """
    if env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"expected an environment that resets at the next step, got "
            f"{env.metadata.get('autoreset_mode')}"
        )
    observation, _ = env.reset(seed=seed)
    observations = [observation]
    steps: list[tuple[Any, ...]] = []
    ends = np.full(env.num_envs, -1)
    while (ends < 0).any():
        if len(steps) == MOST_STEPS:
            raise RuntimeError(f"{int((ends < 0).sum())} episodes go on after {MOST_STEPS} steps")
        action = choose(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        steps.append((action, reward, terminated, truncated, info))
        ends[(ends < 0) & (terminated | truncated)] = len(steps)
    places = range(env.num_envs)
    return [_episode(observations, steps, k, int(ends[k]), seed + k) for k in places]


def export_minari(
    env_id: str,
    options: dict[str, Any],
    choose: Callable[[int], Chooser],
    folder: Path,
    dataset_id: str,
    *,
    n_episodes: int,
    seed: int,
    policy: str,
    description: str = "",
    advance: Callable[[int], None] = lambda n: None,
) -> "MinariDataset":
    """Return a dataset of episodes, written to `folder` / `dataset_id`.

    It loads with `MinariDataset(folder / dataset_id / "data")`, or by its id if the variable
    MINARI_DATASETS_PATH names the folder. The export uses no network. An unfinished dataset is
    removed.

    Args:
        env_id: registered, with a vector entry point.
        options: of the environment, as JSON values; stored in the dataset, so that the environment
            can be made again.
        choose: returns the policy, given the seed of a batch of episodes.
        folder: may exist.
        dataset_id: as Minari names datasets, such as "nextswipe/rapid-uniform-v0".
        n_episodes: at least 1; episode i lives under seed + i.
        seed: of the first.
        policy: its name, stored in the dataset.
        description: stored in the dataset.
        advance: called with the number of episodes written.

    Raises:
        ImportError: Minari is not installed.
        ValueError: the id is malformed, the folder has such a dataset already, or the environment
            refuses its options.
    """
    from minari import MinariDataset, __version__
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_dataset import parse_dataset_id

    register_envs()
    parse_dataset_id(dataset_id)
    with _new_folder(folder, dataset_id) as data:
        storage = _new_storage(data, env_id, options)
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "algorithm_name": policy,
                "description": description,
                "minari_version": __version__,
            }
        )
        for batch in _batches(env_id, options, choose, n_episodes, seed):
            storage.update_episodes([_buffer(EpisodeBuffer, episode) for episode in batch])
            advance(len(batch))
        return MinariDataset(data)


@contextmanager
def _new_folder(folder: Path, dataset_id: str) -> Iterator[Path]:
    """Create the folder of a dataset's data, and remove the dataset after an error.

    Raises:
        ValueError: there is such a dataset.
    """
    # Minari 0.5.3 prepends the path to files that already begin with it: right only if absolute.
    dataset = (folder / dataset_id).resolve()
    if dataset.exists():
        raise ValueError(f"{folder / dataset_id}: there is such a dataset; remove it first")
    data = dataset / "data"
    data.mkdir(parents=True)
    try:
        yield data
    except BaseException:
        shutil.rmtree(dataset)
        raise


def _new_storage(data: Path, env_id: str, options: dict[str, Any]) -> "MinariStorage":
    """Return an empty storage with the environment's spaces and spec."""
    from minari.dataset.minari_storage import MinariStorage

    spec = deepcopy(gymnasium.spec(env_id))
    spec.kwargs |= options
    probe = gymnasium.make_vec(env_id, 1, vectorization_mode="vector_entry_point", **options)
    storage = MinariStorage.new(
        data,
        observation_space=probe.single_observation_space,
        action_space=probe.single_action_space,
        env_spec=spec,
        data_format="arrow",
    )
    probe.close()
    return storage


def _batches(
    env_id: str, options: dict[str, Any], choose: Callable[[int], Chooser], n: int, seed: int
) -> Iterator[list[Episode]]:
    for first in range(0, n, PLACES):
        size = min(PLACES, n - first)
        env = gymnasium.make_vec(env_id, size, vectorization_mode="vector_entry_point", **options)
        yield rollout(env, choose(seed + first), seed + first)
        env.close()


def _buffer(kind: "type[EpisodeBuffer]", episode: Episode) -> "EpisodeBuffer":
    """Return an episode in Minari's form: an info for each observation, zeros for the first.

    Minari 0.5.3 cannot read back an info that was an array of shape (t,), so these are lists.
    """
    infos: dict[str, Any] = {}
    for name, values in episode.infos.items():
        whole = np.concatenate([np.zeros_like(values[:1]), values])
        infos[name] = whole.tolist() if whole.ndim == 1 else whole
    return kind(
        seed=episode.seed,
        observations=episode.observations,
        actions=episode.actions,
        rewards=cast("list[float]", episode.rewards),
        terminations=cast("list[bool]", episode.terminations),
        truncations=cast("list[bool]", episode.truncations),
        infos=infos,
    )


def _episode(
    observations: list[Any], steps: list[tuple[Any, ...]], place: int, n: int, seed: int
) -> Episode:
    actions, rewards, terminated, truncated, infos = zip(*steps[:n], strict=True)
    return Episode(
        seed=seed,
        observations=_gather(observations[: n + 1], place),
        actions=_column(actions, place),
        rewards=_column(rewards, place).astype(np.float64),
        terminations=_column(terminated, place),
        truncations=_column(truncated, place),
        infos={name: _column([info[name] for info in infos], place) for name in infos[0]},
    )


def _gather(observations: list[Any], place: int) -> Arrays:
    if isinstance(observations[0], dict):
        return {
            name: _column([observation[name] for observation in observations], place)
            for name in observations[0]
        }
    return _column(observations, place)


def _column(values: Any, place: int) -> NDArray[Any]:
    return np.stack([value[place] for value in values])
