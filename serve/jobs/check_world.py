"""Runs every check of a simulated world and of its exact twin, see `env.calibration.checks`."""

from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np

from env.calibration.checks import CLICK_AUC, Check, check, check_cohorts, check_moments
from env.calibration.click_model import Histories, holdout_auc
from env.calibration.simulated import PooledStatistics, count, simulate
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.twin.checks import (
    CONTROL_WITHIN,
    MYOPIC_AT_MOST,
    STANDARD_ERRORS,
    TAU_AT_LEAST,
    change_constants,
    check_separation,
    compare_with_rollouts,
    one_equals_many,
    repeats,
)
from env.twin.policies import SAME
from env.vocabulary import Ints
from env.world.log_statistics import LogStatistics
from env.world.presets import Preset
from serve.errors import JobError

Advance = Callable[[int], None]
"""Called with the cards simulated since the last call; the other checks count as as many again."""

SAME_PEOPLE, SAME_STEPS, SAME_DAYS = 16, 400, 5
"""Enough steps for several lives each, because the lives after an end must be equal too."""


class Sizes(msgspec.Struct, frozen=True):
    """Sizes of the simulations.

    Attributes:
        cards: minimum number of cards for V1.
        twins: users per policy in the exact twin, for V3.
        clickers: users that the click model learns from.
        clicked_cards: cards of each that it learns and predicts.
        clicked_days: days within which they see them.
    """

    cards: int = 6_000_000
    twins: int = 1_000
    clickers: int = 4_000
    clicked_cards: int = 600
    clicked_days: int = 75


class WorldChecks(msgspec.Struct, frozen=True):
    """All checks of a world.

    Attributes:
        moments: summary statistics of the simulated log.
        survival: P(session length > 0), P(> 1), ... in it.
    """

    preset: str
    passed: bool
    checks: list[Check]
    moments: LogStatistics
    survival: tuple[float, ...]


def check_world(preset: Preset, seed: int, sizes: Sizes, advance: Advance) -> WorldChecks:
    """Return the checks of a world.

    Args:
        preset: world with its target summary statistics.

    Raises:
        JobError: the preset has no summary statistics, or follows other laws.
    """
    if preset.moments is None:
        raise JobError(
            f"the preset {preset.name} was made from no moments, so there is nothing to hold it "
            "against; kuairand and daily have some, and so has what `nextswipe world fit` writes"
        )
    if preset.laws != "swipe":
        raise JobError(f"the preset {preset.name} follows other laws, whose moments are their own")
    counted = count(preset, sizes.cards, seed, advance=advance)
    rows = check_moments(counted.moments, preset.moments)
    rows += check_cohorts(
        counted.cohorts.tolist(), preset.population.shares(), preset.moments.cohorts
    )
    others = (
        _separation,
        partial(_twin, sizes, seed),
        partial(_bits, preset, seed),
        _sensitivity,
        partial(_clicks, preset, seed, sizes),
    )
    for part in others:
        rows += part()
        advance(sizes.cards // len(others))
    return WorldChecks(
        preset=preset.name,
        passed=all(row.passed for row in rows),
        checks=rows,
        moments=counted.moments,
        survival=_short(counted),
    )


def _separation() -> list[Check]:
    found = check_separation()
    beyond, control = 1.0 - SAME, 1.0 - CONTROL_WITHIN
    rows = [
        check("V2", f"{name}, share of the optimum for {objective}", share, 0.0, most)
        for name, shares, most in (
            ("myopic", found.myopic, MYOPIC_AT_MOST),
            ("session-optimal", found.session_optimal, beyond),
            ("best constant", found.best_constant, beyond),
        )
        for objective, share in shares.items()
    ]
    return [
        *rows,
        check("V2", "myopic where nothing is slow", found.control, control, 1.0 + SAME),
    ]


def _twin(sizes: Sizes, seed: int) -> list[Check]:
    return [
        check("V3", f"{row.policy}, {row.objective}: z", row.z, -STANDARD_ERRORS, STANDARD_ERRORS)
        for row in compare_with_rollouts(sizes.twins, seed)
    ]


def _bits(preset: Preset, seed: int) -> list[Check]:
    def same(name: str, holds: bool) -> Check:
        return check("V4", name, float(holds), 1.0, 1.0)

    return [
        same("same seed, same bits", _runs_equal(preset, seed)),
        same("one user alone as among many", _alone_equals_many(preset, seed)),
        same("twin: same seed, same bits", repeats(seed)),
        same("twin: one user alone as among many", one_equals_many(seed)),
    ]


def _sensitivity() -> list[Check]:
    """Return one row for the judged changes together, and one for each unjudged change."""
    changes = change_constants()
    judged = [change for change in changes if change.judged]
    worst = min(judged, key=lambda change: change.least)
    name = (
        f"twin: least Kendall tau of {len(judged)} changes in value, odds, premium or loss "
        f"({worst.constant}, {worst.unit} x {worst.factor:g})"
    )
    told = [
        Check(
            "V5",
            f"twin: {change.constant}, as it stands x {change.factor:g}",
            change.least,
            TAU_AT_LEAST,
            1.0,
            "unjudged",
        )
        for change in changes
        if not change.judged
    ]
    return [check("V5", name, worst.least, TAU_AT_LEAST, 1.0), *told]


def _clicks(preset: Preset, seed: int, sizes: Sizes) -> list[Check]:
    run = simulate(preset, sizes.clickers, seed, days=sizes.clicked_days)
    auc = holdout_auc(Histories.of(run.impressions, sizes.clicked_cards), run.vectors)
    return [check("V6", "click model, AUC held out", auc, *CLICK_AUC)]


def _runs_equal(preset: Preset, seed: int) -> bool:
    one, other = (_digest(preset, seed) for _ in range(2))
    return one == other


def _digest(preset: Preset, seed: int) -> bytes:
    """Return all observations and rewards of a short run, as bytes."""
    env = SwipeVectorEnv(SAME_PEOPLE, preset=preset, obs="flat", horizon_days=SAME_DAYS)
    seen, _ = env.reset(seed=seed)
    parts = [np.asarray(seen).tobytes()]
    for actions in _actions(seed):
        seen, reward, *_ = env.step(actions)
        parts += [np.asarray(seen).tobytes(), reward.tobytes()]
    return b"".join(parts)


def _alone_equals_many(preset: Preset, seed: int) -> bool:
    """Return whether the first and last user of a vector live as they do alone, life after life."""
    many = SwipeVectorEnv(SAME_PEOPLE, preset=preset, obs="flat", horizon_days=SAME_DAYS)
    places = (0, SAME_PEOPLE - 1)
    alone = [SwipeEnv(preset=preset, obs="flat", horizon_days=SAME_DAYS) for _ in places]
    together = np.asarray(many.reset(seed=seed)[0])
    for place, env in zip(places, alone, strict=True):
        if not np.array_equal(np.asarray(env.reset(seed=seed + place)[0]), together[place]):
            return False
    over = dict.fromkeys(places, False)
    for actions in _actions(seed):
        seen, reward, terminated, truncated, _ = many.step(actions)
        for place, env in zip(places, alone, strict=True):
            if over[place]:
                own, outcome = env.reset()[0], (0.0, False, False)
            else:
                own, worth, ended, cut, _ = env.step(int(actions[place]))
                outcome = (worth, ended, cut)
            over[place] = outcome[1] or outcome[2]
            if outcome != (reward[place], terminated[place], truncated[place]):
                return False
            if not np.array_equal(np.asarray(own), np.asarray(seen)[place]):
                return False
    return True


def _actions(seed: int) -> list[Ints]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 20, (SAME_STEPS, SAME_PEOPLE)))


def _short(counted: PooledStatistics) -> tuple[float, ...]:
    """Return the survival of sessions, as far as a picture shows it."""
    return tuple(counted.survival[:200].round(6).tolist())
