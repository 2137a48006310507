"""Whether the right policy is picked from a log: many logs, known truth.

The question of off-policy evaluation is seldom "how much" and mostly "which". Each log is another
crowd of SwipeEnv under the same logging policy; every estimator scores the same twelve policies on
it, and the pick is the highest value. The truth is the exact expected reward of a decision under
each policy, over the contexts of all logs: closed form, without the noise of answers. It is what
the estimators estimate, a decision at a time; what a policy does to later contexts is no part of
it.

Measured as in Kiyohara et al., "Towards Assessing and Benchmarking Risk-Return Tradeoff of
Off-Policy Evaluation", ICLR 2024: how often the best is picked, regret@1, rank correlation.
Rejected: long runs under each policy as the truth, which would mix both questions.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from env.gym.choosers import mixed_scores, myopic_scores
from env.gym.vector import SwipeVectorEnv
from env.vocabulary import Floats
from policies.explorers import softmax
from replay.estimators.choice import DEFAULT, default
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import ESTIMATORS, Estimator
from replay.estimators.intervals import LEVEL
from replay.reward_models.ridge import FOLDS, RegressionMoments, RidgeModel
from tests.studies.evaluation.worlds import Pmf, SwipeLog, feature, known_of, play_log

FLOOR = 0.02
LOGGING_FLOOR = 0.2


def logging_pmf(observation: Mapping[str, Any]) -> Floats:
    """Return the logging policy's pmfs, shape (n, K): a mild taste, a fifth spread evenly."""
    return softmax(myopic_scores(observation), 0.15, LOGGING_FLOOR)


def uniform_pmf(observation: Mapping[str, Any]) -> Floats:
    """Return the same probability for each candidate, shape (n, K)."""
    shape = observation["mask"].shape
    return np.full(shape, 1.0 / shape[1])


def _by(name: str, temperature: float) -> Pmf:
    """Return a policy that goes by one thing that is known of candidates."""
    place, sign = feature(name.removeprefix("-")), -1.0 if name.startswith("-") else 1.0
    return lambda observation: softmax(
        sign * known_of(observation)[..., place].astype(np.float64), temperature, FLOOR
    )


def _myopic(temperature: float) -> Pmf:
    return lambda observation: softmax(myopic_scores(observation), temperature, FLOOR)


def _mixed(temperature: float) -> Pmf:
    return lambda observation: softmax(mixed_scores(observation), temperature, FLOOR)


TARGETS: Mapping[str, Pmf] = MappingProxyType(
    {
        "uniform": uniform_pmf,
        "fresh": _by("-log_age", 0.4),
        "varied": _by("-seen_topic", 0.3),
        "popular": _by("valid_play_log_odds", 0.2),
        "long views": _by("long_view_rate", 0.04),
        "match": _by("match", 0.2),
        "mixed .1": _mixed(0.1),
        "mixed .05": _mixed(0.05),
        "myopic .3": _myopic(0.3),
        "myopic .1": _myopic(0.1),
        "myopic .05": _myopic(0.05),
        "myopic .03": _myopic(0.03),
    }
)
"""Twelve policies, with the temperature of their softmax."""


Advance = Callable[[str, int, int], None]


class SelectionSize(msgspec.Struct, frozen=True):
    """How much is simulated; by default as little as gates let pass, 500 effective decisions.

    Attributes:
        logs: of different users.
        users: at a time in a log.
        turns: cards of each.
        candidates: K.
    """

    logs: int = 50
    users: int = 500
    turns: int = 20
    candidates: int = 20


class Selector(msgspec.Struct, frozen=True):
    """How well an estimator tells policies apart, over all logs.

    Attributes:
        estimator: its name.
        best_picked: share of logs in which the highest value is that of the best policy.
        regret_share: mean of what the picked policy earns less than the best one, as a share of
            the range from worst to best.
        spearman: mean rank correlation of values and truth.
        rmse: root of the mean squared error of a value.
        covered: share of intervals that hold the truth.
    """

    estimator: str
    best_picked: float
    regret_share: float
    spearman: float
    rmse: float
    covered: float


class SelectionResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        estimator: the default one, to which the next three belong, see `Selector`.
        truth: exact value of each policy, best first.
        least_ess: effective sample size of the policy least like the log, in the log where it is
            least.
        selectors: estimator by estimator.
    """

    size: SelectionSize
    preset: str
    seed: int
    estimator: str
    best_picked: float
    regret_share: float
    spearman: float
    truth: dict[str, float]
    least_ess: float
    selectors: list[Selector]


def run_selection(
    size: SelectionSize, *, preset: str, seed: int, advance: Advance
) -> SelectionResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of users, draws and items.
        advance: told of progress.
    """
    env = SwipeVectorEnv(
        size.users, preset=preset, n_candidates=size.candidates, world_seed=seed, copy=False
    )
    estimators = {f"default: {DEFAULT}": default, **ESTIMATORS}
    truths, tables, ess = [], [], []
    for k in range(size.logs):
        advance("logs", k, size.logs)
        # Another million of seeds a log: no user is in two of them.
        log = play_log(env, logging_pmf, TARGETS, size.turns, seed + 1_000_000 * (k + 1))
        truths.append(np.einsum("pik,ik->p", log.targets, log.expected) / len(log.user))
        table, least = _estimate_all(log, estimators)
        tables.append(table)
        ess.append(least)
    advance("logs", size.logs, size.logs)
    truth = np.mean(truths, axis=0)
    found = np.stack(tables)
    selectors = [_select(name, found[:, :, e], truth) for e, name in enumerate(estimators)]
    best_first = np.argsort(-truth)
    return SelectionResult(
        size=size,
        preset=preset,
        seed=seed,
        estimator=DEFAULT,
        best_picked=selectors[0].best_picked,
        regret_share=selectors[0].regret_share,
        spearman=selectors[0].spearman,
        truth={list(TARGETS)[p]: float(truth[p]) for p in best_first},
        least_ess=min(ess),
        selectors=selectors,
    )


def predict_rewards(log: SwipeLog) -> Floats:
    """Return the reward of each candidate as ridges say that saw nothing of its user, (n, K)."""
    rows, fold = np.arange(len(log.user)), log.user % FOLDS
    chosen = log.features[rows, log.action].astype(np.float64)
    parts = [
        RegressionMoments().add(chosen[fold == f], log.reward[fold == f]) for f in range(FOLDS)
    ]
    predicted = np.empty(log.expected.shape)
    for f in range(FOLDS):
        model = RidgeModel()
        model.fit_moments(
            sum((part for g, part in enumerate(parts) if g != f), RegressionMoments())
        )
        own = log.features[fold == f]
        flat = model.predict_features(np.zeros(0), own.reshape(-1, own.shape[-1]))
        predicted[fold == f] = flat.reshape(own.shape[:2])
    return predicted


def _estimate_all(log: SwipeLog, estimators: Mapping[str, Estimator]) -> tuple[Floats, float]:
    """Return value, low and high end, shape (n_policies, n_estimators, 3), and the least ESS.

    The estimators see what was logged, not what was expected.
    """
    rows, predicted = np.arange(len(log.user)), predict_rewards(log)
    table, sizes = [], []
    for pmf in log.targets:
        columns = Columns(log.user, log.reward, log.propensity, pmf[rows, log.action])
        direct = np.einsum("ik,ik->i", pmf, predicted)
        predictions = RewardPredictions(predicted[rows, log.action], direct)
        found = [estimator(columns, predictions, LEVEL) for estimator in estimators.values()]
        table.append([(e.value, e.low, e.high) for e in found])
        sizes.append(columns.ess)
    return np.array(table), min(sizes)


def _select(name: str, found: Floats, truth: Floats) -> Selector:
    """Return how well values tell policies apart.

    Args:
        name: of the estimator.
        found: value, low and high end, shape (n_logs, n_policies, 3).
        truth: shape (n_policies,).
    """
    values, low, high = np.moveaxis(found, -1, 0)
    picked = values.argmax(axis=1)
    spread = float(truth.max() - truth.min())
    return Selector(
        estimator=name,
        best_picked=float((picked == truth.argmax()).mean()),
        regret_share=float((truth.max() - truth[picked]).mean()) / spread,
        spearman=float(np.mean([spearman(row, truth) for row in values])),
        rmse=float(np.sqrt(((values - truth) ** 2).mean())),
        covered=float(((low <= truth) & (truth <= high)).mean()),
    )


def spearman(left: Floats, right: Floats) -> float:
    """Return the rank correlation of two columns without ties.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.9, 0.3]))
    0.5
    """
    ranks = np.argsort(np.argsort(np.stack([left, right]), axis=1), axis=1)
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
