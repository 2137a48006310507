"""A small preset for tests of SwipeEnv, and what they share."""

from typing import Any

import numpy as np

from env.gym.observation import Observation
from env.gym.vector import SwipeVectorEnv
from env.world.presets import Cohort, Population, Preset, UploadRates

PRESET = Preset(
    name="small",
    source="tests",
    population=Population(
        {
            "high_active": Cohort(share=0.5, daily_share=0.7, lean=0.2),
            "low_active": Cohort(share=0.4, daily_share=0.3, peak_hours=(9.0, 23.0)),
            "new": Cohort(share=0.1, daily_share=0.2),
        },
        newcomers=0.3,
    ),
    uploads=UploadRates(n_items=600, n_creators=40, a_day=30.0, audience=10),
    horizon_days=6,
)


def make(n: int, **arguments: Any) -> SwipeVectorEnv:
    """Return an environment of n users in the small world."""
    return SwipeVectorEnv(n, **{"preset": PRESET, **arguments})


def is_same(batch: Observation, one: Observation, index: int) -> bool:
    """Return whether a user's part of a batch is this observation, bit for bit."""
    if isinstance(batch, dict):
        assert isinstance(one, dict)
        return all(np.array_equal(batch[name][index], one[name]) for name in one | batch)
    assert not isinstance(one, dict)
    return np.array_equal(batch[index], one)


def as_parts(observation: Observation) -> dict[str, Any]:
    """Return a dict observation as what it is."""
    assert isinstance(observation, dict)
    return observation
