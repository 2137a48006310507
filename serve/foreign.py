"""External logs, recognised by their suffix, and the policies defined for such logs only.

dsjson is the format of Vowpal Wabbit and Azure Personalizer; a table of rounds is that of the Open
Bandit Pipeline. Both become a `replay.sources.Source`, so the evaluation of our own log applies to
them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from env.vocabulary import Floats
from replay.dsjson_source import DsjsonSource
from replay.sources import Batch, Source
from replay.targets import Target
from serve.importers.obp import ObpSource
from serve.refused import Refused

READERS: dict[str, Callable[[Path], Source]] = {
    ".json": DsjsonSource,
    ".dsjson": DsjsonSource,
    ".csv": ObpSource,
    ".parquet": ObpSource,
}


@dataclass(frozen=True, slots=True)
class FirstTarget:
    """Always picks the first candidate, Azure Personalizer's baseline."""

    name: str = "first"

    def probabilities(self, batch: Batch) -> Floats:
        """Return 1 for each decision's first candidate, shape (m, k)."""
        pmfs = np.zeros(batch.mask.shape)
        pmfs[np.arange(len(batch)), np.argmax(batch.mask, axis=1)] = 1.0
        return pmfs


@dataclass(frozen=True, slots=True)
class BehaviourTarget:
    """The logging policy: every weight is 1, so it shows the log's own distributions."""

    name: str = "behaviour"

    def probabilities(self, batch: Batch) -> Floats:
        """Return the logged distributions, shape (m, k), each divided by its sum.

        Raises:
            ValueError: a decision of the log has none.
        """
        if batch.pmf is None or not np.isfinite(batch.pmf).all():
            raise ValueError(
                "expected a log with the whole distribution of every decision (p of dsjson, pi_b "
                "of a table), got one without; evaluate another policy"
            )
        totals: Floats = batch.pmf.sum(axis=1, keepdims=True)
        return batch.pmf / totals


TARGETS: dict[str, Target] = {target.name: target for target in (FirstTarget(), BehaviourTarget())}


def open_foreign(path: Path) -> Source:
    """Return the log of a file.

    Raises:
        Refused: there is no such file, or its suffix is unknown.
        BadFile: a table is not one of rounds.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        expected = ", ".join(READERS)
        raise Refused(f"{path}: expected a log that ends in one of {expected}")
    if not path.is_file():
        raise Refused(f"{path}: expected a log, found no such file")
    return reader(path)


def foreign_target(name: str) -> Target | None:
    """Return the policy `first` or `behaviour`; None for another name."""
    return TARGETS.get(name)
