"""The full world with other constants: all moved at random, or what is slow switched off.

A policy that wins in one world only has learned its constants. Each is moved by a factor of its
own, uniform in [.75, 1.25], in the unit in which a quarter means something: probabilities and
log-odds in their odds, logarithms of seconds in seconds, decays in what they lose, all else as it
stands. Moved are how people answer, how they change and differ, and what is uploaded; not the
number of items and creators, the days and their discount, and how well the server guesses bait.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import asdict, replace

from env.presets import Preset

QUARTER = 0.25

_PROBABILITIES = frozenset(
    {
        "zero", "loop", "like_skipped", "comment", "comment_skipped", "share", "share_skipped",
        "follow_liked", "follow", "follow_skipped", "not_interested", "recovery", "return_classes",
        "daily_share", "churn", "newcomers", "drift_back", "creator_effect", "creator_focus",
        "local_share",
    }
)  # fmt: skip
_LOG_ODDS = frozenset({"like", "exit", "intercept"})
_LOGARITHMS = frozenset({"skip_mu", "watch_mu", "log_duration_mu"})
_DECAYS = frozenset({"satiation_decay", "load_decay"})
_KEPT = frozenset(
    {
        "n_items", "n_creators", "n_dims", "least_s", "most_s", "a_day", "audience", "give_up",
        "exposures_per_swipe", "cohorts", "devices", "return_watch_s",
    }
)  # fmt: skip


def move_constants(preset: Preset, seed: int) -> Preset:
    """Return a world all of whose constants are moved by up to a quarter, see the module.

    Args:
        preset: of the world.
        seed: of the factors.
    """
    rng = np.random.default_rng(seed)
    parts = ("rates", "moods", "priors", "uploads", "population")
    moved = {name: _move_fields(getattr(preset, name), rng) for name in parts}
    cohorts = {
        name: _move_fields(c, rng, {"share", "peak_hours"})
        for name, c in preset.population.cohorts.items()
    }
    moved["population"] = replace(moved["population"], cohorts=cohorts)
    return replace(
        preset,
        name=f"{preset.name} moved {seed}",
        intercept=_moved("intercept", preset.intercept, rng),
        duration=_moved("duration", preset.duration, rng),
        **moved,
    )


def still(preset: Preset) -> Preset:
    """Return a world without what is slow: satisfaction stays, and no topic tires.

    Whoever looks one card ahead loses next to nothing there.
    """
    return replace(
        preset,
        name=f"{preset.name} still",
        moods=replace(
            preset.moods, satisfaction_step=0.0, satisfaction_noise=0.0, exit_satiation=0.0
        ),
        rates=replace(preset.rates, satiation=0.0),
    )


def _move_fields(part: Any, rng: np.random.Generator, kept: Any = _KEPT) -> Any:
    """Return a record with each of its constants moved."""
    values = asdict(part).items()
    return replace(part, **{n: _moved(n, v, rng) for n, v in values if n not in kept})


def _moved(name: str, value: Any, rng: np.random.Generator) -> Any:
    """Return a constant or a tuple or table of them, each moved by a factor of its own."""
    if isinstance(value, dict):
        return {key: _moved(name, one, rng) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(name, one, rng) for one in value)
    return _scaled(name)(value, float(rng.uniform(1.0 - QUARTER, 1.0 + QUARTER)))


def _scaled(name: str) -> Callable[[float, float], float]:
    """Return what a factor does to a constant of this name."""
    if name in _PROBABILITIES:
        return lambda value, factor: value * factor / (1.0 - value + value * factor)
    if name in _LOG_ODDS | _LOGARITHMS:
        return lambda value, factor: value + float(np.log(factor))
    if name in _DECAYS:
        return lambda value, factor: 1.0 - (1.0 - value) * factor
    return lambda value, factor: value * factor
