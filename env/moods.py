"""How a person changes from card to card and from day to day: satiation, load, satisfaction.

    satiation  x <- .9 x, then .35 more of the card's topic; halves with each day away
    load       m <- .95 m + .12 (1 - c): what nourishes costs effort, bait is easy
    satisfied  S <- S + .02 [E (1 - c) g(m) - c (.4 + .6 S) - .5 [x_g > 1]] + N(0, .005), in [0, 1]
               with g(m) = s(4 (1.2 - m)): a loaded mind takes in less
    leaves     s(-3.1 + .6 x_g + .5 m (1 - c) - .5 (S - .5) - .1 c + .15 (1 - E) + tired)
    returns    next day with s(logit p + 2 (S - .5) + .1 ln(1 + watched / 600 s)), p of two classes
    churns     .004 (1 - S)^2 a session: this was the last one

Satisfaction is hidden and has its own channel, bait c, that engagement does not see, so what
earns clicks now and what brings people back can be at odds (KuaiSim, NeurIPS 2023, makes return a
function of the immediate reward, and they never are). The two classes of return and their shares
are fitted to 383,995 gaps of KuaiRand-Pure, which one geometric law misses by far.

Constants are assumptions where no log can tell them. All functions take numbers or arrays.
"""

import msgspec
import numpy as np

from env.ranges import (
    require_not_negative,
    require_open_probabilities,
    require_positive,
    require_probabilities,
)
from env.reals import Reals, clip_to_unit, is_below, log1p, logistic
from env.vocabulary import Floats, Ints

N_TOPICS = 32
BASE_SATISFACTION = 0.5


class Moods(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of how people change.

    Attributes:
        satiation_decay: a card.
        satiation_step: added to the topic of a card.
        load_decay: a card.
        load_step: added by a card without bait.
        satisfaction_step: scale of all that moves satisfaction.
        load_half_enough: load at which a card that nourishes satisfies half as much.
        load_steepness: of that decline.
        bait_cost: weight of bait in it.
        bait_cost_least: share of that cost which the least satisfied still pay.
        satiation_cost: weight of a topic had too often in it.
        satiated: satiation from which a topic was had too often.
        satisfaction_noise: standard deviation a card.
        exit: log-odds of leaving after a card, rested and neutral.
        exit_satiation: added to them for each unit of satiation with the card's topic.
        exit_load: for each unit of load, by a card without bait.
        exit_satisfaction: for each unit of satisfaction beyond 0.5.
        exit_bait: by a card that is all bait.
        exit_bored: by a card that did not engage.
        tired: for each 100 cards of the session.
        recovery: share of the way back to 0.5 that satisfaction goes between sessions.
        return_classes: chance to return the next day of those who come daily and of the others.
        daily_share: share of the former.
        return_satisfaction: added to the log-odds of a return for each unit of satisfaction
            beyond 0.5.
        return_watch: for each unit of ln(1 + seconds watched / return_watch_s).
        return_watch_s: see there.
        churn: probability that a session was the last one, wholly unsatisfied.
    """

    satiation_decay: float = 0.9
    satiation_step: float = 0.35
    load_decay: float = 0.95
    load_step: float = 0.12
    satisfaction_step: float = 0.02
    load_half_enough: float = 1.2
    load_steepness: float = 4.0
    bait_cost: float = 1.0
    bait_cost_least: float = 0.4
    satiation_cost: float = 0.5
    satiated: float = 1.0
    satisfaction_noise: float = 0.005
    exit: float = -3.1
    exit_satiation: float = 0.6
    exit_load: float = 0.5
    exit_satisfaction: float = -0.5
    exit_bait: float = -0.1
    exit_bored: float = 0.15
    tired: float = 0.3
    recovery: float = 0.3
    return_classes: tuple[float, float] = (0.875, 0.341)
    daily_share: float = 0.516
    return_satisfaction: float = 2.0
    return_watch: float = 0.1
    return_watch_s: float = 600.0
    churn: float = 0.004

    def __post_init__(self) -> None:
        """Refuse probabilities that are none.

        Raises:
            ValueError: one is outside [0, 1], or a scale is not above 0.
        """
        require_probabilities(
            self, "satiation_decay", "load_decay", "recovery", "daily_share", "churn"
        )
        require_open_probabilities(self, "return_classes")
        require_not_negative(self, "satisfaction_noise")
        require_positive(self, "return_watch_s")


def satiate(
    moods: Moods, satiation: Floats, topic: int | Ints, out: Floats | None = None
) -> Floats:
    """Return satiation after a card.

    Args:
        moods: constants.
        satiation: shape (..., N_TOPICS).
        topic: of the card, shape (...).
        out: where to write it; a new array if None.
    """
    decayed = np.multiply(moods.satiation_decay, satiation, out=out)
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
    open_mind = logistic(moods.load_steepness * (moods.load_half_enough - load))
    nourished = engaged * (1.0 - bait) * open_mind
    hurts = moods.bait_cost_least + (1.0 - moods.bait_cost_least) * satisfaction
    baited = moods.bait_cost * bait * hurts
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
        + moods.exit_satiation * satiation
        + moods.exit_load * load * (1.0 - bait)
        + moods.exit_satisfaction * (satisfaction - BASE_SATISFACTION)
        + moods.exit_bait * bait
        + moods.exit_bored * (1.0 - engaged)
        + moods.tired * position / 100.0
    )


def return_chance(
    moods: Moods, return_class: Reals, satisfaction: Reals, watched_s: Reals
) -> Reals:
    """Return the probability of a return on each following day: the gap is geometric.

    Args:
        moods: constants.
        return_class: the person's own, in (0, 1).
        satisfaction: when the session ended.
        watched_s: in that session.
    """
    lean = np.log(return_class / (1.0 - return_class))
    return logistic(
        lean
        + moods.return_satisfaction * (satisfaction - BASE_SATISFACTION)
        + moods.return_watch * log1p(watched_s / moods.return_watch_s)
    )


def churn_chance(moods: Moods, satisfaction: Reals) -> Reals:
    """Return the probability that a session was the last one."""
    unsatisfied = 1.0 - satisfaction
    return moods.churn * unsatisfied * unsatisfied


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
