"""MiniSwipe's constants and tables: a person of 336 states whom one can solve exactly.

A person has a level of satisfaction S (21, from 0 to 1), satiation b and mental load m (0 to 3
each); a card nourishes or baits, and is of the same topic or a diverse one. The channels are
those of the full world (`env.moods`), coarse enough that its optimum is a linear system:

    watch    w = 17 s · mult_a (.85 + .30 S) exp(-.10 b [same]) (1 - .25 m/3 [nourish])
    leaves   h = s(-3.1 + .12 b [same] + .5 m/3 [nourish] - .5 (S - .5) - .10 [bait])
    nourish  m + 1, S one level up with .06 (1 - .7 S) up_m
    bait     m - 1, S one level down with .06 (.4 + .6 S) down_m
    same     b + 1, and where b >= 2 S one more level down with .04 (.4 + .6 S)
    diverse  b - 2
    returns  each day with p = .42 + .42 S, never with .004 (1 - S)^2; overnight S goes one level
             towards the middle with .3 (once a gap, however long), and b = m = 0

Everything of a card reads the state before it: its watch time, the chance to leave, S in the
rates, m in up_m and down_m, b >= 2. What follows a leave reads S after the card. Lives begin at
S = .5, b = m = 0.

up = 1, .8, .3, .05 and down = 1, .7, .45, .3 by load. Of the readings of these formulas that were
tried, only this one gives the published optimum (9,523 s and 20.60 days). Rejected: up and down by
the load after the card (8,706 s), down by satiation (20.52 days), and boredom by satiation after
the card (a random policy then has .68 of the optimum's watch time, not the published .70).
"""

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np

from env.reals import logistic
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
    """Constants of MiniSwipe, frozen before any policy was trained in it.

    Attributes:
        seconds: scale of the watch time.
        multipliers: of the watch time, by action.
        watch_floor: share of the scale watched at S = 0.
        watch_slope: what S = 1 adds to it.
        watch_satiation: by which each unit of satiation lowers ln seconds of the same topic.
        watch_load: share of the watch time of what nourishes that full load takes away.
        exit: log-odds of leaving after a card at S = .5, rested.
        exit_satiation: added for each unit of satiation with the same topic.
        exit_load: added at full load by what nourishes.
        exit_satisfaction: subtracted for each unit of S - .5.
        exit_bait: subtracted by bait.
        rise: chance of a level up by what nourishes, at S = 0 and rested.
        rise_slope: share of it that S = 1 takes away.
        rise_by_load: multiplies it, by load.
        fall: chance of a level down by bait, at S = 1 and rested.
        fall_by_load: multiplies it, by load.
        bored: chance of another level down by a topic had too often, at S = 1.
        cost_floor: share of both at S = 0.
        cost_slope: what S = 1 adds to it.
        return_floor: chance to return on a day at S = 0.
        return_slope: what S = 1 adds to it.
        churn: chance at S = 0 that a session was the last one.
        relax: chance that S goes one level towards the middle between two sessions.
        day_discount: of a day away; within a session nothing is discounted.
    """

    seconds: float = 17.0
    multipliers: tuple[float, float, float, float] = (1.0, 0.92, 1.18, 1.10)
    watch_floor: float = 0.85
    watch_slope: float = 0.30
    watch_satiation: float = 0.10
    watch_load: float = 0.25
    exit: float = -3.1
    exit_satiation: float = 0.12
    exit_load: float = 0.5
    exit_satisfaction: float = 0.5
    exit_bait: float = 0.10
    rise: float = 0.06
    rise_slope: float = 0.7
    rise_by_load: tuple[float, float, float, float] = (1.0, 0.8, 0.3, 0.05)
    fall: float = 0.06
    fall_by_load: tuple[float, float, float, float] = (1.0, 0.7, 0.45, 0.3)
    bored: float = 0.04
    cost_floor: float = 0.4
    cost_slope: float = 0.6
    return_floor: float = 0.42
    return_slope: float = 0.42
    churn: float = 0.004
    relax: float = 0.3
    day_discount: float = 0.97

    def sha256(self) -> str:
        """Return the hash of the constants, in hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


@dataclass(frozen=True, slots=True)
class MiniModel:
    """The constants as tables by state and action; a state is (level · 4 + satiation) · 4 + load.

    Attributes:
        constants: what the tables were made from.
        watch_s: seconds of a card, shape (336, 4).
        exit: chance to leave after it, shape (336, 4).
        move: chance that the level goes by `direction`, shape (336, 4).
        bored: chance that it goes one more down, shape (336, 4).
        direction: 1 for what nourishes and -1 for bait, shape (4,).
        pulse: satiation · 4 + load after the card, shape (336, 4).
        comeback: chance to return on a day, by level, shape (21,).
        churn: chance not to return at all, by level, shape (21,).
        inward: the level one nearer to the middle, shape (21,).
    """

    constants: MiniConstants
    watch_s: Floats
    exit: Floats
    move: Floats
    bored: Floats
    direction: Ints
    pulse: Ints
    comeback: Floats
    churn: Floats
    inward: Ints

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
    """Return the level after a card; what leads beyond an end stays at it.

    Args:
        level: before the card.
        direction: of the action.
        moved: 1 where the level moves by it.
        bored: 1 where it goes one more down.
    """
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
