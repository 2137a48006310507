"""A training by search, from its arguments to the ranker that is served.

    tune     the myopic bandit, by its reward per card
    search   from there, the weights under which lives have most active days
    clone    a network that ranks like the weights, from the served columns

The results of the first two stages are saved after each generation, so a killed training resumes
there. Cloning is repeated: it takes a minute and is determined by its seed.
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
"""Called with a stage, the completed part of it, and the total."""
_FOUND = "search.json"


class Searched(NamedTuple):
    """Result of a training."""

    ranker: Ranker  # as it is served
    weights: Weights  # the weights that it imitates
    myopic: Weights  # the bandit's weights, from which the search started
    seconds: float  # since the start or resumption


def train_by_search(
    args: SearchedArgs,
    *,
    folder: Path | None = None,
    advance: Advance = lambda stage, done, total: None,
) -> Searched:
    """Return a ranker, resuming the training in a folder if there is one.

    Args:
        folder: for the results so far; nothing is written if None.

    Raises:
        ValueError: the folder holds a training of other arguments, or the preset does not exist.
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
    """Results so far: the bandit, and the samples' worths, see `search_weights`."""

    myopic: Weights | None = None
    worths: tuple[Worths, ...] = ()


class _Notes:
    """Results so far, on disk as well if there is a folder."""

    def __init__(self, folder: Path | None, args: SearchedArgs, preset: Preset) -> None:
        self.found, self._path = _Found(), None
        if folder is not None:
            keep_args(folder, args)
            keep_preset(folder, preset)
            self._path = folder / _FOUND
            if self._path.exists():
                self.found = msgspec.json.decode(self._path.read_bytes(), type=_Found)

    def keep(self, found: _Found) -> None:
        """Replace the results."""
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
