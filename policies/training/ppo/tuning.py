"""A random search over training settings by Ray Tune, on this machine or over a cluster.

A setting is evaluated by the mean return of lives under its ranker, with the same users for all.
Several settings differ by less than chance, so train the best one with other seeds before you
believe it. Rejected alternatives: `docs/decisions/ppo-training.md`.
"""

from pathlib import Path
from typing import Any

import msgspec
from ray import tune

from policies.training.lived import life_returns
from policies.training.ppo.job import running_ray, train
from policies.training.settings import RetentionArgs
from policies.training.worlds import TRIED, open_world

N_PEOPLE = 256
"""Users by whom settings are evaluated."""

_JUDGED_BY = "life_return"


class TuningTrial(msgspec.Struct, frozen=True):
    """An evaluated setting."""

    numbers: dict[str, float]  # the drawn values, by their names in `RetentionArgs`
    life_return: float  # mean discounted return of lives under its ranker


def tune_retention(
    args: RetentionArgs, n_trials: int, folder: Path, *, address: str | None = None
) -> list[TuningTrial]:
    """Train with settings drawn at random; return them, the best one first.

    Args:
        args: learning rate, entropy, clip and width are replaced.

    Raises:
        RuntimeError: a training failed.
    """

    def trial(numbers: dict[str, float]) -> None:
        trained = train(msgspec.structs.replace(args, **numbers))
        returns = life_returns(trained.ranker, open_world(args.world), N_PEOPLE, TRIED)
        tune.report({_JUDGED_BY: float(returns.mean())})

    tuner = tune.Tuner(
        trial,
        param_space={
            "lr": tune.loguniform(5e-4, 1e-2),
            "entropy": tune.loguniform(1e-3, 5e-2),
            "clip": tune.uniform(0.1, 0.4),
            "hidden": tune.choice([32, 64, 128]),
        },
        tune_config=tune.TuneConfig(metric=_JUDGED_BY, mode="max", num_samples=n_trials),
        run_config=tune.RunConfig(name="tuning", storage_path=str(folder.absolute()), verbose=0),
    )
    with running_ray(address):
        results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"{results.num_errors} of {n_trials} failed: {results.errors[0]}")
    trials = [_trial(results[place]) for place in range(len(results))]
    return sorted(trials, key=lambda tried: tried.life_return, reverse=True)


def _trial(result: Any) -> TuningTrial:
    return TuningTrial(dict(result.config), float(result.metrics[_JUDGED_BY]))
