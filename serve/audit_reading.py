"""What an audit is computed from: out of the newest snapshot, or out of the log itself.

A snapshot is what feeds are served with. The log folded up to the snapshot's offset says the same,
or one of both is wrong; that is what `--from-log` is for. The items are those of the log's end in
either case: what is listed now.

Rejected: a fold without the policy, which no audience hangs on (faster, and a second order in
which lines are folded, that has to stay the same as the learner's).
"""

from collections.abc import Callable

import msgspec

from env.audiences import Audiences
from env.catalogue import Catalogue
from env.interface import EventLog
from env.items import ItemStates
from env.records import ItemRecord
from policies.snapshots import SnapshotCorruption
from serve.config import Config
from serve.data_folder import open_data
from serve.folds import Folds
from serve.learning import Learning
from serve.refused import Refused
from serve.replica import learning_args, open_snapshots
from serve.versions import Version, current_version

AUDIENCES = "audiences"
"""The part of a snapshot that holds `env.audiences`."""

BATCH_LINES = 1_000
NOTHING = Version(0, 0, 0, "")

Advance = Callable[[int], None]
"""Told how many lines of the log were done since it was last told."""


def read_snapshot(config: Config) -> Folds:
    """Return the folds as the current version has them; a server may be running.

    Raises:
        Refused: there is no log, nothing was published yet, or an older release published it.
        SnapshotCorruption: the snapshot is not what was published.
    """
    with open_data(config) as store:
        version = current_version(store)
        if version is None:
            raise Refused(
                f"{config.data.folder}: nothing was published yet, so there is no snapshot to "
                "audit: start the server, or fold the log with --from-log"
            )
        catalogue = _read_catalogue(store.log)
    return _load(config, version, catalogue)


def fold_log(config: Config, advance: Advance | None = None) -> Folds:
    """Return the folds of the log up to what the current version knows, or of all of it.

    Args:
        config: the arguments under which the log was learned.
        advance: told of progress; in total, of at most as many lines as the log has.

    Raises:
        Refused: there is no log.
        LogCorruption: a line is not what was written.
    """
    with open_data(config) as store:
        log = store.log
        version = current_version(store) or NOTHING
        end = version.offset or log.last_offset()
        learning = Learning(learning_args(config))
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


def _load(config: Config, version: Version, catalogue: Catalogue) -> Folds:
    store = open_snapshots(config)
    number = version.version
    try:
        if store.manifest(number).digest != version.digest:
            raise SnapshotCorruption(f"version {number} is not the one that was published")
        audiences = Audiences.from_bytes(store.load_part(number, AUDIENCES), config.audiences)
        states = ItemStates.from_bytes(store.load_part(number, "items"))
    except KeyError as error:
        raise Refused(
            f"version {number} was published without {error}, by an older release: start the "
            "server, which folds the log again, or audit the log with --from-log"
        ) from error
    except FileNotFoundError as error:
        raise SnapshotCorruption(f"version {number} is gone: audit with --from-log") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise SnapshotCorruption(f"version {number} cannot be decoded: {error!r}") from error
    return Folds(audiences, states, catalogue, config.audiences, number, version.offset)
