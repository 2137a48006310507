"""Training of retention rankers by search, and their evaluation on held-out simulated users.

    folder/training.json          the arguments; another training is refused
    folder/search.json            the search so far
    folder/ranker.safetensors     the ranker with its manifest, for `nextswipe retention publish`

Held-out users live under the ranker as it will be served, under the myopic bandit that the search
began at, and under chance, with common random numbers. Arguments, weights and results are in the
manifest.
"""

from pathlib import Path

import msgspec
import numpy as np

from env.gym.observation import ObsMode
from env.report.played_lives import EvaluationRollouts, evaluation_rollouts
from env.vocabulary import Floats
from env.world.presets import load
from policies.training.rankings import NetworkRanking, RandomRanking, WeightedRanking
from policies.training.search.job import Advance, SearchResult, train_by_search
from policies.training.search.settings import SearchTrainingArgs
from policies.training.training_folder import RANKER, holds_training
from replay.estimators.intervals import t_quantile
from serve.errors import JobError

LEVEL = 0.95


class Gain(msgspec.Struct, frozen=True):
    """A difference between two policies with its 95% interval.

    Attributes:
        value: relative difference, or difference of shares.
    """

    value: float
    low: float
    high: float


def gain_in_days(mine: EvaluationRollouts, theirs: EvaluationRollouts) -> Gain:
    """Return the relative gain in active days of `mine` over `theirs`."""
    a, b = mine.active_days, theirs.active_days
    ratio = a.mean() / b.mean()
    return _gain(float(ratio - 1.0), ratio * (a / a.mean() - b / b.mean()))


def gain_in_d30(mine: EvaluationRollouts, theirs: EvaluationRollouts) -> Gain:
    """Return the difference in the share of users active on day 30."""
    difference = mine.day_30 - theirs.day_30
    return _gain(float(difference.mean()), difference)


def _gain(value: float, influence: Floats) -> Gain:
    n = len(influence)
    half = t_quantile(LEVEL, n - 1) * float(influence.std(ddof=1) / np.sqrt(n))
    return Gain(value, value - half, value + half)


class PolicyRetention(msgspec.Struct, frozen=True):
    """Retention of users under a policy.

    Attributes:
        active_days: days with a session, per user.
        d30: share of users with a session on day 30.
    """

    policy: str
    active_days: float
    d30: float


class RankerEvaluation(msgspec.Struct, frozen=True):
    """Evaluation of a ranker on held-out users.

    Attributes:
        days: length of their lives.
        lives: retention under the ranker, the myopic bandit and chance.
        gain_over_myopic: relative gain in active days.
        gain_over_chance: likewise.
        d30_over_myopic: difference of shares.
    """

    users: int
    days: int
    lives: tuple[PolicyRetention, ...]
    gain_over_myopic: Gain
    gain_over_chance: Gain
    d30_over_myopic: Gain


class SearchOutcome(msgspec.Struct, frozen=True):
    """Outcome of a training.

    Attributes:
        seconds: time since it began or resumed, without the evaluation.
        worth: evaluation of the ranker.
    """

    ranker: str
    seed: int
    seconds: float
    worth: RankerEvaluation

    def lines(self) -> list[str]:
        """Return the outcome in words."""
        worth, d30 = self.worth, self.worth.d30_over_myopic
        lines = [
            f"{self.seconds:.0f} s: {self.ranker}",
            f"{worth.users:,} users it was not trained with, {worth.days} days:",
        ]
        lines += [
            f"  {lived.policy:7} {lived.active_days:6.2f} active days, D30 {lived.d30:.3f}"
            for lived in worth.lives
        ]
        for over, gain in (("myopic", worth.gain_over_myopic), ("chance", worth.gain_over_chance)):
            bounds = f"[{gain.low:+.1%}, {gain.high:+.1%}]"
            lines.append(f"active days over {over}: {gain.value:+.1%} {bounds}")
        return [*lines, f"D30 over myopic: {d30.value:+.3f} [{d30.low:+.3f}, {d30.high:+.3f}]"]


def search_retention(
    args: SearchTrainingArgs,
    folder: Path,
    *,
    resume: bool = False,
    advance: Advance = lambda stage, done, total: None,
) -> SearchOutcome:
    """Train a ranker by search, evaluate it and write it.

    Args:
        folder: folder of the training; created if missing.
        resume: continue the training in the folder; otherwise it must hold none.

    Raises:
        JobError: the folder holds a training and `resume` is not set, or one of other arguments.
    """
    if holds_training(folder) and not resume:
        raise JobError(f"{folder} holds a training: expected --resume, or another folder")
    try:
        searched = train_by_search(args, folder=folder, advance=advance)
    except ValueError as error:
        raise JobError(str(error)) from error
    worth = judge(args, searched, advance)
    path = folder / RANKER
    made = {"training": args, "weights": searched.weights.weights, "worth": worth}
    searched.ranker.to_file(path, msgspec.to_builtins(made))
    return SearchOutcome(str(path), args.seed, searched.seconds, worth)


def judge(
    args: SearchTrainingArgs,
    searched: SearchResult,
    advance: Advance = lambda stage, done, total: None,
) -> RankerEvaluation:
    """Return the evaluation of a ranker on held-out users."""
    preset, users, seed = load(args.preset), args.held_out, args.seed
    policies: dict[str, tuple[NetworkRanking | WeightedRanking | RandomRanking, ObsMode]] = {
        "ranker": (
            NetworkRanking(searched.ranker.to_bytes()),
            "feed" if args.columns == "feed" else "dict",
        ),
        "myopic": (searched.myopic, "dict"),
        "chance": (RandomRanking(), "dict"),
    }
    lives: dict[str, EvaluationRollouts] = {}
    for name, (policy, obs) in policies.items():
        lives[name] = evaluation_rollouts(preset, policy.open(seed), users, obs=obs)
        advance("judge", len(lives), len(policies))
    mine, myopic = lives["ranker"], lives["myopic"]
    return RankerEvaluation(
        users=users.n,
        days=users.days,
        lives=tuple(
            PolicyRetention(name, float(under.active_days.mean()), float(under.day_30.mean()))
            for name, under in lives.items()
        ),
        gain_over_myopic=gain_in_days(mine, myopic),
        gain_over_chance=gain_in_days(mine, lives["chance"]),
        d30_over_myopic=gain_in_d30(mine, myopic),
    )
