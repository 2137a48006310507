"""RLlib's other algorithms in the twin, small: that they learn at all is what a baseline needs."""

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.miniswipe import observe
from env.miniswipe_model import N_ACTIONS, N_STATES, MiniConstants, MiniModel
from policies.retention.job import running_ray
from policies.retention.peers import PeerArgs, train_appo, train_dqn

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


def test_appo_watches_longer_than_a_policy_that_is_uniform() -> None:
    args = PeerArgs("watch", n_steps=40_000, n_envs=256, batch=8_192, seed=1)
    pmf = train_appo(args, STATES)
    assert np.allclose(pmf.sum(axis=1), 1.0)
    assert (pmf * WATCH_S).sum(axis=1).mean() > WATCH_S.mean()
