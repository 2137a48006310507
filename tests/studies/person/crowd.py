"""What following a person costs the crowd: reward a card in the KuaiRand world, over without it.

Both are the real pipeline in front of the same users and items, paired by seed; a card counts with
its exact expected reward (`tests.studies.served_world`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from env.world.presets import load
from serve.config import Config
from tests.studies.person.settings import without_following
from tests.studies.served_world.paired import ratio_of
from tests.studies.served_world.world import ServedWorld, WorldSize

Advance = Callable[[str, int, int], None]
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at .975 of 1 to 9 degrees of freedom."""


class CrowdSize(msgspec.Struct, frozen=True):
    """How much of the KuaiRand world is played; no seeds: nothing."""

    seeds: int = 5
    cards: int = 30_000
    users: int = 1_000


@dataclass(frozen=True, slots=True)
class CrowdRatio:
    """A mean ratio of paired seeds, with its lower 95% bound."""

    value: float
    low: float


def crowd_ratio(
    size: CrowdSize, *, seed: int, config: Config, advance: Advance
) -> CrowdRatio | None:
    """Return reward a card with the settings over without following; None for no seeds."""
    if not size.seeds:
        return None
    logs, errors = [], []
    for k in range(size.seeds):
        new, before = (
            _play(size, seed + k, some, advance) for some in (config, without_following(config))
        )
        ratio = ratio_of(new.shown, before.shown)
        logs.append(math.log(ratio.value))
        errors.append(ratio.se / ratio.value)
    return combined(logs, errors)


def combined(logs: list[float], errors: list[float]) -> CrowdRatio:
    """Return the geometric mean of ratios and its lower bound.

    Args:
        logs: of the ratios, by seed.
        errors: standard errors of these by users; they count where there is one seed only.

    >>> combined([0.0, 0.0], [0.1, 0.1]).low
    1.0
    """
    n, mean = len(logs), float(np.mean(logs))
    if n == 1:
        return CrowdRatio(math.exp(mean), math.exp(mean - 1.96 * errors[0]))
    t = _T_975[min(n - 1, len(_T_975)) - 1]
    se = float(np.std(logs, ddof=1)) / math.sqrt(n)
    return CrowdRatio(math.exp(mean), math.exp(mean - t * se))


def _play(size: CrowdSize, seed: int, config: Config, advance: Advance) -> ServedWorld:
    world = ServedWorld(
        WorldSize(users=size.users, cards_a_day=size.cards),
        preset=load("kuairand"),
        seed=seed,
        config=config,
    )
    world.run(size.cards, lambda n: advance(f"the crowd of seed {seed}", n, size.cards))
    return world
