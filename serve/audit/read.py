"""Reads the states that an audit is computed from: the newest snapshot, or the log itself.

Feeds are served from the snapshot. Folding the log up to the snapshot's offset must give the same
states; `--from-log` checks that. Either way, the items are those listed at the end of the log.
Rejected alternative: `docs/decisions/audit-fair-start.md`.
"""

from collections.abc import Callable

import msgspec

from env.fair_start.audience import Audiences
from env.interface import EventLog
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.records import ItemRecord
from policies.snapshots import SnapshotCorruption
from serve.config import Config
from serve.errors import JobError
from serve.learn.fold import LearnerState
from serve.learn.served import Folds
from serve.learn.settings import learning_args, open_snapshots
from serve.store.data_folder import open_data
from serve.store.generations import NOTHING, current_version
from serve.store.store import Activation, StorePast

AUDIENCES = "audiences"
"""Name of the snapshot part that holds `env.fair_start.audience`."""

BATCH_LINES = 1_000


Advance = Callable[[int], None]
"""Called with the number of log lines processed since the last call."""


def read_snapshot(config: Config) -> Folds:
    """Return the states of the current version; a server may be running.

    Raises:
        JobError: there is no log, no version was published yet, or an older release published it.
        SnapshotCorruption: the snapshot differs from the published one.
    """
    with open_data(config) as store:
        version = current_version(store)
        if version is None:
            raise JobError(
                f"{config.data.folder}: nothing was published yet, so there is no snapshot to "
                "audit: start the server, or fold the log with --from-log"
            )
        catalogue = _read_catalogue(store.log)
    return _load(config, version, catalogue)


def fold_log(config: Config, advance: Advance | None = None) -> Folds:
    """Return the states of the log up to the current version's offset, or of the whole log.

    Args:
        config: the settings under which the log was learned.
        advance: progress callback; the total is at most the number of log lines.

    Raises:
        JobError: there is no log.
        LogCorruption: a line differs from the written one.
    """
    with open_data(config) as store:
        log = store.log
        version = current_version(store) or NOTHING
        end = version.offset or log.last_offset()
        learning = LearnerState(learning_args(config), StorePast(store))
        while learning.offset < end:
            lines = [line for line in log.read(learning.offset, BATCH_LINES) if line.offset <= end]
            learning.fold(lines)
            if advance is not None:
                advance(len(lines))
        catalogue = _read_catalogue(log)
    return Folds(
        learning.audiences, learning.states, catalogue, config.audiences, version.version, end
    )


def _read_catalogue(log: EventLog) -> Catalogue:
    catalogue = Catalogue()
    for line in log.read(kinds=["item"]):
        if isinstance(line.record, ItemRecord):
            catalogue.apply(line.record, line.offset)
    return catalogue


def _load(config: Config, version: Activation, catalogue: Catalogue) -> Folds:
    store = open_snapshots(config)
    number = version.version
    try:
        if store.manifest(number).digest != version.digest:
            raise SnapshotCorruption(f"version {number} is not the one that was published")
        audiences = Audiences.from_bytes(store.load_part(number, AUDIENCES), config.audiences)
        states = ItemStates.from_bytes(store.load_part(number, "items"))
    except KeyError as error:
        raise JobError(
            f"version {number} was published without {error}, by an older release: start the "
            "server, which folds the log again, or audit the log with --from-log"
        ) from error
    except FileNotFoundError as error:
        raise SnapshotCorruption(f"version {number} is gone: audit with --from-log") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise SnapshotCorruption(f"version {number} cannot be decoded: {error!r}") from error
    return Folds(audiences, states, catalogue, config.audiences, number, version.offset)
