"""Trains rankers for retention by search, and says what they are worth to people they never met.

    folder/training.json          the arguments; a training of others is refused
    folder/search.json            what was found so far
    folder/ranker.safetensors     with its manifest: what `nextswipe retention publish` takes

In the end people of their own live under the ranker, as it will be served and in the columns that
it was trained on, under the bandit that the search began at, and under chance: the same people,
with the same luck. Arguments, weights and figures stand in the manifest.
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
    """What people's lives were under a policy.

    Attributes:
        policy: its name.
        active_days: with a session, a person.
        d30: share of people who had a session on day 30.
    """

    policy: str
    active_days: float
    d30: float


class Worth(msgspec.Struct, frozen=True):
    """What a ranker is worth to people it was not trained with.

    Attributes:
        people: how many.
        days: of their lives.
        lives: under the ranker, the myopic bandit and chance.
        gain_over_myopic: in active days, relative.
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
    """What came of a training.

    Attributes:
        ranker: path of the file.
        seed: of the training.
        seconds: that it took since it was begun or resumed, judging apart.
        worth: of the ranker.
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
    """Train a ranker by search, judge it and write it.

    Args:
        args: of the training.
        folder: of the training; made if it is not there.
        resume: go on with the training that the folder holds; else it must hold none.
        advance: told of progress.

    Raises:
        Refused: the folder holds a training and shall not be resumed, or one of other arguments.
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
    """Return what a ranker is worth to people whom it was not trained with.

    Args:
        args: of its training.
        searched: what came of it.
        advance: told of progress.
    """
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
