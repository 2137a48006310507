"""A training by search, from its arguments to the ranker that is served.

    tune     the myopic bandit, by what its cards earn
    search   from its weights on: those under which lives have most active days
    clone    a network that ranks as the weights do, by the columns that it shall be served with

What the first two stages found is kept after each generation, so a training that was killed goes on
with the next one. Cloning is done again: it takes a minute, and comes to the same by its seed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from env.presets import Preset, load
from policies.ranker import Ranker
from policies.retention.distilled import learn
from policies.retention.myopic import tune_myopic
from policies.retention.rankings import Weights
from policies.retention.search import Worths, search_weights
from policies.retention.search_args import SearchedArgs
from policies.retention.training_folder import keep_args, keep_preset, write_whole

Advance = Callable[[str, int, int], None]
"""Told a stage, how much of it is done, and of how much."""
_FOUND = "search.json"


class Searched(NamedTuple):
    """What came of it.

    Attributes:
        ranker: as it is served.
        weights: that it ranks as.
        myopic: those of the bandit that the search began at.
        seconds: since it was begun or resumed.
    """

    ranker: Ranker
    weights: Weights
    myopic: Weights
    seconds: float


def train_by_search(
    args: SearchedArgs,
    *,
    folder: Path | None = None,
    advance: Advance = lambda stage, done, total: None,
) -> Searched:
    """Return a ranker, or go on with the training that a folder holds.

    Args:
        args: of the training.
        folder: of what was found so far; nothing is written if None.
        advance: told of progress.

    Raises:
        ValueError: the folder holds a training of other arguments, or there is no such preset.
    """
    begun, preset = time.monotonic(), load(args.preset)
    notes = _Notes(folder, args, preset)
    myopic = _tune(preset, args, notes, advance)
    weights = _search(preset, args, myopic, notes, advance)
    advance("clone", 0, 1)
    network = learn(preset, weights, args.watched, args.n_turns, args.seed, args.columns)
    advance("clone", 1, 1)
    ranker = Ranker.from_bytes(network.ranker)
    return Searched(ranker, weights, myopic, time.monotonic() - begun)


class _Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known so far: the bandit, and what samples were worth, see `search_weights`."""

    myopic: Weights | None = None
    worths: tuple[Worths, ...] = ()


class _Notes:
    """What was found so far, on the disk as well if there is a folder."""

    def __init__(self, folder: Path | None, args: SearchedArgs, preset: Preset) -> None:
        """Read what a folder has."""
        self.found, self._path = _Found(), None
        if folder is not None:
            keep_args(folder, args)
            keep_preset(folder, preset)
            self._path = folder / _FOUND
            if self._path.exists():
                self.found = msgspec.json.decode(self._path.read_bytes(), type=_Found)

    def keep(self, found: _Found) -> None:
        """Put what was found in the place of what was known before."""
        self.found = found
        if self._path is not None:
            write_whole(self._path, msgspec.json.encode(found))


def _tune(preset: Preset, args: SearchedArgs, notes: _Notes, advance: Advance) -> Weights:
    myopic = notes.found.myopic
    if myopic is None:
        advance("tune", 0, 1)
        myopic = tune_myopic(preset, args.tuned, args.judged, args.n_turns, args.seed)
        notes.keep(_Found(myopic))
    advance("tune", 1, 1)
    return myopic


def _search(
    preset: Preset, args: SearchedArgs, myopic: Weights, notes: _Notes, advance: Advance
) -> Weights:
    def note(worths: tuple[Worths, ...]) -> None:
        notes.keep(_Found(myopic, worths))
        advance("search", len(worths), args.n_generations)

    return search_weights(
        preset,
        args.searched,
        myopic,
        "life",
        args.n_generations,
        args.seed,
        known=notes.found.worths,
        note=note,
    )
