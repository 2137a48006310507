"""The value of whole pages and of whole sessions under a target, each with gates of its own.

A page or a session is an episode: its seen cards, in order. A target's earlier choices change the
cards and users that are left, so each step weighs the product of the weights up to it (doubly
robust for sequences; for pages, the cascade estimator). The value of a card takes the logged cards
before it as given, which flatters a target that would have taken the best ones already. Bias and
rejected alternatives: `docs/decisions/whole-pages.md`.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.intervals import (
    LEVEL,
    Estimate,
    clustered_se,
    count_users,
    effective_sample_size,
)
from replay.estimators.trajectories import StepValues, Trajectories, dr_rl, logged_return
from replay.evaluate.gates import GateFailure

Unit = Literal["page", "session"]


class WholeGates(msgspec.Struct, frozen=True):
    """The limits for pages and sessions, fixed as those of `replay.evaluate.gates` are."""

    min_users: int = 20  # users
    min_ess: float = 200.0  # effective pages or sessions
    max_weight_share: float = 0.05  # of all weight on one page or session
    max_weight_error: float = 0.1  # of the mean weight from 1, or three standard errors


class WholeValue(msgspec.Struct, frozen=True, kw_only=True):
    """The expected reward of a whole page or session of a target.

    `value`, `low` and `high` are None if a gate failed and the estimate was not forced.
    """

    unit: Unit
    estimator: str
    value: float | None  # sum of the rewards
    low: float | None
    high: float | None
    se: float | None
    logged: Estimate  # of the log's own pages or sessions
    n: int  # pages or sessions
    n_users: int
    n_cards: float  # seen, on average
    ess: float  # effective pages or sessions
    mean_weight: float  # 1 in expectation
    mean_weight_se: float
    max_weight_share: float
    refusals: tuple[GateFailure, ...] = ()
    forced: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether all gates passed, so that the value may be read."""
        return self.value is not None and not self.refusals


def whole_value(
    unit: Unit,
    columns: Columns,
    predictions: RewardPredictions,
    whole: Ints,
    order: tuple[Ints, ...],
    *,
    of_log: tuple[GateFailure, ...] = (),
    gates: WholeGates | None = None,
    level: float = LEVEL,
    force: bool = False,
) -> WholeValue:
    """Return the value of whole pages or sessions, or the gates that failed.

    Args:
        unit: of what.
        columns: the decisions, in any order.
        predictions: cross-fitted rewards of the cards.
        whole: code of each decision's page or session, shape (n,).
        order: keys of the order within it, the most significant first, each of shape (n,).
        of_log: failed gates of the log as a whole.
        gates: the limits.
        level: of the interval.
        force: estimate even where a gate failed; the value is marked.
    """
    steps = _trajectories(columns, whole, order)
    rho = steps.trajectories.products(steps.trajectories.weights)
    last = steps.trajectories.first + steps.trajectories.lengths - 1
    weights, users = rho[last], steps.trajectories.user
    total = max(float(weights.sum()), float(np.finfo(float).tiny))
    mean = float(weights.mean())
    ess = effective_sample_size(weights) if weights.any() else 0.0
    health = _Weights(
        n_users=count_users(users),
        ess=ess,
        mean=mean,
        mean_se=clustered_se(weights - mean, users),
        max_share=float(weights.max()) / total,
    )
    refusals = (*_refusals(unit, gates or WholeGates(), health, len(weights)), *of_log)
    shown = ess > 0.0 and (force or not refusals)
    found = dr_rl(steps.trajectories, steps.values(predictions), level) if shown else None
    return WholeValue(
        unit=unit,
        estimator="cascade dr" if unit == "page" else "dr-rl",
        value=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        se=None if found is None else found.se,
        logged=logged_return(steps.trajectories, level),
        n=len(weights),
        n_users=health.n_users,
        n_cards=float(steps.trajectories.lengths.mean()),
        ess=health.ess,
        mean_weight=health.mean,
        mean_weight_se=health.mean_se,
        max_weight_share=health.max_share,
        refusals=refusals,
        forced=shown and bool(refusals),
    )


class _Weights(NamedTuple):
    """The weights of whole pages or sessions, each the product of its steps'."""

    n_users: int
    ess: float
    mean: float
    mean_se: float
    max_share: float


class _Steps(NamedTuple):
    """The decisions as steps of episodes, with their places among the decisions."""

    trajectories: Trajectories
    rows: Ints  # (n,)

    def values(self, predictions: RewardPredictions) -> StepValues:
        """Return the predicted rewards from each step on.

        What follows a step is taken for the mean of what followed in the log, by the number of the
        step. It does not depend on the card, so it cancels but for noise.
        """
        of = self.trajectories
        step = np.minimum(np.arange(len(of.reward)) - of.first[of.episode], LAST_STEP)
        follows = _sums_after(of) - of.reward
        mean = np.bincount(step, weights=follows) / np.maximum(np.bincount(step), 1)
        chosen = predictions.chosen[self.rows] + mean[step]
        before = predictions.direct[self.rows] + mean[step]
        return StepValues(chosen, before, np.append(before[1:], 0.0))


LAST_STEP = 30
"""Later steps of a session are taken together, since few sessions have them."""


def _sums_after(of: Trajectories) -> Floats:
    """Return the reward of each step and of all that follow it in its episode, shape (n,)."""
    upto = np.cumsum(of.reward)
    last = of.first + of.lengths - 1
    return np.asarray(upto[last][of.episode] - upto + of.reward)


def _trajectories(columns: Columns, whole: Ints, order: tuple[Ints, ...]) -> _Steps:
    rows = np.lexsort((*order[::-1], whole))
    begins: Bools = np.diff(whole[rows], prepend=-1) != 0
    is_last = np.append(begins[1:], True)
    return _Steps(
        Trajectories(
            user=columns.user[rows][begins],
            episode=np.cumsum(begins) - 1,
            reward=columns.reward[rows],
            propensity=columns.propensity[rows],
            target=columns.target[rows],
            discount=np.where(is_last, 0.0, 1.0),
        ),
        rows,
    )


def _refusals(unit: Unit, gates: WholeGates, weights: _Weights, n: int) -> Iterator[GateFailure]:
    if weights.n_users < gates.min_users:
        yield GateFailure(
            f"users of {unit}s",
            f"at least {gates.min_users}",
            f"{weights.n_users:,}",
            "take a log of more users: an interval counts them",
        )
    if weights.ess < gates.min_ess:
        yield GateFailure(
            f"effective {unit}s",
            f"at least {gates.min_ess:,.0f}",
            f"{weights.ess:,.0f} of {n:,}",
            f"a {unit} weighs the product of its cards' weights: give the target some traffic, or "
            "take a longer log",
        )
    if weights.max_share > gates.max_weight_share:
        yield GateFailure(
            f"largest weight of a {unit}",
            f"at most {gates.max_weight_share:.1%} of all weight",
            f"{weights.max_share:.1%}",
            "give the target some traffic, or take a longer log",
        )
    allowed = max(gates.max_weight_error, 3.0 * weights.mean_se)
    if not abs(weights.mean - 1.0) <= allowed:
        yield GateFailure(
            f"mean weight of {unit}s",
            f"within {allowed:.2f} of 1",
            f"{weights.mean:.2f}",
            f"the target's {unit}s are too far from the log's: give it some traffic",
        )
