"""Counterfactual evaluation: what a policy would have earned on the decisions of a log.

One row is one decision. At slot j the target's probability is that of `env.interface.slot_pmf`
under the logged rule and floor, given the cards that were logged on the slots before; so the
value is per seen card, on the logged candidates and prefixes. It compares rankers, not
retrieval (candidates are as logged), and not what a policy does to later pages: compare those
by a traffic split.

Pages come one at a time, so memory is that of a few columns a decision. Rejected: the weight of
a whole prefix for each slot (product of all slots before it): exact for the value of whole
pages, with effectively no decisions left after a few slots.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from env.interface import Policy, page_pmfs
from env.vocabulary import Decision, Floats, Page
from replay.dataset import Dataset
from replay.estimators import Columns, Predictions, dm, dr, dr_gain, ips, logged, snips
from replay.health import Health, health_of
from replay.intervals import LEVEL, Estimate
from replay.reward_model import Predictor, cross_fit

Oracle = Callable[[Page, Decision], Floats]
"""The true expected reward of each candidate, shape (n,), for one decision of a page."""
Advance = Callable[[int], None]
"""Told how many decisions were done since it was last told."""


class Report(msgspec.Struct, frozen=True):
    """What a log says about a policy.

    Attributes:
        policy: the target, `name@version`.
        logged_policies: those that made the log.
        reward_version: of the reward that was joined with.
        logged: what the log's own policies earned.
        estimates: one an estimator, in the order ips, snips, dm, dr.
        gain: by how much the doubly robust one exceeds what was logged, paired.
        health: of the log, for this target.
        truth: the target's true value on the same decisions; None without an oracle.
    """

    policy: str
    logged_policies: tuple[str, ...]
    reward_version: int
    logged: Estimate
    estimates: tuple[Estimate, ...]
    gain: Estimate
    health: Health
    truth: float | None = None

    def estimate(self, estimator: str) -> Estimate:
        """Return the estimate of an estimator.

        Raises:
            KeyError: there is none of that name.
        """
        for estimate in self.estimates:
            if estimate.estimator == estimator:
                return estimate
        raise KeyError(f"expected one of {[e.estimator for e in self.estimates]}, got {estimator}")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A policy's side of a dataset, one row a row of it."""

    columns: Columns
    predictions: Predictions
    truth: Floats | None  # (n,) true value of the target's pmf


def evaluate(
    dataset: Dataset,
    policy: Policy,
    predictor: Predictor | None = None,
    *,
    oracle: Oracle | None = None,
    level: float = LEVEL,
    advance: Advance | None = None,
) -> Report:
    """Return what a log says about a policy.

    Args:
        dataset: decisions with exact propensities.
        policy: the target.
        predictor: of rewards, not fitted on what it scores; the default is a cross-fitted ridge
            regression. To compare policies, make one by `cross_fit` and pass it to each.
        oracle: in a world that knows the truth, what it is.
        level: of the intervals, in (0, 1).
        advance: told of progress.

    Raises:
        ValueError: no decision, decisions of one person only, a pmf of the policy that is not
            one, or a target that never agrees with the log.
    """
    if len(dataset) == 0:
        raise ValueError(
            f"an evaluation needs decisions, got none of {dataset.coverage.drawn} drawn "
            f"({dataset.coverage.seen} seen, {dataset.coverage.censored} of them censored)"
        )
    target = replay_policy(dataset, policy, predictor or cross_fit(dataset), oracle, advance)
    columns, predictions = target.columns, target.predictions
    return Report(
        policy=policy.name,
        logged_policies=tuple(sorted({dataset.pages[i].policy for i in np.unique(dataset.page)})),
        reward_version=dataset.reward_version,
        logged=logged(columns, level),
        estimates=(
            ips(columns, level),
            snips(columns, level),
            dm(columns, predictions, level),
            dr(columns, predictions, level),
        ),
        gain=dr_gain(columns, predictions, level),
        health=health_of(dataset, columns),
        truth=None if target.truth is None else float(target.truth.mean()),
    )


def replay_policy(
    dataset: Dataset,
    policy: Policy,
    predictor: Predictor,
    oracle: Oracle | None = None,
    advance: Advance | None = None,
) -> Target:
    """Return what a policy would have done at each decision, and what that is predicted to earn.

    Args:
        dataset: of n decisions.
        policy: the target.
        predictor: of rewards.
        oracle: of true rewards.
        advance: told of progress.

    Raises:
        ValueError: a pmf that is not one, or a reward of predictor or oracle that is not finite
            or of another shape.
    """
    target, chosen, direct, truth = np.full((4, len(dataset)), np.nan)
    for page, rows in dataset.by_page():
        predicted = _checked(predictor.predict(page.context), page, "predicted")
        row_of = dict(zip(dataset.slot[rows].tolist(), rows.tolist(), strict=True))
        for decision, pmf in page_pmfs(page, policy):
            row = row_of.get(decision.slot)
            if row is None:
                continue
            target[row] = pmf[decision.action]
            chosen[row] = predicted[decision.action]
            direct[row] = pmf @ predicted
            if oracle is not None:
                truth[row] = pmf @ _checked(oracle(page, decision), page, "true")
        if advance is not None:
            advance(len(rows))
    return Target(
        columns=Columns(dataset.user, dataset.reward, dataset.propensity, target),
        predictions=Predictions(chosen, direct),
        truth=None if oracle is None else truth,
    )


def _checked(rewards: Floats, page: Page, kind: str) -> Floats:
    n = len(page.context)
    if rewards.shape != (n,) or not np.isfinite(rewards).all():
        raise ValueError(
            f"expected {n} finite {kind} rewards for page {page.context.page_id}, got {rewards!r}"
        )
    return rewards
