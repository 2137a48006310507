"""Checks that MiniSwipe can tell learners apart and agrees with its dynamic programme.

- `check_separation`: watch time now and returns later conflict, and only because of the slow state
  and satiation.
- `compare_with_rollouts`: the environment and the dynamic programme are the same model.
- `repeats`, `one_equals_many`: the same seed gives the same bits.

`env.twin.checks` checks the order of policies under changed constants.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from env.twin.env import MiniSwipeEnv, MiniSwipeVectorEnv
from env.twin.model import MiniConstants, MiniModel
from env.twin.policies import CONSTANT, SAME, reference_policies, shares_of_optimum
from env.twin.solve import (
    LATE_DAYS,
    OBJECTIVES,
    RETENTION_DAYS,
    DynamicProgramme,
    Habits,
    MiniObjective,
)
from env.vocabulary import Bools, Floats, Ints

TAU_AT_LEAST = 0.8
FACTORS = (0.75, 1.25)


class Variant(NamedTuple):
    """Constants of which one is changed; the attributes are those of `ConstantChange`."""

    constant: str
    unit: str
    factor: float
    constants: MiniConstants
    judged: bool


class ConstantChange(msgspec.Struct, frozen=True):
    """Effect of one changed constant on the order of the reference policies.

    Attributes:
        constant: its name, with the position in a tuple.
        unit: the multiplied quantity: the "value"; the "odds" of a log-odds; the "premium" of a
            multiplier over the first action's; the "loss" 1 - discount of a day.
        factor: the multiplier.
        tau: Kendall's tau-b with the order under the frozen constants, by objective.
        judged: False for changes that alter the constant's meaning, see `change_constants`.
    """

    constant: str
    unit: str
    factor: float
    tau: dict[MiniObjective, float]
    judged: bool

    @property
    def least(self) -> float:
        """The smaller tau of the two objectives."""
        return min(self.tau.values())

    @property
    def passed(self) -> bool:
        """Whether the order holds, or is not judged."""
        return not self.judged or self.least >= TAU_AT_LEAST


def change_constants(
    names: tuple[str, ...] = MiniConstants.__struct_fields__,
) -> list[ConstantChange]:
    """Return the effect of a quarter more and a quarter less of each constant, one at a time.

    The order is of the nine reference policies' exact values, recomputed under the changed
    constants. `docs/decisions/twin-sensitivity.md` gives the units and the unjudged changes.
    """
    frozen = MiniConstants()
    before = shares_of_optimum(DynamicProgramme.of(MiniModel.of(frozen)))
    rows = []
    for name in names:
        for variant in variants(frozen, name):
            after = shares_of_optimum(DynamicProgramme.of(MiniModel.of(variant.constants)))
            tau = {
                objective: kendall_tau(
                    np.array([row[objective] for row in before.values()]),
                    np.array([row[objective] for row in after.values()]),
                )
                for objective in OBJECTIVES
            }
            rows.append(
                ConstantChange(variant.constant, variant.unit, variant.factor, tau, variant.judged)
            )
    return rows


def kendall_tau(x: Floats, y: Floats) -> float:
    """Return Kendall's tau-b, which allows for ties (Kendall, Biometrika 33, 1945).

    Both arrays have shape (n,) and are not constant.

    >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.333...
    """
    order_x, order_y = _order(x), _order(y)
    scale = np.sqrt((order_x**2).sum() * (order_y**2).sum())
    return float((order_x * order_y).sum() / scale)


def _order(x: Floats) -> Floats:
    apart = x[:, None] - x[None, :]
    order: Floats = np.sign(apart) * (np.abs(apart) > SAME * np.abs(x).max())
    return order


def variants(frozen: MiniConstants, name: str) -> Iterator[Variant]:
    """Yield the changes of one constant, see `change_constants`."""
    value: float | tuple[float, ...] = getattr(frozen, name)
    for factor in FACTORS:
        if name == "multipliers":
            yield from _multipliers(frozen, factor)
        elif name == "day_discount":
            loss = (1.0 - frozen.day_discount) * factor
            yield Variant(name, "loss", factor, _with(frozen, name, 1.0 - loss), True)
        elif name == "exit":
            odds = frozen.exit + float(np.log(factor))
            yield Variant(name, "odds", factor, _with(frozen, name, odds), True)
            yield Variant(name, "value", factor, _with(frozen, name, frozen.exit * factor), False)
        elif isinstance(value, tuple):
            for k in range(len(value)):
                scaled = (*value[:k], value[k] * factor, *value[k + 1 :])
                yield Variant(f"{name}[{k}]", "value", factor, _with(frozen, name, scaled), True)
        else:
            yield Variant(name, "value", factor, _with(frozen, name, value * factor), True)


def _multipliers(frozen: MiniConstants, factor: float) -> Iterator[Variant]:
    name, value = "multipliers", frozen.multipliers
    for k in range(len(value)):
        scaled = (*value[:k], value[k] * factor, *value[k + 1 :])
        yield Variant(f"{name}[{k}]", "value", factor, _with(frozen, name, scaled), False)
        if k > 0:
            premium = value[0] + (value[k] - value[0]) * factor
            scaled = (*value[:k], premium, *value[k + 1 :])
            yield Variant(f"{name}[{k}]", "premium", factor, _with(frozen, name, scaled), True)


def _with(frozen: MiniConstants, name: str, value: object) -> MiniConstants:
    return msgspec.structs.replace(frozen, **{name: value})


_POLICY_STREAM = 1
"""Separate from the seeds of lives, so that the policy's draws do not depend on them."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The outcome of each of n users until the horizon."""

    watch: Floats  # (n,) seconds, each discounted to the first day
    days: Floats  # (n,) returns, each discounted to the first day
    swipes: Ints  # (n,) cards
    watched_s: Floats  # (n,) seconds
    gaps: Ints  # (n,) returns, those beyond the horizon included
    gap_days: Ints  # (n,) days until them, in sum
    active: Bools  # (n, n_days) whether there was a session on a day

    def habits(self) -> Habits:
        """Return the means over users."""
        on_day = self.active.mean(axis=0)
        first, seventh, thirtieth = (float(on_day[day]) for day in RETENTION_DAYS)
        return Habits(
            session_swipes=float(self.swipes.sum() / self.active.sum()),
            swipe_s=float(self.watched_s.sum() / self.swipes.sum()),
            gap_days=float(self.gap_days.sum() / self.gaps.sum()),
            active_days=float(self.active.sum(axis=1).mean()),
            retention=(first, seventh, thirtieth),
            daily_active=float(on_day[-LATE_DAYS:].mean()),
            watch=float(self.watch.mean()),
            days=float(self.days.mean()),
        )


def roll_out(
    policy: Floats, n_users: int, n_days: int, seed: int, constants: MiniConstants | None = None
) -> Rollout:
    """Return the outcome of n users under a policy; the same arguments give the same bits.

    `policy` is a pmf over the actions for each state, shape (336, 4); `n_days` is the horizon, more
    than 30 for `Rollout.habits`.
    """
    env = MiniSwipeVectorEnv(n_users, obs="ids", horizon_days=n_days, constants=constants)
    generator = np.random.default_rng([seed, _POLICY_STREAM])
    upto = policy.cumsum(axis=1)[:, :-1]
    state, info = env.reset(seed=seed)
    rollout = _empty(n_users, n_days)
    alive, discount = np.ones(n_users, dtype=np.bool_), np.ones(n_users)
    while alive.any():
        here = np.flatnonzero(alive)
        rollout.active[here, info["day"][here]] = True
        actions = (generator.random(n_users)[:, None] >= upto[state]).sum(axis=1)
        state, _, terminated, truncated, info = env.step(actions)
        _add(rollout, here, info, discount)
        discount *= info["discount"]
        alive &= ~(terminated | truncated)
    return rollout


def _empty(n_users: int, n_days: int) -> Rollout:
    def zeros() -> Floats:
        return np.zeros(n_users)

    def none() -> Ints:
        return np.zeros(n_users, dtype=np.int64)

    active = np.zeros((n_users, n_days), dtype=np.bool_)
    return Rollout(zeros(), zeros(), none(), zeros(), none(), none(), active)


def _add(rollout: Rollout, here: Ints, info: dict[str, Floats], discount: Floats) -> None:
    rollout.watch[here] += discount[here] * info["watch_s"][here]
    rollout.days[here] += discount[here] * info["days"][here]
    rollout.swipes[here] += 1
    rollout.watched_s[here] += info["watch_s"][here]
    rollout.gaps[here] += info["gap_days"][here] > 0
    rollout.gap_days[here] += info["gap_days"][here].astype(np.int64)


MYOPIC_AT_MOST = 0.85
CONTROL_WITHIN = 0.005
STANDARD_ERRORS = 3.0
ROLLED_OUT = ("optimal for watch", "optimal for days", "random", "myopic", "nourish diverse")
"""Five policies with different values; "session optimal" equals "myopic" in every state."""

UNENDING_DAYS = 400
"""Horizon beyond which the discount leaves 5 millionths of a value."""


class Separation(msgspec.Struct, frozen=True):
    """Values as shares of the optimum, at the start of a life, by objective."""

    myopic: dict[MiniObjective, float]  # policy of the most watch time now
    session_optimal: dict[MiniObjective, float]  # policy of the most watch time in the session
    best_constant: dict[MiniObjective, float]  # best policy of a single action
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


class RolloutComparison(msgspec.Struct, frozen=True):
    """A policy's value by Monte Carlo and by the dynamic programme."""

    policy: str
    objective: MiniObjective
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
    shares = shares_of_optimum(DynamicProgramme.of(MiniModel.of(frozen)))
    still = msgspec.structs.replace(
        frozen, rise=0.0, fall=0.0, bored=0.0, watch_satiation=0.0, exit_satiation=0.0
    )
    return Separation(
        myopic=shares["myopic"],
        session_optimal=shares["session optimal"],
        best_constant={
            objective: max(shares[name][objective] for name in CONSTANT) for objective in OBJECTIVES
        },
        control=shares_of_optimum(DynamicProgramme.of(MiniModel.of(still)))["myopic"]["watch"],
    )


def compare_with_rollouts(
    n_users: int = 1_000, seed: int = 0, names: tuple[str, ...] = ROLLED_OUT
) -> list[RolloutComparison]:
    """Return the values of reference policies by Monte Carlo through the environment, and exactly.

    Lives last 400 days to approximate the programme's infinite horizon. Each policy has `n_users`
    users of its own; `seed` is that of the first policy's first user.
    """
    programme = DynamicProgramme.of(MiniModel.of(MiniConstants()))
    policies = reference_policies(programme)
    rows = []
    for number, name in enumerate(names):
        rollout = roll_out(policies[name], n_users, UNENDING_DAYS, seed + number * n_users)
        measured: dict[MiniObjective, Floats] = {"watch": rollout.watch, "days": rollout.days}
        for objective, each in measured.items():
            error = float(each.std(ddof=1) / np.sqrt(n_users))
            exact = programme.value(policies[name], objective)
            rows.append(RolloutComparison(name, objective, float(each.mean()), error, exact))
    return rows


def repeats(seed: int = 0, n_users: int = 200, n_days: int = 60) -> bool:
    """Return whether two runs of one seed are equal to the last bit."""
    policy = reference_policies(DynamicProgramme.of(MiniModel.of(MiniConstants())))["random"]
    one, two = (roll_out(policy, n_users, n_days, seed) for _ in range(2))
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in type(one).__slots__
    )


def one_equals_many(seed: int = 0, n_users: int = 8, n_steps: int = 300) -> bool:
    """Return whether a vector's users live as they do alone, to the last bit, over several lives.

    User i alone has seed + i; actions are random.
    """
    many = MiniSwipeVectorEnv(n_users, horizon_days=5)
    alone = [MiniSwipeEnv(horizon_days=5) for _ in range(n_users)]
    together = many.reset(seed=seed)[0]
    for i, env in enumerate(alone):
        if not np.array_equal(env.reset(seed=seed + i)[0], together[i]):
            return False
    actions = np.random.default_rng(seed).integers(0, 4, (n_steps, n_users))
    over = [False] * n_users
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
