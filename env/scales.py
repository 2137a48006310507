"""Scaling of counts and times to feature columns of order 1, for one user or arrays of users.

`env.features` encodes requests with it and `env.feed_view` vectors of simulated users, so a column
means the same in both. Counts and times are on logarithmic scales, since the second visit is more
informative than the fifty-second. Rejected alternatives: `docs/decisions/feature-encoding.md`.
"""

import math
from typing import NamedTuple

import numpy as np

from env.bait import MEAN_BAIT
from env.reals import Reals, cos, either, is_below, log1p, sin
from env.vocabulary import Floats

_LOG_YEAR_H = math.log1p(24.0 * 365.0)
_LOG_YEAR_DAYS = math.log1p(365.0)
_LOG_MUCH = math.log1p(1000.0)  # rewarded impressions
_GAP_SCALE = 0.5
_BAIT_SCALE = 2.0


class PersonFacts(NamedTuple):
    """Counts of a user, or of n users as arrays, at the time of a page."""

    hour: Reals  # of the day, whole, in [0, 24), in the user's time zone
    weekday: Reals  # 0 (Monday) to 6
    position: Reals  # cards of this visit already seen; 0 begins a visit
    evidence: Reals  # decayed count of answered cards
    session_evidence: Reals  # the same of the current or last visit
    swipe_speed: Reals  # cards a minute of watching
    play_rate: Reals  # share of valid plays
    session_play_rate: Reals  # the same of the current or last visit
    last_gap: Reals  # ln(1 + days) away before this visit; 0 before the second one
    usual_gap: Reals  # mean of `last_gap` over visits, shrunk to the typical
    n_returns: Reals  # number of returns
    tenure_days: Reals  # since registration; 0 where unknown
    session_watched_s: Reals  # seconds of the current or last visit
    bait_lately: Reals  # bait of recent cards, minus `MEAN_BAIT`; 0 where unknown


def scale_person(facts: PersonFacts) -> dict[str, Reals]:
    """Return the counted columns of `env.features.SHARED`, by name."""
    begun = is_below(0.0, facts.position)
    angle = facts.hour * (2.0 * math.pi / 24.0)
    return {
        "hour_sin": sin(angle),
        "hour_cos": cos(angle),
        "weekend": is_below(4.5, facts.weekday),
        "position": log1p(facts.position) / 5.0,
        "evidence": log1p(facts.evidence) / 5.0,
        "session_evidence": log1p(facts.session_evidence * begun) / 2.5,
        "swipe_speed": log1p(facts.swipe_speed) / 4.0,
        "play_rate": facts.play_rate,
        "session_play_rate": either(begun, facts.session_play_rate, facts.play_rate),
        "last_gap": facts.last_gap * _GAP_SCALE,
        "usual_gap": facts.usual_gap * _GAP_SCALE,
        "visits": log1p(facts.n_returns) / 4.0,
        "tenure": log1p(facts.tenure_days) / _LOG_YEAR_DAYS,
        "session_watched": log1p(facts.session_watched_s * begun) / 8.0,
        "bait_lately": scale_bait(facts.bait_lately),
    }


def scale_age(hours: Floats) -> Floats:
    """Return the column `age` of items this many hours old, at least 0."""
    return np.asarray(np.log1p(hours) / _LOG_YEAR_H)


def scale_rewarded(n_rewarded: Floats) -> Floats:
    """Return the column `item_evidence` of items with so many rewarded impressions."""
    return np.asarray(np.log1p(n_rewarded) / _LOG_MUCH)


def scale_plays(plays: Floats, highest: float) -> Floats:
    """Return popularity relative to the highest of all items, in [0, 1], on a logarithmic scale."""
    if highest <= 0.0:
        return np.zeros(len(plays))
    return np.asarray(np.log1p(plays) / math.log1p(highest))


def bait_beyond_mean(bait: float | None) -> float:
    """Return an item's bait, in [0, 1], minus `MEAN_BAIT`; 0 where unknown."""
    return 0.0 if bait is None else bait - MEAN_BAIT


def scale_bait(beyond_mean: Reals) -> Reals:
    """Return the columns `bait` and `bait_lately` of bait minus `MEAN_BAIT`."""
    return beyond_mean * _BAIT_SCALE
