"""This module publishes retention rankers and activates one of them.

A running server's replicas follow (`serve.ranker_follower`). A ranker is completely on disk before
the row that activates it is written, and a concurrent activation makes the write fail.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from env.features import SCHEMA
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore
from serve.config import Config
from serve.data_folder import open_data
from serve.ranker_rows import RankerMove, StaleMove, move_ranker
from serve.rankers import PART, decode_ranker, load_ranking, open_rankers
from serve.refused import Refused
from serve.store import Transaction, write_now


class Published(msgspec.Struct, frozen=True):
    """A published ranker."""

    version: int  # from 1
    origin: str  # its source, in the publisher's words
    offset: int  # log offset up to which it was trained; 0: not trained on this log
    is_current: bool  # whether pages are blended with it


def publish_ranker(config: Config, data: bytes, *, origin: str, offset: int = 0) -> Published:
    """Store a ranker and activate it.

    Args:
        config: names the data folder, which must hold a log.
        data: as `Ranker.to_bytes` gives it.
        origin: description of its source.
        offset: log offset up to which it was trained; 0: not trained on this log.

    Raises:
        Refused: the bytes hold no ranker, its columns are others, there is no log, or another
            ranker was activated meanwhile.
    """
    try:
        decode_ranker(data)
    except ValueError as error:
        raise Refused(f"the ranker cannot be published: {error}") from error
    with open_data(config) as store:
        with store.view() as view:
            known = view.ranker_move()
        rankers = open_rankers(config)
        manifest = Manifest(
            version=max(rankers.versions(), default=0) + 1,
            epoch=known.move + 1,
            offsets=(offset,),
            feature_schema=SCHEMA,
            reward_version=config.reward.version,
            args={"origin": origin},
        )
        try:
            written = rankers.publish(manifest, {PART: data})
            write_now(store, _mover(known, written.version, written.digest))
        except (FileExistsError, StaleMove) as error:
            raise Refused(f"the ranker was not made current: {error}") from error
    return _published(written, is_current=True)


def use_ranker(config: Config, version: int) -> RankerMove:
    """Activate a published ranker; version 0 lets the bandit serve alone.

    Raises:
        Refused: the ranker is missing or damaged, or another was activated meanwhile.
    """
    with open_data(config) as store:
        with store.view() as view:
            known = view.ranker_move()
        digest = _usable_digest(open_rankers(config), version) if version else ""
        try:
            return write_now(store, _mover(known, version, digest))
        except StaleMove as error:
            raise Refused(str(error)) from error


def list_rankers(config: Config) -> list[Published]:
    """Return all published rankers, oldest first.

    Raises:
        Refused: there is no log.
        SnapshotCorruption: a manifest cannot be read.
    """
    with open_data(config) as store, store.view() as view:
        current = view.ranker_move()
    rankers = open_rankers(config)
    manifests = [rankers.manifest(version) for version in rankers.versions()]
    return [_published(m, is_current=m.digest == current.digest) for m in manifests]


def _usable_digest(rankers: SnapshotStore, version: int) -> str:
    try:
        load_ranking(rankers, version)
    except FileNotFoundError:
        there = ", ".join(map(str, rankers.versions())) or "none"
        raise Refused(f"expected a ranker that is kept ({there}), got {version}") from None
    except SnapshotCorruption as error:
        raise Refused(str(error)) from error
    return rankers.manifest(version).digest


def _mover(known: RankerMove, version: int, digest: str) -> Callable[[Transaction], RankerMove]:
    return partial(move_ranker, known=known, version=version, digest=digest)


def _published(manifest: Manifest, *, is_current: bool) -> Published:
    args: dict[str, Any] = manifest.args
    return Published(manifest.version, str(args["origin"]), manifest.offsets[0], is_current)
