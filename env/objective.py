"""What an environment's step is worth: one of five rewards, from the same components.

    watch         seconds watched
    engagement    `Reward` of the events, the one that the feed is run by
    satisfaction  of one card in 200 the person is asked; 200 times the answer, 0 to 1, so that the
                  expectation is their satisfaction after every card
    retention     at a session's end day_discount^gap, 0 if they never return
    mix           alpha * watch / 20 s + beta * retention

Whichever is chosen, two fines can be taken from it, since a policy can win days by visits that
never end: `wellbeing` for what is watched of a visit beyond a limit, `night` for what is watched
between midnight and five by the person's own clock. Both are 0 unless asked for, and are what long
visits and nights may not be worth.

All components are in `info` whichever is chosen. Retention is the gap that came, which a server
can see, and not its expectation, which only the world knows: less noise would be a gift.
"""

from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np

from env.answers import Answer
from env.reward import LONG_VIEW_S, VALID_PLAY_S, Reward
from env.vocabulary import Bools, Floats

RewardName = Literal["watch", "engagement", "satisfaction", "retention", "mix"]
ASKED_SHARE = 0.005
N_STARS = 5
MEAN_WATCH_S = 20.0
LONG_VISIT_S = 3600.0
NIGHT_H = 5.0
"""The night is from midnight to this hour."""


class Worth(NamedTuple):
    """Components of a card's reward, over n people.

    Attributes:
        before_s: seconds watched in the visit before it.
        hour: at which the visit began, by the person's clock, in [0, 24).
    """

    watch_s: Floats
    engagement: Floats
    survey: Floats
    retention: Floats
    before_s: Floats
    hour: Floats


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which reward, the weights of the mix, and what is fined.

    Attributes:
        wellbeing: fine for each minute of a visit beyond `visit_limit_min`, at least 0.
        visit_limit_min: minutes of a visit that are free of it, above 0.
        night: fine for each minute watched at night, at least 0; a card is of the hour at which
            it begins.
    """

    name: RewardName = "engagement"
    alpha: float = 1.0
    beta: float = 20.0
    reward: Reward = Reward()
    wellbeing: float = 0.0
    visit_limit_min: float = LONG_VISIT_S / 60.0
    night: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an unknown name, or a bonus for long visits or nights.

        Raises:
            ValueError: it is none of `RewardName`, or a fine is not at least 0 and finite, or the
                limit not above 0.
        """
        for name in ("wellbeing", "night"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if not self.visit_limit_min > 0.0:
            raise ValueError(f"expected visit_limit_min above 0, got {self.visit_limit_min}")
        if self.name not in get_args(RewardName):
            names = ", ".join(get_args(RewardName))
            raise ValueError(f"expected a reward of {names}, got {self.name!r}")

    def of(self, worth: Worth) -> Floats:
        """Return the reward, shape (n,)."""
        reward = self._named(worth)
        if self.wellbeing:
            beyond_s = overtime_s(worth.before_s, worth.watch_s, 60.0 * self.visit_limit_min)
            reward = reward - self.wellbeing / 60.0 * beyond_s
        if self.night:
            at_night = is_night(worth.hour, worth.before_s)
            reward = reward - self.night / 60.0 * worth.watch_s * at_night
        return reward

    def _named(self, worth: Worth) -> Floats:
        match self.name:
            case "watch":
                return worth.watch_s
            case "engagement":
                return worth.engagement
            case "satisfaction":
                return worth.survey
            case "retention":
                return worth.retention
            case "mix":
                return self.alpha / MEAN_WATCH_S * worth.watch_s + self.beta * worth.retention


def overtime_s(before_s: Floats, watch_s: Floats, limit_s: float = LONG_VISIT_S) -> Floats:
    """Return how much of a card was watched beyond a limit of the visit, shape (n,).

    Args:
        before_s: watched in the visit before the card, shape (n,).
        watch_s: of the card, shape (n,).
        limit_s: of a visit.

    >>> overtime_s(np.array([3500.0, 4000.0]), np.array([130.0, 20.0])).tolist()
    [30.0, 20.0]
    """
    return np.asarray(np.clip(before_s + watch_s - limit_s, 0.0, watch_s))


def is_night(hour: Floats, before_s: Floats) -> Bools:
    """Return whether a card begins between midnight and `NIGHT_H`, shape (n,).

    Args:
        hour: at which the visit began, shape (n,).
        before_s: watched in the visit before the card, shape (n,).

    >>> is_night(np.array([23.5, 4.5, 4.9]), np.array([3600.0, 0.0, 600.0])).tolist()
    [True, True, False]
    """
    return np.asarray((hour + before_s / 3600.0) % 24.0 < NIGHT_H)


def plays(watch_s: Floats, cap_s: Floats) -> tuple[Floats, Floats]:
    """Return whether views are valid plays and long views, 0 or 1: `is_valid_play` over arrays.

    Args:
        watch_s: shape (n,).
        cap_s: durations, or a day where unknown, shape (n,).
    """
    is_done = watch_s >= cap_s
    valid_play = np.where(cap_s <= VALID_PLAY_S, is_done, watch_s > VALID_PLAY_S)
    long_view = np.where(cap_s <= LONG_VIEW_S, is_done, watch_s >= LONG_VIEW_S)
    return valid_play.astype(np.float64), long_view.astype(np.float64)


def engagement(reward: Reward, valid_play: Floats, long_view: Floats, answer: Answer) -> Floats:
    """Return `Reward.of` over arrays, shape (n,)."""
    return np.asarray(
        reward.valid_play * valid_play
        + reward.long_view * long_view
        + reward.like * answer.like
        + reward.comment * answer.comment
        + reward.share * answer.share
        + reward.follow * answer.follow
        + reward.not_interested * answer.not_interested
    )


def survey(satisfaction: Floats, uniforms: Floats) -> Floats:
    """Return the survey's reward: of those asked the answer over `ASKED_SHARE`, else 0.

    The answer is one of five stars, from 0 to 1 and rounded up or down by chance, so it is
    unbiased.

    Args:
        satisfaction: in [0, 1], shape (n,).
        uniforms: who is asked, and how they round, shape (2, n).
    """
    is_asked = uniforms[0] < ASKED_SHARE
    stars = np.floor(satisfaction * (N_STARS - 1) + uniforms[1]) / (N_STARS - 1)
    return np.where(is_asked, stars / ASKED_SHARE, 0.0)
