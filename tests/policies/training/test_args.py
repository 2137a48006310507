"""What a training may be made from, and how its world is opened."""

import msgspec
import numpy as np
import pytest

from env.gym.vector import SwipeVectorEnv
from env.world.objective import Objective
from policies.training.settings import FeedWorld, RetentionArgs, TwinWorld
from policies.training.worlds import open_world


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "expected n_steps of at least 1, got 0"),
        ({"entropy": -0.1}, "expected entropy of at least 0, got -0.1"),
        ({"lr": 0.0}, "expected lr above 0, got 0.0"),
        ({"clip": float("nan")}, "expected clip above 0, got nan"),
        ({"lambda_": 1.5}, r"expected lambda_ in \[0, 1\], got 1.5"),
        ({"world": FeedWorld()}, 'expected critic="network" outside of the twin'),
    ],
)
def test_what_cannot_be_trained_with_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetentionArgs(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(RetentionArgs(), **changes)


@pytest.mark.parametrize(
    ("world", "worth"),
    [
        (TwinWorld("watch"), 0.0),
        (TwinWorld("days"), 1.0),
        (FeedWorld(objective=Objective("watch")), 0.0),
        (FeedWorld(objective=Objective("retention")), 1.0),
        (FeedWorld(objective=Objective("mix", beta=7.0)), 7.0),
    ],
)
def test_the_worth_of_a_return_is_the_objectives(
    world: TwinWorld | FeedWorld, worth: float
) -> None:
    args = RetentionArgs.of_feed(world) if isinstance(world, FeedWorld) else RetentionArgs(world)
    assert args.return_worth == worth


def test_arguments_survive_being_written_down() -> None:
    for args in (RetentionArgs(), RetentionArgs.of_feed(FeedWorld(objective=Objective("mix")))):
        assert msgspec.json.decode(msgspec.json.encode(args), type=RetentionArgs) == args


def test_plain_ppo_has_its_own_critic_and_the_gaps_that_came() -> None:
    plain = RetentionArgs(TwinWorld("days"), seed=5).plain()
    assert (plain.critic, plain.expected_return, plain.lambda_) == ("network", False, 0.99)
    assert (plain.world, plain.seed) == (TwinWorld("days"), 5)


def test_the_layout_of_the_full_world_is_that_of_its_flat_observation() -> None:
    world = open_world(FeedWorld(n_candidates=5, horizon_days=3))
    users = SwipeVectorEnv(2, **world.arguments)
    observation, _ = users.reset(seed=0)
    assert isinstance(observation, np.ndarray)
    assert observation.shape == (2, world.layout.n_flat)
    assert world.user_scaling is not None
    assert len(world.user_scaling.shift) == world.layout.n_user
    again = open_world(FeedWorld(n_candidates=5, horizon_days=3))
    assert again.user_scaling == world.user_scaling
