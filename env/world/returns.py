"""Time and hour of a simulated user's return, and the drift of interests meanwhile.

    gap      D ~ Geom(p) in days, by inversion: 1 + floor(ln(1 - u) / ln(1 - p))
    hour     around one of the cohort's two peaks, normal and wrapped at midnight

Interests follow the exact law over D days of a daily Ornstein-Uhlenbeck step around the user's own
taste, so their spread stays bounded. Functions take numbers or arrays.

Formula: `docs/decisions/world-moods.md`.
"""

import numpy as np

from env.arrays.reals import Reals
from env.vocabulary import Floats
from env.world.presets import Population

DAY_H = 24.0
LONGEST_GAP = 3_650.0
SHORTEST_AWAY = 0.25
"""Least number of days between two sessions, whatever their hours."""


def gap_days(chance: Reals, uniform: Reals) -> Floats:
    """Return the whole days until the next visit, at least 1, by inversion.

    `chance`, in (0, 1), is that of a return on each following day; `uniform` is in [0, 1).
    """
    days = np.floor(np.log1p(-np.asarray(uniform)) / np.log1p(-np.asarray(chance)))
    return np.asarray(np.minimum(1.0 + days, LONGEST_GAP))


def visit_hour(peaks: Floats, sd_h: float, uniform: Reals, normal: Reals) -> Floats:
    """Return the hour of a visit, in [0, 24), around one of two peaks: (2,) or (2, n)."""
    peak = np.where(np.asarray(uniform) < 0.5, peaks[0], peaks[1])
    return np.asarray(np.mod(peak + sd_h * np.asarray(normal), DAY_H))


def days_away(gap: Reals, left_hour: Reals, hour: Reals) -> Floats:
    """Return the time between two sessions in days, from their gap and hours."""
    away = np.asarray(gap) + (np.asarray(hour) - np.asarray(left_hour)) / DAY_H
    return np.asarray(np.maximum(away, SHORTEST_AWAY))


def drift_interests(
    population: Population, drift: Floats, taste_sd: float, days: Reals, normals: Floats
) -> Floats:
    """Return the distance of interests from the user's own taste after days > 0.

    `drift` is the distance before, shape (VECTOR_DIM,) or (VECTOR_DIM, n); its spread is a share of
    `taste_sd`.
    """
    stay = 1.0 - population.drift_back
    kept = np.exp(np.asarray(days) * np.log(stay))
    spread = np.sqrt((1.0 - kept * kept) / (1.0 - stay * stay))
    return np.asarray(kept * drift + population.drift * taste_sd * spread * normals)
