"""Sensitivity of MiniSwipe's order of policies to a change of one constant by a quarter."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from env.miniswipe_model import MiniConstants, MiniModel
from env.miniswipe_policies import SAME, shares_of_optimum
from env.miniswipe_programme import OBJECTIVES, Objective, Programme
from env.vocabulary import Floats

TAU_AT_LEAST = 0.8
FACTORS = (0.75, 1.25)


class Variant(NamedTuple):
    """Constants of which one is changed; the attributes are those of `Change`."""

    constant: str
    unit: str
    factor: float
    constants: MiniConstants
    judged: bool


class Change(msgspec.Struct, frozen=True):
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
    tau: dict[Objective, float]
    judged: bool

    @property
    def least(self) -> float:
        """The smaller tau of the two objectives."""
        return min(self.tau.values())

    @property
    def passed(self) -> bool:
        """Whether the order holds, or is not judged."""
        return not self.judged or self.least >= TAU_AT_LEAST


def change_constants(names: tuple[str, ...] = MiniConstants.__struct_fields__) -> list[Change]:
    """Return the effect of a quarter more and a quarter less of each constant, one at a time.

    The order is of the nine reference policies' exact values, recomputed under the changed
    constants. `docs/decisions/twin-sensitivity.md` gives the units and the unjudged changes.
    """
    frozen = MiniConstants()
    before = shares_of_optimum(Programme.of(MiniModel.of(frozen)))
    rows = []
    for name in names:
        for variant in variants(frozen, name):
            after = shares_of_optimum(Programme.of(MiniModel.of(variant.constants)))
            tau = {
                objective: kendall_tau(
                    np.array([row[objective] for row in before.values()]),
                    np.array([row[objective] for row in after.values()]),
                )
                for objective in OBJECTIVES
            }
            rows.append(Change(variant.constant, variant.unit, variant.factor, tau, variant.judged))
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
