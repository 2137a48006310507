"""When a person comes back, at which hour, and how their interests have wandered by then.

    gap      D ~ Geom(p) in days, by inversion: 1 + floor(ln(1 - u) / ln(1 - p))
    hour     around one of the cohort's two peaks, normal and wrapped at midnight
    interest z = own + w,  w <- a^D w + sigma sqrt((1 - a^(2 D)) / (1 - a^2)) N,  a = 1 - drift_back

The last is the exact law over D days of an Ornstein-Uhlenbeck step a day, so its spread about the
person's own taste stays at sigma / sqrt(1 - a^2), however long the life. Numbers or arrays.
"""

import numpy as np

from env.presets import Population
from env.reals import Reals
from env.vocabulary import Floats

DAY_H = 24.0
LONGEST_GAP = 3_650.0
SHORTEST_AWAY = 0.25
"""Days that lie between two sessions at least, whatever their hours."""


def gap_days(chance: Reals, uniform: Reals) -> Floats:
    """Return the days until the next visit, whole and at least 1.

    Args:
        chance: of a return on each following day, in (0, 1).
        uniform: in [0, 1).
    """
    days = np.floor(np.log1p(-np.asarray(uniform)) / np.log1p(-np.asarray(chance)))
    return np.asarray(np.minimum(1.0 + days, LONGEST_GAP))


def visit_hour(peaks: Floats, sd_h: float, uniform: Reals, normal: Reals) -> Floats:
    """Return the hour of a visit, in [0, 24).

    Args:
        peaks: hours of the two peaks, shape (2,) or (2, n).
        sd_h: of the hour around a peak.
        uniform: in [0, 1): which peak.
        normal: standard normal.
    """
    peak = np.where(np.asarray(uniform) < 0.5, peaks[0], peaks[1])
    return np.asarray(np.mod(peak + sd_h * np.asarray(normal), DAY_H))


def days_away(gap: Reals, left_hour: Reals, hour: Reals) -> Floats:
    """Return the time between two sessions in days, of their gap and hours."""
    away = np.asarray(gap) + (np.asarray(hour) - np.asarray(left_hour)) / DAY_H
    return np.asarray(np.maximum(away, SHORTEST_AWAY))


def wander(
    population: Population, drift: Floats, taste_sd: float, days: Reals, normals: Floats
) -> Floats:
    """Return how far interests are from the person's own taste after some days.

    Args:
        population: how fast they drift.
        drift: before, shape (VECTOR_DIM,) or (VECTOR_DIM, n).
        taste_sd: between people; the drift is a share of it.
        days: that passed, > 0, shape () or (n,).
        normals: standard normal, of the shape of `drift`.
    """
    stay = 1.0 - population.drift_back
    kept = np.exp(np.asarray(days) * np.log(stay))
    spread = np.sqrt((1.0 - kept * kept) / (1.0 - stay * stay))
    return np.asarray(kept * drift + population.drift * taste_sd * spread * normals)
