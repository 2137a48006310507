"""Exact values of MiniSwipe's reference policies and the behaviour of users under them."""

import msgspec

from env.miniswipe_calendar import Habits, expect_habits
from env.miniswipe_model import MiniConstants, MiniModel
from env.miniswipe_policies import normalised_score, reference_policies, shares_of_optimum
from env.miniswipe_programme import OBJECTIVES, Objective, Programme

N_DAYS = 60


class Graded(msgspec.Struct, frozen=True):
    """Exact grades of one policy.

    Attributes:
        share: of the optimum's value at the start of a life, by objective.
        score: 0 is the myopic policy, 1 the optimum; by objective.
        habits: of users over `N_DAYS` days.
    """

    policy: str
    share: dict[Objective, float]
    score: dict[Objective, float]
    habits: Habits


class Grades(msgspec.Struct, frozen=True):
    """Grades of all reference policies."""

    optimum: dict[Objective, float]  # at the start of a life: seconds or returns
    days: int  # horizon of the habits
    policies: list[Graded]


def grade_policies() -> Grades:
    """Return the grades of the reference policies under the frozen constants."""
    programme = Programme.of(MiniModel.of(MiniConstants()))
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
