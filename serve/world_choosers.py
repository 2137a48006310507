"""Resolves the names of policies of the simulated world on the command line.

A name is that of a simple policy (`env.choosers`), the file of a ranker trained in the world
(manifest beside it), or `module:function`, a function from a seed to a chooser of `env.rollouts`. A
ranker is sampled at temperature 1, as trained; one of the feed's columns has its own screen. The
bandit of a feed is not available, since it knows only that feed's items.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from env.choosers import ChooserName, best, chooser
from env.features import N_ACTION, N_SHARED
from env.observation import Screen
from env.rollouts import Chooser
from env.vector import SwipeVectorEnv
from policies.ranker import Ranker
from serve.policy_names import entry_point
from serve.refused import Refused

MakeChooser = Callable[[int], Chooser]
"""Makes a policy from the seed of its random choices."""


def find_chooser(name: str, env: SwipeVectorEnv) -> MakeChooser:
    """Return the policy of this name for an environment with dict observations.

    A ranker of the feed's columns knows users only from the time of this call on.

    Raises:
        Refused: there is no such policy, or it is a ranker of other columns.
        SnapshotCorruption: a ranker's file does not match its manifest.
    """
    if name in get_args(ChooserName):
        return lambda seed: chooser(name, seed)  # type: ignore[arg-type]  # it is one
    if ":" in name:
        return _own_chooser(name)
    if not Path(name).is_file():
        names = ", ".join(get_args(ChooserName))
        raise Refused(f"expected {names}, the file of a ranker or MODULE:FUNCTION, got {name!r}")
    return _ranker_chooser(Ranker.from_file(Path(name)), env)


def _own_chooser(name: str) -> MakeChooser:
    make = entry_point(name)

    def made(seed: int) -> Chooser:
        choose = make(seed)
        if not callable(choose):
            raise Refused(f"{name}: expected a chooser (env.rollouts), got {choose!r}")
        return choose

    return made


def _ranker_chooser(ranker: Ranker, env: SwipeVectorEnv) -> MakeChooser:
    screen = env.screen
    expected = screen.user.shape[1], screen.items.shape[2] + screen.personal.shape[2]
    got = ranker.args.n_user, ranker.args.n_item
    if got == (N_SHARED, N_ACTION):
        feed = Screen(env.swiping, "feed", keeps_items=False)
        return lambda seed: _look(feed, _draw(ranker, np.random.default_rng(seed)))
    if got != expected:
        raise Refused(
            f"expected a ranker of this world's {expected[0]} columns of a person and "
            f"{expected[1]} of a candidate, or of the feed's {N_SHARED} and {N_ACTION}, got "
            f"{got[0]} and {got[1]}; was it trained in it?"
        )
    return lambda seed: _draw(ranker, np.random.default_rng(seed))


def _look(screen: Screen, choose: Chooser) -> Chooser:
    """Return a chooser that observes this screen instead of its argument."""
    return lambda observation: choose(screen.write(copy=False))


def _draw(ranker: Ranker, rng: np.random.Generator) -> Chooser:
    """Return a chooser that samples a candidate from the softmax of its logits (Gumbel trick)."""

    def choose(observation: Any) -> Any:
        rows = np.concatenate([observation["items"], observation["personal"]], axis=-1)
        logits = ranker.batch_scores(observation["user"], rows)
        return best(logits + rng.gumbel(size=logits.shape), observation["mask"], 1)

    return choose
