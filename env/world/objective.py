"""The reward of an environment's step: one of five, computed from the same components.

    watch         seconds watched
    engagement    `Reward` of the events, as the feed uses it
    satisfaction  survey of one card in 200, weighted by 200
    retention     at a session's end day_discount^gap, 0 if the user never returns
    mix           alpha * watch / 20 s + beta * retention

Two optional fines count watch time beyond a visit limit (`wellbeing`) and at night (`night`).

Reasons: `docs/decisions/gym-rewards.md`.
"""

from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np

from env.feedback import DRAWN_REACTIONS
from env.reward import LONG_VIEW_S, VALID_PLAY_S, Reward
from env.vocabulary import Bools, Floats
from env.world.answers import Answer

RewardName = Literal["watch", "engagement", "satisfaction", "retention", "mix"]
ASKED_SHARE = 0.005
N_STARS = 5
MEAN_WATCH_S = 20.0
LONG_VISIT_S = 3600.0
NIGHT_H = 5.0
"""The night is from midnight to this hour."""


class RewardComponents(NamedTuple):
    """Components of a card's reward, over n users."""

    watch_s: Floats
    engagement: Floats
    survey: Floats
    retention: Floats
    before_s: Floats  # watched in the visit before the card
    hour: Floats  # of the visit's start, by the user's clock, in [0, 24)


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choice of reward, the weights of the mix, and the fines."""

    name: RewardName = "engagement"
    alpha: float = 1.0
    beta: float = 20.0
    reward: Reward = Reward()
    wellbeing: float = 0.0  # fine per minute of a visit beyond the limit
    visit_limit_min: float = LONG_VISIT_S / 60.0  # minutes without that fine
    night: float = 0.0  # fine per minute watched at night, by a card's starting hour

    def __post_init__(self) -> None:
        """Refuse an unknown name, or a bonus for long visits or nights.

        Raises:
            ValueError: the name is not a `RewardName`, a fine is negative or infinite, or the limit
                is not above 0.
        """
        for name in ("wellbeing", "night"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if not self.visit_limit_min > 0.0:
            raise ValueError(f"expected visit_limit_min above 0, got {self.visit_limit_min}")
        if self.name not in get_args(RewardName):
            names = ", ".join(get_args(RewardName))
            raise ValueError(f"expected a reward of {names}, got {self.name!r}")

    def of(self, worth: RewardComponents) -> Floats:
        """Return the reward, shape (n,)."""
        reward = self._named(worth)
        if self.wellbeing:
            beyond_s = overtime_s(worth.before_s, worth.watch_s, 60.0 * self.visit_limit_min)
            reward = reward - self.wellbeing / 60.0 * beyond_s
        if self.night:
            at_night = is_night(worth.hour, worth.before_s)
            reward = reward - self.night / 60.0 * worth.watch_s * at_night
        return reward

    def _named(self, worth: RewardComponents) -> Floats:
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
    """Return the seconds of a card that lie beyond a limit of the visit, shape (n,).

    `before_s` was watched in the visit before the card, `watch_s` of the card.

    >>> overtime_s(np.array([3500.0, 4000.0]), np.array([130.0, 20.0])).tolist()
    [30.0, 20.0]
    """
    return np.asarray(np.clip(before_s + watch_s - limit_s, 0.0, watch_s))


def is_night(hour: Floats, before_s: Floats) -> Bools:
    """Return whether a card begins between midnight and `NIGHT_H`, shape (n,).

    `hour` is the visit's start; `before_s` was watched in the visit before the card.

    >>> is_night(np.array([23.5, 4.5, 4.9]), np.array([3600.0, 0.0, 600.0])).tolist()
    [True, True, False]
    """
    return np.asarray((hour + before_s / 3600.0) % 24.0 < NIGHT_H)


def plays(watch_s: Floats, cap_s: Floats) -> tuple[Floats, Floats]:
    """Return whether views are valid plays and long views, 0 or 1, shapes (n,).

    `cap_s` holds durations, or a day where unknown; the vectorised form of `is_valid_play`.
    """
    is_done = watch_s >= cap_s
    valid_play = np.where(cap_s <= VALID_PLAY_S, is_done, watch_s > VALID_PLAY_S)
    long_view = np.where(cap_s <= LONG_VIEW_S, is_done, watch_s >= LONG_VIEW_S)
    return valid_play.astype(np.float64), long_view.astype(np.float64)


def engagement(reward: Reward, valid_play: Floats, long_view: Floats, answer: Answer) -> Floats:
    """Return `Reward.of` over arrays, shape (n,)."""
    total = reward.valid_play * valid_play + reward.long_view * long_view
    for kind in DRAWN_REACTIONS:
        total = total + getattr(reward, kind) * getattr(answer, kind)
    return np.asarray(total)


def survey(satisfaction: Floats, uniforms: Floats) -> Floats:
    """Return the survey's reward: the answer over `ASKED_SHARE` of users who are asked, else 0.

    The answer is one of five stars, scaled to 0 to 1 and rounded at random, so it is unbiased. The
    uniforms, shape (2, n), draw the survey and the rounding.
    """
    is_asked = uniforms[0] < ASKED_SHARE
    stars = np.floor(satisfaction * (N_STARS - 1) + uniforms[1]) / (N_STARS - 1)
    return np.where(is_asked, stars / ASKED_SHARE, 0.0)
