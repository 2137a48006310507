"""RLlib's other algorithms in the twin, small: that they learn at all is what a baseline needs."""

from collections.abc import Callable, Iterator
from math import erf

import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.twin.env import observe
from env.twin.model import N_ACTIONS, N_STATES, MiniConstants, MiniModel
from env.vocabulary import Float32s, Floats
from policies.training.ppo.job import running_ray
from tests.studies.peers.rllib import PeerArgs, train_appo, train_dqn, train_impala, train_weights
from tests.studies.peers.weighing import Gaussians, chances, ranked_first

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
STATES = observe("flat", np.arange(N_STATES))
WATCH_S = MiniModel.of(MiniConstants()).watch_s


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    with running_ray():
        yield


def test_dqn_learns_that_cards_are_worth_something() -> None:
    args = PeerArgs("watch", n_steps=3_000, seed=1)
    values = train_dqn(args, STATES)
    assert values.shape == (N_STATES, N_ACTIONS)
    # They begin at about 0; a card, and no more than it, is worth .85 of a unit on average.
    assert values.mean() > 0.8


@pytest.mark.parametrize("train", [train_appo, train_impala])
def test_actors_and_critics_watch_longer_than_a_policy_that_is_uniform(
    train: Callable[[PeerArgs, Float32s], Floats],
) -> None:
    args = PeerArgs("watch", n_steps=40_000, n_envs=256, batch=8_192, seed=1)
    pmf = train(args, STATES)
    assert np.allclose(pmf.sum(axis=1), 1.0)
    assert (pmf * WATCH_S).sum(axis=1).mean() > WATCH_S.mean()


def test_weights_of_ranking_are_learned_as_actions() -> None:
    args = PeerArgs("watch", n_steps=40_960, n_envs=256, batch=8_192, seed=1)
    weights = train_weights(args, STATES)
    pmf = chances(weights, STATES, 500, seed=1)
    assert np.allclose(pmf.sum(axis=1), 1.0)
    assert (pmf * WATCH_S).sum(axis=1).mean() > WATCH_S.mean()


def test_the_chance_of_a_card_is_that_its_weights_come_first() -> None:
    # Only the first two cards' constants are drawn: Gaussians of means a and b, below the limit.
    mean, sd = np.full((1, 16), -1.0), np.full((1, 16), 1e-9)
    mean[0, [0, 4]], sd[0, [0, 4]] = (0.1, 0.0), 0.1
    rested = STATES[:1] * 0.0
    n_draws, expected = 20_000, 0.5 * (1.0 + erf(0.1 / np.hypot(0.1, 0.1) / np.sqrt(2.0)))
    found = chances(Gaussians(mean, sd), rested, n_draws, seed=2)[0]
    error = np.sqrt(expected * (1.0 - expected) / n_draws)
    assert abs(found[0] - expected) < 4.0 * error
    assert found[2:].tolist() == [0.0, 0.0]
    assert ranked_first(mean, rested).tolist() == [0]
    # Beyond the limit all weights are alike, and the first of them wins.
    assert ranked_first(mean * 0.0 + np.arange(16) + 2.0, rested).tolist() == [0]
