"""Policies of SwipeEnv to choose from: what a team could have on the table.

All are soft, so that what they do can be evaluated, and some are near neighbours of each other: a
choice between them is a choice. They see what a server sees.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from env.choosers import mixed_scores, myopic_scores
from env.vocabulary import Floats
from policies.pmfs import softmax
from serve.bench.swipe_logs import Pmf, feature, known_of

FLOOR = 0.02
LOGGING_FLOOR = 0.2


def logging_pmf(observation: Mapping[str, Any]) -> Floats:
    """Return the logging policy's pmfs, shape (n, K): a mild taste, a fifth spread evenly."""
    return softmax(myopic_scores(observation), 0.15, LOGGING_FLOOR)


def uniform_pmf(observation: Mapping[str, Any]) -> Floats:
    """Return the same probability for each candidate, shape (n, K)."""
    shape = observation["mask"].shape
    return np.full(shape, 1.0 / shape[1])


def _by(name: str, temperature: float) -> Pmf:
    """Return a policy that goes by one thing that is known of candidates."""
    place, sign = feature(name.removeprefix("-")), -1.0 if name.startswith("-") else 1.0
    return lambda observation: softmax(
        sign * known_of(observation)[..., place].astype(np.float64), temperature, FLOOR
    )


def _myopic(temperature: float) -> Pmf:
    return lambda observation: softmax(myopic_scores(observation), temperature, FLOOR)


def _mixed(temperature: float) -> Pmf:
    return lambda observation: softmax(mixed_scores(observation), temperature, FLOOR)


TARGETS: Mapping[str, Pmf] = MappingProxyType(
    {
        "uniform": uniform_pmf,
        "fresh": _by("-log_age", 0.4),
        "varied": _by("-seen_topic", 0.3),
        "popular": _by("valid_play_log_odds", 0.2),
        "long views": _by("long_view_rate", 0.04),
        "match": _by("match", 0.2),
        "mixed .1": _mixed(0.1),
        "mixed .05": _mixed(0.05),
        "myopic .3": _myopic(0.3),
        "myopic .1": _myopic(0.1),
        "myopic .05": _myopic(0.05),
        "myopic .03": _myopic(0.03),
    }
)
"""Twelve policies, with the temperature of their softmax."""
