"""MiniSwipe's reference policies, and the score that grades learners against them."""

import msgspec
import numpy as np

from env.twin.model import ACTIONS, N_ACTIONS, N_STATES, START, MiniConstants, MiniModel
from env.twin.solve import (
    OBJECTIVES,
    DynamicProgramme,
    Habits,
    MiniObjective,
    expect_habits,
    greedy,
)
from env.vocabulary import Floats

CONSTANT = ACTIONS
"""Names of the policies that always take one action."""

SAME = 1e-9
"""Share of a value up to which two policies are the same."""


def reference_policies(programme: DynamicProgramme) -> dict[str, Floats]:
    """Return the reference policies by name, each a pmf of shape (336, 4).

    "myopic" maximises watch time now, "session optimal" until the session ends; neither depends on
    the objective.
    """
    policies = {
        "optimal for watch": programme.optimal("watch"),
        "optimal for days": programme.optimal("days"),
        "random": np.full((N_STATES, N_ACTIONS), 1.0 / N_ACTIONS),
        "myopic": myopic(programme),
        "session optimal": programme.session_optimal(),
    }
    for action, name in enumerate(CONSTANT):
        policies[name] = greedy(np.full(N_STATES, action))
    return policies


def myopic(programme: DynamicProgramme) -> Floats:
    """Return the policy of the most watch time now, a pmf of shape (336, 4)."""
    return greedy(programme.model.watch_s.argmax(axis=1))


def normalised_score(
    programme: DynamicProgramme, policy: Floats, objective: MiniObjective
) -> float:
    """Return (V - V_myopic) / (V* - V_myopic) at the start: 0 is myopic, 1 the optimum.

    It may be negative. The plain share of V* flatters: a random policy has .95 of it on "days".
    `policy` is a pmf over the actions of each state, shape (336, 4).
    """
    low = programme.value(myopic(programme), objective)
    high = programme.value(programme.optimal(objective), objective)
    return (programme.value(policy, objective) - low) / (high - low)


def shares_of_optimum(programme: DynamicProgramme) -> dict[str, dict[MiniObjective, float]]:
    """Return the values of the reference policies as shares of the optimum's."""
    policies = reference_policies(programme)
    values = {name: programme.evaluate(policy) for name, policy in policies.items()}
    best = {
        objective: values[f"optimal for {objective}"][objective][START] for objective in OBJECTIVES
    }
    return {
        name: {
            objective: float(value[objective][START] / best[objective]) for objective in OBJECTIVES
        }
        for name, value in values.items()
    }


N_DAYS = 60


class Graded(msgspec.Struct, frozen=True):
    """Exact grades of one policy.

    Attributes:
        share: of the optimum's value at the start of a life, by objective.
        score: 0 is the myopic policy, 1 the optimum; by objective.
        habits: of users over `N_DAYS` days.
    """

    policy: str
    share: dict[MiniObjective, float]
    score: dict[MiniObjective, float]
    habits: Habits


class Grades(msgspec.Struct, frozen=True):
    """Grades of all reference policies."""

    optimum: dict[MiniObjective, float]  # at the start of a life: seconds or returns
    days: int  # horizon of the habits
    policies: list[Graded]


def grade_policies() -> Grades:
    """Return the grades of the reference policies under the frozen constants."""
    programme = DynamicProgramme.of(MiniModel.of(MiniConstants()))
    policies, shares = reference_policies(programme), shares_of_optimum(programme)
    return Grades(
        optimum={
            objective: programme.value(policies[f"optimal for {objective}"], objective)
            for objective in OBJECTIVES
        },
        days=N_DAYS,
        policies=[
            Graded(
                policy=name,
                share=shares[name],
                score={
                    objective: normalised_score(programme, policy, objective)
                    for objective in OBJECTIVES
                },
                habits=expect_habits(programme, policy, N_DAYS),
            )
            for name, policy in policies.items()
        ],
    )
