"""What MiniSwipe's reference policies are worth, and what they make of people: one row each."""

import msgspec

from env.miniswipe_calendar import Habits, expect_habits
from env.miniswipe_model import MiniConstants, MiniModel
from env.miniswipe_policies import normalised_score, reference_policies, shares_of_optimum
from env.miniswipe_programme import OBJECTIVES, Objective, Programme

N_DAYS = 60


class Graded(msgspec.Struct, frozen=True):
    """A policy, exactly.

    Attributes:
        policy: its name.
        share: of the optimum's value at the start of a life, by objective.
        score: 0 is the myopic policy, 1 the optimum; by objective.
        habits: of people over `N_DAYS` days.
    """

    policy: str
    share: dict[Objective, float]
    score: dict[Objective, float]
    habits: Habits


class Grades(msgspec.Struct, frozen=True):
    """All of them.

    Attributes:
        optimum: value at the start of a life: seconds for "watch", returns for "days".
        days: for which habits count.
    """

    optimum: dict[Objective, float]
    days: int
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
