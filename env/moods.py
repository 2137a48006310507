"""How a person changes from card to card and from day to day: satiation, load, satisfaction.

    satiation  x <- .9 x, then .35 more of the card's topic; halves with each day away
    load       m <- .95 m + .12 (1 - c): what nourishes costs effort, bait is easy
    satisfied  S <- S + .02 [E (1 - c) g(m) - c (.4 + .6 S) - .5 [x_g > 1]] + N(0, .005), in [0, 1]
    leaves     s(-3.1 + .6 x_g + .5 m (1 - c) - .5 (S - .5) - .1 c + .15 (1 - E) + tired)
    returns    next day with s(logit p + 2 (S - .5) + .1 ln(1 + watched / 600 s)), p of two classes

Satisfaction is hidden and has its own channel, bait c, that engagement does not see, so what
earns clicks now and what brings people back can be at odds (KuaiSim, NeurIPS 2023, makes return a
function of the immediate reward, and they never are). The two classes of return and their shares
are fitted to 383,995 gaps of KuaiRand-Pure, which one geometric law misses by far.

Constants are assumptions where no log can tell them. All functions take numbers or arrays.
"""

import msgspec
import numpy as np

from env.reals import Reals, clip_to_unit, is_below, log1p, logistic
from env.vocabulary import Floats, Ints

N_TOPICS = 32
LOAD_HALF_ENOUGH = 1.2
LOAD_STEEPNESS = 4.0
BASE_SATISFACTION = 0.5


class Moods(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of how people change.

    Attributes:
        satiation_decay: a card.
        satiation_step: added to the topic of a card.
        load_decay: a card.
        load_step: added by a card without bait.
        satisfaction_step: scale of all that moves satisfaction.
        bait_cost: weight of bait in it.
        satiation_cost: weight of a topic had too often in it.
        satiated: satiation from which a topic was had too often.
        satisfaction_noise: standard deviation a card.
        exit: log-odds of leaving after a card, rested and neutral.
        tired: added to them for each 100 cards of the session.
        recovery: share of the way back to 0.5 that satisfaction goes between sessions.
        return_classes: chance to return the next day of those who come daily and of the others.
        daily_share: share of the former.
    """

    satiation_decay: float = 0.9
    satiation_step: float = 0.35
    load_decay: float = 0.95
    load_step: float = 0.12
    satisfaction_step: float = 0.02
    bait_cost: float = 1.0
    satiation_cost: float = 0.5
    satiated: float = 1.0
    satisfaction_noise: float = 0.005
    exit: float = -3.1
    tired: float = 0.3
    recovery: float = 0.3
    return_classes: tuple[float, float] = (0.875, 0.341)
    daily_share: float = 0.516


def satiate(moods: Moods, satiation: Floats, topic: int | Ints) -> Floats:
    """Return satiation after a card.

    Args:
        moods: constants.
        satiation: shape (..., N_TOPICS).
        topic: of the card, shape (...).
    """
    decayed = moods.satiation_decay * satiation
    if isinstance(topic, int):
        decayed[topic] += moods.satiation_step
        return decayed
    rows = decayed.reshape(-1, N_TOPICS)
    rows[np.arange(len(rows)), topic.ravel()] += moods.satiation_step
    return decayed


def tire(moods: Moods, load: Reals, bait: Reals) -> Reals:
    """Return mental load after a card."""
    return moods.load_decay * load + moods.load_step * (1.0 - bait)


def satisfy(
    moods: Moods,
    satisfaction: Reals,
    engaged: Reals,
    bait: Reals,
    load: Reals,
    satiation: Reals,
    normal: Reals,
) -> Reals:
    """Return satisfaction after a card, in [0, 1].

    Args:
        moods: constants.
        satisfaction: before the card.
        engaged: 0 or 1.
        bait: of the item.
        load: after the card.
        satiation: with the card's topic, after the card.
        normal: a standard normal number.
    """
    nourished = engaged * (1.0 - bait) * logistic(LOAD_STEEPNESS * (LOAD_HALF_ENOUGH - load))
    baited = moods.bait_cost * bait * (0.4 + 0.6 * satisfaction)
    bored = moods.satiation_cost * is_below(moods.satiated, satiation)
    step = moods.satisfaction_step * (nourished - baited - bored)
    return clip_to_unit(satisfaction + step + moods.satisfaction_noise * normal)


def exit_chance(
    moods: Moods,
    satiation: Reals,
    load: Reals,
    satisfaction: Reals,
    bait: Reals,
    engaged: Reals,
    position: Reals,
) -> Reals:
    """Return the probability that the person leaves after a card.

    Args:
        moods: constants.
        satiation: with the card's topic, after the card.
        load: after the card.
        satisfaction: after the card.
        bait: of the item.
        engaged: 0 or 1.
        position: cards of this session so far.
    """
    return logistic(
        moods.exit
        + 0.6 * satiation
        + 0.5 * load * (1.0 - bait)
        - 0.5 * (satisfaction - BASE_SATISFACTION)
        - 0.1 * bait
        + 0.15 * (1.0 - engaged)
        + moods.tired * position / 100.0
    )


def return_chance(return_class: Reals, satisfaction: Reals, watched_s: Reals) -> Reals:
    """Return the probability of a return on each following day: the gap is geometric.

    Args:
        return_class: the person's own, in (0, 1).
        satisfaction: when the session ended.
        watched_s: in that session.
    """
    lean = np.log(return_class / (1.0 - return_class))
    return logistic(
        lean + 2.0 * (satisfaction - BASE_SATISFACTION) + 0.1 * log1p(watched_s / 600.0)
    )


def churn_chance(satisfaction: Reals) -> Reals:
    """Return the probability that a session was the last one."""
    return 0.004 * (1.0 - satisfaction) ** 2


def rest(moods: Moods, satiation: Floats, satisfaction: Reals, days: Reals) -> tuple[Floats, Reals]:
    """Return satiation and satisfaction after some days away; the load is gone.

    Args:
        moods: constants.
        satiation: shape (..., N_TOPICS).
        satisfaction: shape (...).
        days: away, may be a part of one, shape (...).
    """
    fade = np.expand_dims(np.exp2(-np.asarray(days, dtype=np.float64)), -1)
    return satiation * fade, satisfaction + moods.recovery * (BASE_SATISFACTION - satisfaction)
