"""Returns of lives under a ranker, against the twin's exact programme."""

import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.twin.env import observe
from env.twin.model import N_STATES, MiniConstants, MiniModel
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective
from policies.explorers import softmax
from policies.training.export import export, make_module
from policies.training.lived import life_returns
from policies.training.module import ModuleConfig
from policies.training.settings import TwinWorld
from policies.training.worlds import open_world

N_PEOPLE = 200
HORIZON_DAYS = 200
"""What comes later is worth .97^200 = .002 of the whole at most."""


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_mean_return_of_lives_is_the_value_of_the_policy(objective: MiniObjective) -> None:
    world = open_world(TwinWorld(objective, horizon_days=HORIZON_DAYS))
    ranker = export(make_module(ModuleConfig.of(world.layout), seed=1))
    users, rows, _ = world.layout.arrays(observe("flat", np.arange(N_STATES)))
    policy = softmax(ranker.batch_scores(users, rows))
    value = DynamicProgramme.of(MiniModel.of(MiniConstants())).value(policy, objective)
    returns = life_returns(ranker, world, N_PEOPLE, seed=4)
    error = returns.std(ddof=1) / np.sqrt(N_PEOPLE)
    assert abs(returns.mean() - value) < 4.0 * error + 0.97**HORIZON_DAYS * value


def test_the_same_seed_lives_the_same_lives() -> None:
    world = open_world(TwinWorld(horizon_days=5))
    ranker = export(make_module(ModuleConfig.of(world.layout), seed=1))
    first, second = (life_returns(ranker, world, 8, seed=9) for _ in range(2))
    assert first.tolist() == second.tolist()
