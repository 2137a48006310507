"""Is MiniSwipe the test that it is meant to be? Checks with plain results.

- `check_separation`: what is watched now and what brings people back are at odds, and only there
  where the slow state and satiation are.
- `compare_with_rollouts`: the environment and the dynamic programme are one model.
- `repeats`, `one_equals_many`: same seed, same bits.

That the order of the policies does not hang on one constant is in `env.miniswipe_changes`.
"""

import msgspec
import numpy as np

from env.miniswipe import MiniSwipeEnv
from env.miniswipe_model import MiniConstants, MiniModel
from env.miniswipe_policies import (
    CONSTANT,
    SAME,
    reference_policies,
    shares_of_optimum,
)
from env.miniswipe_programme import OBJECTIVES, Objective, Programme
from env.miniswipe_rollout import roll_out
from env.miniswipe_vector import MiniSwipeVectorEnv
from env.vocabulary import Floats

MYOPIC_AT_MOST = 0.85
CONTROL_WITHIN = 0.005
STANDARD_ERRORS = 3.0
ROLLED_OUT = ("optimal for watch", "optimal for days", "random", "myopic", "nourish diverse")
"""Five that differ; "session optimal" is "myopic" state by state."""
UNENDING_DAYS = 400
"""Horizon beyond which the discount leaves 5 millionths of a value."""


class Separation(msgspec.Struct, frozen=True):
    """Values as shares of the optimum, at the start of a life, by objective.

    Attributes:
        myopic: of the policy of the most watch time now.
        session_optimal: of the policy of the most watch time in the session.
        best_constant: of the best policy that always takes one action.
        control: of the myopic policy on "watch", where satisfaction and satiation never change.
    """

    myopic: dict[Objective, float]
    session_optimal: dict[Objective, float]
    best_constant: dict[Objective, float]
    control: float

    @property
    def passed(self) -> bool:
        """Whether the myopic lose, nobody else wins, and the myopic win where nothing is slow."""
        return (
            max(self.myopic.values()) <= MYOPIC_AT_MOST
            and max(self.session_optimal.values()) < 1.0 - SAME
            and max(self.best_constant.values()) < 1.0 - SAME
            and self.control >= 1.0 - CONTROL_WITHIN
        )


class Comparison(msgspec.Struct, frozen=True):
    """A policy's value by Monte Carlo and by the dynamic programme.

    Attributes:
        policy: its name.
        objective: what is counted.
        mean: over people.
        standard_error: of it, across people.
        exact: by the dynamic programme.
    """

    policy: str
    objective: Objective
    mean: float
    standard_error: float
    exact: float

    @property
    def z(self) -> float:
        """How many standard errors the mean is above the exact value."""
        return (self.mean - self.exact) / self.standard_error

    @property
    def passed(self) -> bool:
        """Whether they are within three standard errors of each other."""
        return abs(self.z) <= STANDARD_ERRORS


def check_separation(constants: MiniConstants | None = None) -> Separation:
    """Return how far the reference policies are from the optimum."""
    frozen = MiniConstants() if constants is None else constants
    shares = shares_of_optimum(Programme.of(MiniModel.of(frozen)))
    still = msgspec.structs.replace(
        frozen, rise=0.0, fall=0.0, bored=0.0, watch_satiation=0.0, exit_satiation=0.0
    )
    return Separation(
        myopic=shares["myopic"],
        session_optimal=shares["session optimal"],
        best_constant={
            objective: max(shares[name][objective] for name in CONSTANT) for objective in OBJECTIVES
        },
        control=shares_of_optimum(Programme.of(MiniModel.of(still)))["myopic"]["watch"],
    )


def compare_with_rollouts(
    n_people: int = 1_000, seed: int = 0, names: tuple[str, ...] = ROLLED_OUT
) -> list[Comparison]:
    """Return the values of policies by Monte Carlo through the environment, and exactly.

    Lives go on for 400 days, so that the programme's values without end are met; each policy has
    people of its own.

    Args:
        n_people: a policy.
        seed: of the first policy's people.
        names: of reference policies.
    """
    programme = Programme.of(MiniModel.of(MiniConstants()))
    policies = reference_policies(programme)
    rows = []
    for number, name in enumerate(names):
        rollout = roll_out(policies[name], n_people, UNENDING_DAYS, seed + number * n_people)
        measured: dict[Objective, Floats] = {"watch": rollout.watch, "days": rollout.days}
        for objective, each in measured.items():
            error = float(each.std(ddof=1) / np.sqrt(n_people))
            exact = programme.value(policies[name], objective)
            rows.append(Comparison(name, objective, float(each.mean()), error, exact))
    return rows


def repeats(seed: int = 0, n_people: int = 200, n_days: int = 60) -> bool:
    """Return whether two runs of one seed are equal to the last bit."""
    policy = reference_policies(Programme.of(MiniModel.of(MiniConstants())))["random"]
    one, two = (roll_out(policy, n_people, n_days, seed) for _ in range(2))
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in type(one).__slots__
    )


def one_equals_many(seed: int = 0, n_people: int = 8, n_steps: int = 300) -> bool:
    """Return whether each person of a vector lives as alone, to the last bit, over several lives.

    Args:
        seed: of the vector; person i alone has seed + i.
        n_people: in the vector.
        n_steps: to take, with random actions.
    """
    many = MiniSwipeVectorEnv(n_people, horizon_days=5)
    alone = [MiniSwipeEnv(horizon_days=5) for _ in range(n_people)]
    together = many.reset(seed=seed)[0]
    for i, env in enumerate(alone):
        if not np.array_equal(env.reset(seed=seed + i)[0], together[i]):
            return False
    actions = np.random.default_rng(seed).integers(0, 4, (n_steps, n_people))
    over = [False] * n_people
    for chosen in actions:
        together, *outcome, info = many.step(chosen)
        for i, env in enumerate(alone):
            if over[i]:
                seen, told = env.reset()
                result: tuple[object, ...] = (0.0, False, False)
            else:
                seen, *rest, told = env.step(chosen[i])
                result = tuple(rest)
            over[i] = True in result[1:]
            same = all(info[name][i] == value for name, value in told.items())
            if not (same and np.array_equal(seen, together[i])):
                return False
            if result != tuple(column[i] for column in outcome):
                return False
    return True
