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

from env.world.presets import Preset, load
from policies.ranker.ranker import Ranker
from policies.training.distill import distil
from policies.training.rankings import WeightedRanking, tune_myopic
from policies.training.search.search import Worths, search_weights
from policies.training.search.settings import SearchTrainingArgs
from policies.training.training_folder import keep_args, keep_preset, write_whole

Advance = Callable[[str, int, int], None]
"""Called with a stage, the completed part of it, and the total."""

_FOUND = "search.json"


class SearchResult(NamedTuple):
    """Result of a training."""

    ranker: Ranker  # as it is served
    weights: WeightedRanking  # the weights that it imitates
    myopic: WeightedRanking  # the bandit's weights, from which the search started
    seconds: float  # since the start or resumption


def train_by_search(
    args: SearchTrainingArgs,
    *,
    folder: Path | None = None,
    advance: Advance = lambda stage, done, total: None,
) -> SearchResult:
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
    network = distil(preset, weights, args.watched, args.n_turns, args.seed, args.columns)
    advance("clone", 1, 1)
    ranker = Ranker.from_bytes(network.ranker)
    return SearchResult(ranker, weights, myopic, time.monotonic() - begun)


class _Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Results so far: the bandit, and the samples' worths, see `search_weights`."""

    myopic: WeightedRanking | None = None
    worths: tuple[Worths, ...] = ()


class _Notes:
    """Results so far, on disk as well if there is a folder."""

    def __init__(self, folder: Path | None, args: SearchTrainingArgs, preset: Preset) -> None:
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


def _tune(
    preset: Preset, args: SearchTrainingArgs, notes: _Notes, advance: Advance
) -> WeightedRanking:
    myopic = notes.found.myopic
    if myopic is None:
        advance("tune", 0, 1)
        myopic = tune_myopic(preset, args.tuned, args.judged, args.n_turns, args.seed)
        notes.keep(_Found(myopic))
    advance("tune", 1, 1)
    return myopic


def _search(
    preset: Preset,
    args: SearchTrainingArgs,
    myopic: WeightedRanking,
    notes: _Notes,
    advance: Advance,
) -> WeightedRanking:
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
