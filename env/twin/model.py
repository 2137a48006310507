"""MiniSwipe's constants and tables: a user of 336 states, small enough to solve exactly.

The state is a level of satisfaction (21), satiation (0 to 3) and mental load (0 to 3). A card
nourishes or baits, on the same topic or a diverse one. The dynamics are those of the full world
(`env.world.moods`), coarse enough that the optimum is the solution of a linear system.

Equations and rejected readings of the published formulas: `docs/decisions/twin-model.md`.
"""

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np

from env.arrays.reals import logistic
from env.vocabulary import Bools, Floats, Ints

N_LEVELS = 21
N_SATIATIONS = 4
N_LOADS = 4
N_PULSES = N_SATIATIONS * N_LOADS
N_STATES = N_LEVELS * N_PULSES
MIDDLE = N_LEVELS // 2
BORED_FROM = 2
DIVERSE_STEP = 2
ACTIONS = ("nourish same", "nourish diverse", "bait same", "bait diverse")
N_ACTIONS = len(ACTIONS)
START = MIDDLE * N_PULSES
"""The state in which a life begins: S = .5, rested."""


class MiniConstants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of MiniSwipe, frozen before any policy was trained in it; S is satisfaction."""

    seconds: float = 17.0  # scale of the watch time
    multipliers: tuple[float, float, float, float] = (1.0, 0.92, 1.18, 1.10)
    watch_floor: float = 0.85  # share of the scale watched at S = 0
    watch_slope: float = 0.30  # added to it at S = 1
    watch_satiation: float = 0.10  # lowers ln seconds of the same topic per unit of satiation
    watch_load: float = 0.25  # share of a nourishing card's watch time lost at full load
    exit: float = -3.1  # log-odds of leaving after a card at S = .5, rested
    exit_satiation: float = 0.12  # added per unit of satiation with the same topic
    exit_load: float = 0.5  # added at full load by a nourishing card
    exit_satisfaction: float = 0.5  # subtracted per unit of S - .5
    exit_bait: float = 0.10  # subtracted by bait
    rise: float = 0.06  # chance of a level up by a nourishing card, at S = 0 and rested
    rise_slope: float = 0.7  # share of it lost at S = 1
    rise_by_load: tuple[float, float, float, float] = (1.0, 0.8, 0.3, 0.05)
    fall: float = 0.06  # chance of a level down by bait, at S = 1 and rested
    fall_by_load: tuple[float, float, float, float] = (1.0, 0.7, 0.45, 0.3)
    bored: float = 0.04  # chance of another level down by a satiated topic, at S = 1
    cost_floor: float = 0.4  # share of both at S = 0
    cost_slope: float = 0.6  # added to it at S = 1
    return_floor: float = 0.42  # chance to return on a day at S = 0
    return_slope: float = 0.42  # added to it at S = 1
    churn: float = 0.004  # chance at S = 0 that a session was the last one
    relax: float = 0.3  # chance that S goes a level towards the middle between two sessions
    day_discount: float = 0.97  # of a day away; within a session nothing is discounted

    def sha256(self) -> str:
        """Return the hash of the constants, in hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


@dataclass(frozen=True, slots=True)
class MiniModel:
    """The constants as tables; the index of a state is (level · 4 + satiation) · 4 + load."""

    constants: MiniConstants
    watch_s: Floats  # (336, 4) seconds of a card
    exit: Floats  # (336, 4) chance to leave after it
    move: Floats  # (336, 4) chance that the level goes by `direction`
    bored: Floats  # (336, 4) chance that it goes one more down
    direction: Ints  # (4,) 1 for a nourishing card and -1 for bait
    pulse: Ints  # (336, 4) satiation · 4 + load after the card
    comeback: Floats  # (21,) chance to return on a day, by level
    churn: Floats  # (21,) chance not to return at all, by level
    inward: Ints  # (21,) the level one nearer to the middle

    @classmethod
    def of(cls, constants: MiniConstants) -> "MiniModel":
        """Return the tables.

        Raises:
            ValueError: a chance is outside [0, 1], or the discount outside (0, 1].
        """
        c = constants
        states, action = np.arange(N_STATES)[:, None], np.arange(N_ACTIONS)
        satisfied = states // N_PULSES / (N_LEVELS - 1)
        satiation, load = states // N_LOADS % N_SATIATIONS, states % N_LOADS
        same, bait = action % 2 == 0, action >= 2
        tired = load / (N_LOADS - 1) * ~bait
        costly = c.cost_floor + c.cost_slope * satisfied
        rise = c.rise * (1.0 - c.rise_slope * satisfied) * np.array(c.rise_by_load)[load]
        fall = c.fall * costly * np.array(c.fall_by_load)[load]
        level = np.arange(N_LEVELS)
        model = cls(
            constants=c,
            watch_s=c.seconds
            * np.array(c.multipliers)
            * (c.watch_floor + c.watch_slope * satisfied)
            * np.exp(-c.watch_satiation * satiation * same)
            * (1.0 - c.watch_load * tired),
            exit=np.asarray(
                logistic(
                    c.exit
                    + c.exit_satiation * satiation * same
                    + c.exit_load * tired
                    - c.exit_satisfaction * (satisfied - 0.5)
                    - c.exit_bait * bait
                )
            ),
            move=np.where(bait, fall, rise),
            bored=c.bored * costly * same * (satiation >= BORED_FROM),
            direction=np.where(bait, -1, 1),
            pulse=_pulse_after(satiation, load, same, bait),
            comeback=c.return_floor + c.return_slope * level / (N_LEVELS - 1),
            churn=c.churn * (1.0 - level / (N_LEVELS - 1)) ** 2,
            inward=level + np.sign(MIDDLE - level),
        )
        _require_chances(model)
        return model


def level_after(level: Ints, direction: Ints, moved: Ints, bored: Ints) -> Ints:
    """Return the level after a card: one step in `direction` if moved, one down if bored."""
    return np.clip(level + direction * moved - bored, 0, N_LEVELS - 1)


def _pulse_after(satiation: Ints, load: Ints, same: Bools, bait: Bools) -> Ints:
    sated = np.where(same, satiation + 1, satiation - DIVERSE_STEP)
    loaded = np.where(bait, load - 1, load + 1)
    sated, loaded = np.clip(sated, 0, N_SATIATIONS - 1), np.clip(loaded, 0, N_LOADS - 1)
    return sated * N_LOADS + loaded


def _require_chances(model: MiniModel) -> None:
    for name in ("exit", "move", "bored", "comeback", "churn"):
        chances: Floats = getattr(model, name)
        if chances.min() < 0.0 or chances.max() > 1.0:
            raise ValueError(
                f"MiniConstants: expected the chance {name!r} in [0, 1] in every state, "
                f"got [{chances.min():g}, {chances.max():g}]"
            )
    if model.comeback.min() == 0.0:
        raise ValueError("MiniConstants: expected return_floor above 0, or gaps never end; got 0")
    if not 0.0 <= model.constants.relax <= 1.0:
        raise ValueError(f"MiniConstants: expected relax in [0, 1], got {model.constants.relax:g}")
    if not 0.0 < model.constants.day_discount <= 1.0:
        raise ValueError(
            f"MiniConstants: expected day_discount in (0, 1], got {model.constants.day_discount:g}"
        )
