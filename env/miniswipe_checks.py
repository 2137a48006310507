"""Checks that MiniSwipe can tell learners apart and agrees with its dynamic programme.

- `check_separation`: watch time now and returns later conflict, and only because of the slow state
  and satiation.
- `compare_with_rollouts`: the environment and the dynamic programme are the same model.
- `repeats`, `one_equals_many`: the same seed gives the same bits.

`env.miniswipe_changes` checks the order of policies under changed constants.
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
"""Five policies with different values; "session optimal" equals "myopic" in every state."""
UNENDING_DAYS = 400
"""Horizon beyond which the discount leaves 5 millionths of a value."""


class Separation(msgspec.Struct, frozen=True):
    """Values as shares of the optimum, at the start of a life, by objective."""

    myopic: dict[Objective, float]  # policy of the most watch time now
    session_optimal: dict[Objective, float]  # policy of the most watch time in the session
    best_constant: dict[Objective, float]  # best policy of a single action
    control: float  # myopic policy on "watch", with constant satisfaction and satiation

    @property
    def passed(self) -> bool:
        """Whether short-sighted policies lose, and the myopic one wins once nothing is slow."""
        return (
            max(self.myopic.values()) <= MYOPIC_AT_MOST
            and max(self.session_optimal.values()) < 1.0 - SAME
            and max(self.best_constant.values()) < 1.0 - SAME
            and self.control >= 1.0 - CONTROL_WITHIN
        )


class Comparison(msgspec.Struct, frozen=True):
    """A policy's value by Monte Carlo and by the dynamic programme."""

    policy: str
    objective: Objective
    mean: float  # over users
    standard_error: float  # across users
    exact: float

    @property
    def z(self) -> float:
        """Distance of the mean from the exact value, in standard errors."""
        return (self.mean - self.exact) / self.standard_error

    @property
    def passed(self) -> bool:
        """Whether they are within three standard errors of each other."""
        return abs(self.z) <= STANDARD_ERRORS


def check_separation(constants: MiniConstants | None = None) -> Separation:
    """Return the reference policies' shares of the optimum."""
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
    """Return the values of reference policies by Monte Carlo through the environment, and exactly.

    Lives last 400 days to approximate the programme's infinite horizon. Each policy has `n_people`
    users of its own; `seed` is that of the first policy's first user.
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
    """Return whether a vector's users live as they do alone, to the last bit, over several lives.

    User i alone has seed + i; actions are random.
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
