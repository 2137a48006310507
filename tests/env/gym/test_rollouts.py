from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from env.calibration.recipes import rapid
from env.gym.choosers import chooser
from env.gym.registration import register_envs
from env.gym.rollouts import Episode, export_minari, rollout
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.world.settings import ActionMode


def test_each_place_gives_its_first_whole_life() -> None:
    env = SwipeVectorEnv(5, preset=rapid())
    for k, episode in enumerate(rollout(env, chooser("myopic", 0), 20)):
        assert episode.seed == 20 + k
        ends = episode.terminations | episode.truncations
        assert np.flatnonzero(ends).tolist() == [len(episode) - 1]
        alone = SwipeEnv(preset=rapid())
        observation, _ = alone.reset(seed=episode.seed)
        for t, action in enumerate(episode.actions):
            assert isinstance(episode.observations, dict)
            assert isinstance(observation, dict)
            for name, values in episode.observations.items():
                np.testing.assert_array_equal(values[t], observation[name])
            observation, reward, _, _, info = alone.step(action)
            assert reward == episode.rewards[t]
            assert info["gap_days"] == episode.infos["gap_days"][t]
        assert len(episode.actions) == len(episode.rewards)


def test_observations_without_names_are_kept_as_one_array() -> None:
    env = SwipeVectorEnv(2, preset=rapid(), obs="flat")

    def first(observation: Any) -> Any:
        return np.zeros(len(observation), dtype=np.int64)

    episode = rollout(env, first, 0)[0]
    assert isinstance(episode.observations, np.ndarray)
    assert episode.observations.shape == (
        len(episode) + 1,
        *env.single_observation_space.shape,  # type: ignore[misc]
    )


def test_another_way_of_resetting_is_refused() -> None:
    env = SyncVectorEnv(
        [lambda: SwipeEnv(preset=rapid())], autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED
    )
    with pytest.raises(ValueError, match=r"resets at the next step, got AutoresetMode\.DISABLED"):
        rollout(env, chooser("uniform", 0), 0)


def nothing(n: int) -> None:
    pass


def exported(
    folder: Path,
    actions: str = "next",
    *,
    n: int = 18,
    advance: Callable[[int], None] = nothing,
) -> Any:
    (folder / "rapid.json").write_bytes(rapid().to_json())
    options = {"preset": str(folder / "rapid.json"), "actions": actions}
    n_cards = 6 if actions == "page" else 1
    return export_minari(
        "nextswipe/Swipe-v0",
        options,
        lambda first: chooser("uniform", first, n_cards),
        folder,
        f"nextswipe/rapid-{actions}-v0",
        n_episodes=n,
        seed=3,
        policy="uniform",
        advance=advance,
    )


def lives(folder: Path, actions: ActionMode, n: int, seed: int) -> list[Episode]:
    env = SwipeVectorEnv(n, preset=str(folder / "rapid.json"), actions=actions)
    return rollout(env, chooser("uniform", seed, 6 if actions == "page" else 1), seed)


@pytest.mark.parametrize("actions", ["next", "page"])
def test_a_dataset_reads_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actions: ActionMode
) -> None:
    minari = pytest.importorskip("minari", reason="the extra `world` is not installed")
    exported(tmp_path, actions)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset(f"nextswipe/rapid-{actions}-v0")
    # Two batches of episodes, since 16 are played at a time.
    expected = [*lives(tmp_path, actions, 16, 3), *lives(tmp_path, actions, 2, 19)]
    assert dataset.total_episodes == 18
    assert dataset.total_steps == sum(len(episode) for episode in expected)
    metadata = dataset.storage.get_episode_metadata(range(18))
    assert [told["seed"] for told in metadata] == list(range(3, 21))
    for read, episode in zip(dataset.iterate_episodes(), expected, strict=True):
        np.testing.assert_array_equal(read.actions, episode.actions)
        np.testing.assert_array_equal(read.rewards, episode.rewards)
        np.testing.assert_array_equal(read.terminations, episode.terminations)
        np.testing.assert_array_equal(read.truncations, episode.truncations)
        assert isinstance(episode.observations, dict)
        for name, values in episode.observations.items():
            assert read.observations[name].dtype == values.dtype
            np.testing.assert_array_equal(read.observations[name], values)
        for name, values in episode.infos.items():
            np.testing.assert_array_equal(read.infos[name][1:], values)


def test_a_dataset_knows_its_environment(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    dataset = exported(tmp_path, n=2)
    env = dataset.recover_environment()
    own: Any = env.unwrapped
    assert dataset.action_space == own.action_space
    assert dataset.observation_space == own.observation_space
    episode = next(dataset.iterate_episodes())
    env.reset(seed=3)
    assert [env.step(action)[1] for action in episode.actions] == episode.rewards.tolist()


def test_an_export_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    register_envs()
    exported(tmp_path, n=1)
    assert gymnasium.spec("nextswipe/Swipe-v0").kwargs == {}


def test_a_dataset_is_written_below_a_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    assert exported(Path("mine"), n=2).total_episodes == 2
    assert (tmp_path / "mine" / "nextswipe" / "rapid-next-v0" / "data" / "1").is_dir()


def test_a_dataset_that_is_not_finished_is_removed(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")

    def stop(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exported(tmp_path, n=17, advance=stop)
    assert not (tmp_path / "nextswipe" / "rapid-next-v0").exists()
    assert exported(tmp_path, n=1).total_episodes == 1


def test_a_dataset_is_not_written_over(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    from minari import MinariDataset

    exported(tmp_path, n=1)
    with pytest.raises(ValueError, match="there is such a dataset; remove it first"):
        exported(tmp_path, n=2)
    data = tmp_path / "nextswipe" / "rapid-next-v0" / "data"
    assert MinariDataset(data).total_episodes == 1
