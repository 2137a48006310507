"""MIPS: exact where the reward goes through the cluster, calmer, and biased where it does not."""

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.columns import Columns
from replay.estimators.decisions import ips
from replay.estimators.mips import ClusterProbabilities, marginalise, mips, snmips

K = 12
CLUSTER = np.repeat(np.arange(3), 4)
LOGGING = np.concatenate([np.array([0.2, 0.1, 0.05, 0.05]), np.full(4, 0.1), np.full(4, 0.05)])
TARGET = np.concatenate([np.full(4, 0.025), np.array([0.02, 0.02, 0.03, 0.03]), np.full(4, 0.2)])


def enumerated(rewards: Floats) -> tuple[Columns, ClusterProbabilities]:
    """Every action as often as the log draws it, in twentieths."""
    action = np.repeat(np.arange(K), np.round(LOGGING * 20).astype(int))
    n = len(action)
    columns = Columns(np.arange(n), rewards[action], LOGGING[action], TARGET[action])
    logging, target = np.broadcast_to(LOGGING, (n, K)), np.broadcast_to(TARGET, (n, K))
    return columns, marginalise(action, CLUSTER, logging, target)


def test_it_is_exact_where_the_reward_goes_through_the_cluster() -> None:
    rewards = np.array([1.0, 2.0, 5.0])[CLUSTER]
    columns, marginal = enumerated(rewards)
    assert mips(columns, marginal).value == pytest.approx(TARGET @ rewards)
    assert snmips(columns, marginal).value == pytest.approx(TARGET @ rewards)
    assert mips(columns, marginal).ess > ips(columns).ess
    assert mips(columns, marginal).se < ips(columns).se


def test_within_a_cluster_it_is_off_by_how_differently_the_policies_choose() -> None:
    rewards = np.arange(float(K))
    columns, marginal = enumerated(rewards)
    assert ips(columns).value == pytest.approx(TARGET @ rewards)
    expected = sum(
        TARGET[c == CLUSTER].sum()
        * (LOGGING[c == CLUSTER] @ rewards[c == CLUSTER])
        / LOGGING[c == CLUSTER].sum()
        for c in range(3)
    )
    assert mips(columns, marginal).value == pytest.approx(expected)
    assert abs(expected - TARGET @ rewards) > 0.05


def test_clusters_may_differ_from_decision_to_decision() -> None:
    cluster = np.array([[0, 0, 1], [0, 1, 1]])
    pmf = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    marginal = marginalise(np.array([1, 1]), cluster, pmf, pmf[:, ::-1])
    assert marginal.propensity == pytest.approx([0.8, 0.5])
    assert marginal.target == pytest.approx([0.5, 0.8])


def test_actions_that_the_log_never_shows_do_no_harm() -> None:
    target = np.where(np.arange(K) == 3, 0.5, 0.5 / (K - 1))
    logging = np.where(np.arange(K) == 3, 0.0, 1.0 / (K - 1))
    rewards = np.array([1.0, 2.0, 5.0])[CLUSTER]
    action = np.delete(np.arange(K), 3)
    columns = Columns(np.arange(K - 1), rewards[action], logging[action], target[action])
    pmfs = (np.broadcast_to(pmf, (K - 1, K)) for pmf in (logging, target))
    assert mips(columns, marginalise(action, CLUSTER, *pmfs)).value == pytest.approx(
        target @ rewards
    )
    assert ips(columns).value != pytest.approx(target @ rewards, rel=0.1)


@pytest.mark.parametrize(
    ("propensity", "target", "message"),
    [
        ([0.0, 0.5], [0.5, 0.5], r"propensity must be in \(0, 1\], got 0.0"),
        ([0.5, 1.5], [0.5, 0.5], r"propensity must be in"),
        ([0.5, 0.5], [-0.5, 0.5], r"target probability must be in \[0, 1\]"),
        ([0.5], [0.5, 0.5], r"columns of one length"),
    ],
)
def test_marginals_are_probabilities(
    propensity: list[float], target: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterProbabilities(np.array(propensity), np.array(target))


def test_it_refuses_a_target_of_clusters_that_were_never_logged() -> None:
    columns, _ = enumerated(np.ones(K))
    nowhere = ClusterProbabilities(np.full(len(columns), 0.5), np.zeros(len(columns)))
    with pytest.raises(ValueError, match="snmips needs"):
        snmips(columns, nowhere)
