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

from env.observation import ObsMode
from env.played_lives import PlayedLives, play_lives
from env.presets import load
from policies.retention.rankings import AtRandom, Network, Weights
from policies.retention.search_args import SearchedArgs
from policies.retention.search_job import Advance, Searched, train_by_search
from policies.retention.training_folder import RANKER, holds_training
from serve.refused import Refused
from serve.retention_gains import Gain, gain_in_d30, gain_in_days


class Lived(msgspec.Struct, frozen=True):
    """Retention of users under a policy.

    Attributes:
        active_days: days with a session, per user.
        d30: share of users with a session on day 30.
    """

    policy: str
    active_days: float
    d30: float


class Worth(msgspec.Struct, frozen=True):
    """Evaluation of a ranker on held-out users.

    Attributes:
        days: length of their lives.
        lives: retention under the ranker, the myopic bandit and chance.
        gain_over_myopic: relative gain in active days.
        gain_over_chance: likewise.
        d30_over_myopic: difference of shares.
    """

    people: int
    days: int
    lives: tuple[Lived, ...]
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
    worth: Worth


def search_retention(
    args: SearchedArgs,
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
        Refused: the folder holds a training and `resume` is not set, or one of other arguments.
    """
    if holds_training(folder) and not resume:
        raise Refused(f"{folder} holds a training: expected --resume, or another folder")
    try:
        searched = train_by_search(args, folder=folder, advance=advance)
    except ValueError as error:
        raise Refused(str(error)) from error
    worth = judge(args, searched, advance)
    path = folder / RANKER
    made = {"training": args, "weights": searched.weights.weights, "worth": worth}
    searched.ranker.to_file(path, msgspec.to_builtins(made))
    return SearchOutcome(str(path), args.seed, searched.seconds, worth)


def judge(
    args: SearchedArgs,
    searched: Searched,
    advance: Advance = lambda stage, done, total: None,
) -> Worth:
    """Return the evaluation of a ranker on held-out users."""
    preset, people, seed = load(args.preset), args.held_out, args.seed
    policies: dict[str, tuple[Network | Weights | AtRandom, ObsMode]] = {
        "ranker": (
            Network(searched.ranker.to_bytes()),
            "feed" if args.columns == "feed" else "dict",
        ),
        "myopic": (searched.myopic, "dict"),
        "chance": (AtRandom(), "dict"),
    }
    lives: dict[str, PlayedLives] = {}
    for name, (policy, obs) in policies.items():
        lives[name] = play_lives(preset, policy.open(seed), people, obs=obs)
        advance("judge", len(lives), len(policies))
    mine, myopic = lives["ranker"], lives["myopic"]
    return Worth(
        people=people.n,
        days=people.days,
        lives=tuple(
            Lived(name, float(under.active_days.mean()), float(under.day_30.mean()))
            for name, under in lives.items()
        ),
        gain_over_myopic=gain_in_days(mine, myopic),
        gain_over_chance=gain_in_days(mine, lives["chance"]),
        d30_over_myopic=gain_in_d30(mine, myopic),
    )
