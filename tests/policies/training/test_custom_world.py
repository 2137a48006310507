"""Worlds of one's own: which are taken, how they are seen, and a training in one."""

from pathlib import Path

import custom_worlds
import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

import msgspec

from env.vocabulary import Ints
from policies.ranker.ranker import Ranker
from policies.training.custom_world import CustomVectorEnv, arguments_of, name_world
from policies.training.settings import CustomWorld, RetentionArgs
from serve.errors import JobError
from serve.jobs.train_ppo import train_retention

HERE = str(Path(custom_worlds.__file__).parent)


def make(function: str, n: int = 3) -> CustomVectorEnv:
    world = name_world(f"custom_worlds:{function}", HERE)
    return CustomVectorEnv(n, **arguments_of(world))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "has no nothing"),
        ("fails", "making 3 users raised KeyError: 'catalogue.csv'"),
        ("one_alone", r"expected a gymnasium.vector.VectorEnv, got OneUser"),
        ("too_few", "expected 3 users, got 2"),
        ("flat", r"expected a Dict of user \(U,\), item \(K, F\)"),
        ("too_many_actions", r"expected actions Discrete\(5\), got Discrete\(6\)"),
        ("resets_at_once", "expected metadata autoreset_mode NEXT_STEP"),
    ],
)
def test_a_world_of_another_form_is_refused(function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(function)


def test_an_observation_is_a_row_of_user_items_and_personal() -> None:
    world = make("one_by_one")
    row, _ = world.reset(seed=0)
    assert world.observation_space.contains(row)
    user, (items, personal) = world.layout.cut(row)
    assert user.shape == (3, 2)
    assert np.array_equal(items[0], np.arange(10, dtype=np.float32).reshape(5, 2) / 10.0)
    assert (personal == 7.0).all()


def test_what_a_world_does_not_say_of_sessions_is_an_episode() -> None:
    world = make("one_by_one", n=2)
    world.reset(seed=0)
    told = [world.step(np.zeros(2, dtype=np.int64))[4] for _ in range(4)]
    assert [info["session_end"].tolist() for info in told] == [[False] * 2] * 2 + [
        [True] * 2,
        [False] * 2,
    ]
    assert [info["discount"].tolist() for info in told] == [[1.0] * 2] * 2 + [[0.0] * 2, [1.0] * 2]


def test_a_masked_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a mask of ones, got a masked candidate"):
        make("masked").reset(seed=0)


def test_a_changed_world_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "world_that_changes.py"
    file.write_text("from custom_worlds import tastes\n")
    world = name_world("world_that_changes:tastes", str(tmp_path))
    file.write_text("from custom_worlds import tastes as tastes\n")
    with pytest.raises(ValueError, match="expected the code that the training began with"):
        CustomVectorEnv(2, **arguments_of(world))


def test_limits_are_refused() -> None:
    world = CustomWorld("m:f", "0")
    limits = msgspec.convert({"most_hate": 0.1}, type(RetentionArgs().limits))
    with pytest.raises(ValueError, match="no limits in a world of one's own"):
        RetentionArgs.of_feed(world, limits=limits)


def liked_a_card(ranker: Ranker, n: int) -> float:
    """Return what users like a card, who are shown the best by a ranker."""
    world = custom_worlds.Tastes(n)
    seen, _ = world.reset(seed=9)
    total = 0.0
    for _ in range(20):
        actions: Ints = ranker.batch_scores(seen["user"], seen["item"]).argmax(axis=1)
        seen, liked, *_ = world.step(actions)
        total += float(liked.mean())
    return total / 20.0


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.slow
def test_a_ranker_learns_the_world_and_is_written(tmp_path: Path) -> None:
    world = name_world("custom_worlds:tastes", HERE)
    args = msgspec.structs.replace(
        RetentionArgs.of_feed(world, seed=1, n_steps=65_536), n_envs=256, n_cards=32, minibatch=1024
    )
    outcome = train_retention(args, tmp_path / "training")
    ranker = Ranker.from_file(Path(outcome.ranker))
    assert outcome.n_steps == 65_536
    assert liked_a_card(ranker, 400) > 0.8  # at random 0, at best 1.4
    changed = msgspec.structs.replace(args, world=msgspec.structs.replace(world, code="0" * 32))
    with pytest.raises(JobError, match="the code that the training began with"):
        train_retention(changed, tmp_path / "training", resume=True)
