"""The other road from a log to a ranker: fit a world to it, and search in that.

What the log cannot tell is assumed by the fit, and the ranker that is found there goes as far from
the log's policy as it likes: what it is worth hangs on the fit, and the log can hardly judge it. In
the benchmark the fitted world is of the form of the one that made the log, which no real one is.
"""

from pathlib import Path

from policies.ranker.ranker import Ranker
from policies.training.search.job import Advance, train_by_search
from policies.training.search.settings import SearchTrainingArgs
from serve.config import Config
from serve.jobs.fit_world import fit_log, read_log

FIT_CARDS, FIT_ROUNDS = 100_000, 6
"""Of the calibration: a tenth of what `nextswipe world fit` simulates, in fewer rounds."""


def fitted_ranker(config: Config, n_generations: int, seed: int, advance: Advance) -> Ranker:
    """Return a ranker of the feed's columns that was searched for in a world fitted to a log.

    Args:
        config: names the log's data folder, into which the fitted preset is written.
        n_generations: of the search.
        seed: of the search and the clone.
        advance: told of the search's progress.
    """
    folder = Path(config.data.folder)
    advance("fit a world", 0, 1)
    fitted = fit_log(
        read_log(folder), "fitted", "bench offline", n_cards=FIT_CARDS, n_rounds=FIT_ROUNDS
    )
    preset = folder / "fitted.json"
    preset.write_bytes(fitted.preset.to_json())
    args = SearchTrainingArgs(str(preset), columns="feed", seed=seed, n_generations=n_generations)
    return train_by_search(args, advance=advance).ranker
