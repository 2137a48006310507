"""Estimators of one's own: functions like those of `replay.estimators.decisions`, held to a form.

Nothing can tell whether a function estimates what it should; docs/evaluation.md shows how to try
one where the truth is known. What can be told is whether its answer is an estimate: of finite
numbers, in order, at the level that was asked for.
"""

import math
from collections.abc import Callable

import msgspec

from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import Estimator
from replay.estimators.intervals import Estimate


def checked(name: str, function: Callable[..., object]) -> Estimator:
    """Return an estimator whose answers are checked and bear this name.

    Args:
        name: MODULE:FUNCTION.
        function: takes columns, predictions and a level, and returns an `Estimate`.
    """

    def estimate(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
        """Return the function's estimate.

        Raises:
            ValueError: the function fails, or its answer is no estimate.
        """
        try:
            found = function(columns, predictions, level)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise ValueError(f"{name} raised {type(error).__name__}: {text}") from error
        if not isinstance(found, Estimate):
            raise ValueError(  # noqa: TRY004 - as its other misfits
                f"{name}: expected an Estimate (replay.estimators.intervals), "
                f"got {type(found).__name__}"
            )
        return _checked(name, found, level)

    return estimate


def _checked(name: str, found: Estimate, level: float) -> Estimate:
    """Return an estimate under a name, its numbers as plain ones.

    Raises:
        ValueError: see `checked`.
    """
    if not all(math.isfinite(number) for number in (found.value, found.se, found.ess)):
        raise ValueError(f"{name}: expected finite value, se and ess, got {found}")
    if not found.low <= found.value <= found.high:
        raise ValueError(
            f"{name}: expected low <= value <= high, "
            f"got {found.low:g}, {found.value:g}, {found.high:g}"
        )
    if found.level != level:
        raise ValueError(f"{name}: expected an interval of level {level:g}, got {found.level:g}")
    numbers = {key: float(getattr(found, key)) for key in ("value", "se", "low", "high", "ess")}
    counts = {"n": int(found.n), "n_users": int(found.n_users)}
    return msgspec.structs.replace(found, estimator=name, **numbers, **counts)
