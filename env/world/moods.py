"""A simulated user's hidden state: satiation, load and satisfaction, and exits and returns.

All functions take numbers or arrays. Satisfaction depends on bait, which engagement does not see,
so immediate reward and returns can conflict. The constants that no log can identify are
assumptions.

Equations and sources: `docs/decisions/world-moods.md`.
"""

import msgspec
import numpy as np

from env.arrays.reals import Reals, clip_to_unit, is_below, log1p, logistic
from env.arrays.validate import (
    require_not_negative,
    require_open_probabilities,
    require_positive,
    require_probabilities,
)
from env.vocabulary import Floats, Ints

N_TOPICS = 32
BASE_SATISFACTION = 0.5


class StateDynamics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the hidden state's dynamics."""

    satiation_decay: float = 0.9  # a card
    satiation_step: float = 0.35  # added to the topic of a card
    load_decay: float = 0.95  # a card
    load_step: float = 0.12  # added by a card without bait
    satisfaction_step: float = 0.02  # scale of all changes of satisfaction
    load_half_enough: float = 1.2  # load at which a card without bait satisfies half as much
    load_steepness: float = 4.0  # of that decline
    bait_cost: float = 1.0  # weight of bait in a change of satisfaction
    bait_cost_least: float = 0.4  # share of that cost at satisfaction 0
    satiation_cost: float = 0.5  # weight of a satiated topic in a change of satisfaction
    satiated: float = 1.0  # satiation from which a topic counts as satiated
    satisfaction_noise: float = 0.005  # standard deviation a card
    exit: float = -3.1  # log-odds of leaving after a card, rested and neutral
    exit_satiation: float = 0.6  # added per unit of satiation with the card's topic
    exit_load: float = 0.5  # per unit of load, by a card without bait
    exit_satisfaction: float = -0.5  # per unit of satisfaction beyond 0.5
    exit_bait: float = -0.1  # by a card that is all bait
    exit_bored: float = 0.15  # by a card that did not engage
    tired: float = 0.3  # per 100 cards of the session
    recovery: float = 0.3  # share of satisfaction's way back to 0.5 between sessions
    return_classes: tuple[float, float] = (0.875, 0.341)  # next-day chance: daily, others
    daily_share: float = 0.516  # share of the daily users
    return_satisfaction: float = 2.0  # log-odds per unit of satisfaction beyond 0.5
    return_watch: float = 0.1  # per unit of ln(1 + seconds watched / return_watch_s)
    return_watch_s: float = 600.0
    churn: float = 0.004  # probability that a session was the last one, at satisfaction 0

    def __post_init__(self) -> None:
        """Refuse invalid constants.

        Raises:
            ValueError: a probability is outside [0, 1], or a scale is not above 0.
        """
        require_probabilities(
            self, "satiation_decay", "load_decay", "recovery", "daily_share", "churn"
        )
        require_open_probabilities(self, "return_classes")
        require_not_negative(self, "satisfaction_noise")
        require_positive(self, "return_watch_s")


def satiate(
    moods: StateDynamics, satiation: Floats, topic: int | Ints, out: Floats | None = None
) -> Floats:
    """Return satiation after a card, shape (..., N_TOPICS), written to `out` if given."""
    decayed = np.multiply(moods.satiation_decay, satiation, out=out)
    if isinstance(topic, int):
        decayed[topic] += moods.satiation_step
        return decayed
    rows = decayed.reshape(-1, N_TOPICS)
    rows[np.arange(len(rows)), topic.ravel()] += moods.satiation_step
    return decayed


def tire(moods: StateDynamics, load: Reals, bait: Reals) -> Reals:
    """Return mental load after a card."""
    return moods.load_decay * load + moods.load_step * (1.0 - bait)


def satisfy(
    moods: StateDynamics,
    satisfaction: Reals,
    engaged: Reals,
    bait: Reals,
    load: Reals,
    satiation: Reals,
    normal: Reals,
) -> Reals:
    """Return satisfaction after a card, in [0, 1].

    `engaged` is 0 or 1; load and satiation (with the card's topic) are those after the card.
    """
    open_mind = logistic(moods.load_steepness * (moods.load_half_enough - load))
    nourished = engaged * (1.0 - bait) * open_mind
    hurts = moods.bait_cost_least + (1.0 - moods.bait_cost_least) * satisfaction
    baited = moods.bait_cost * bait * hurts
    bored = moods.satiation_cost * is_below(moods.satiated, satiation)
    step = moods.satisfaction_step * (nourished - baited - bored)
    return clip_to_unit(satisfaction + step + moods.satisfaction_noise * normal)


def exit_chance(
    moods: StateDynamics,
    satiation: Reals,
    load: Reals,
    satisfaction: Reals,
    bait: Reals,
    engaged: Reals,
    position: Reals,
) -> Reals:
    """Return the probability that the user leaves after a card.

    Satiation with the card's topic, load and satisfaction are those after the card; `position`
    counts this session's cards.
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
    moods: StateDynamics, return_class: Reals, satisfaction: Reals, watched_s: Reals
) -> Reals:
    """Return the probability of a return on each following day: the gap is geometric.

    `return_class` is the user's own chance, in (0, 1); satisfaction and seconds watched are those
    at the session's end.
    """
    lean = np.log(return_class / (1.0 - return_class))
    return logistic(
        lean
        + moods.return_satisfaction * (satisfaction - BASE_SATISFACTION)
        + moods.return_watch * log1p(watched_s / moods.return_watch_s)
    )


def churn_chance(moods: StateDynamics, satisfaction: Reals) -> Reals:
    """Return the probability that a session was the last one."""
    unsatisfied = 1.0 - satisfaction
    return moods.churn * unsatisfied * unsatisfied


def rest(
    moods: StateDynamics, satiation: Floats, satisfaction: Reals, days: Reals
) -> tuple[Floats, Reals]:
    """Return satiation, (..., N_TOPICS), and satisfaction, (...), after (fractional) days away."""
    fade = np.expand_dims(np.exp2(-np.asarray(days, dtype=np.float64)), -1)
    return satiation * fade, satisfaction + moods.recovery * (BASE_SATISFACTION - satisfaction)
