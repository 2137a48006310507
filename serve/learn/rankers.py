"""Retention rankers: stored with manifests, loaded and checked against the feed's columns.

Rankers are kept in `<data>/retention` and never dropped, because a page that was drawn with one can
be drawn again only if the ranker is still there. A ranker must read the columns that the feed
encodes. Derivation: `docs/decisions/serve-rankers.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec

from env.columns.schema import DYNAMIC_WIDTHS, N_ACTION, N_SHARED, SCHEMA
from env.interface import Policy
from policies.ranker.blend import BlendArgs, BlendedPolicy, BlendSettings
from policies.ranker.ranker import Ranker, ranks_feeds
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore
from serve.config import Config
from serve.errors import JobError
from serve.learn.follower import ActivationFollower
from serve.store.data_folder import open_data
from serve.store.generations import NOTHING, ActivationConflict, activate_after, current_activation
from serve.store.store import Activation, Store, Transaction, write_now

KEPT = 1_000_000
"""Number of rankers to keep: all of them."""

PART = "ranker"
RANKERS_KEPT = 8
"""Rankers held in memory while a log is read."""

FindRanker = Callable[[int, str], Ranker | None]
"""Finds a ranker by version and sha256, as a page names it; None: the ranker is gone."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A published ranker as pages name it."""

    ranker: Ranker
    version: int
    digest: str  # sha256 of its bytes

    def blended(self, bandit: Policy, settings: BlendSettings) -> BlendedPolicy:
        """Return the blend of this ranker with a version of the bandit."""
        return BlendedPolicy(bandit, self.ranker, BlendArgs(self.version, self.digest, settings))


def open_rankers(config: Config) -> SnapshotStore:
    """Open the data folder's rankers."""
    return SnapshotStore(Path(config.data.folder) / "retention", keep=KEPT)


def decode_ranker(data: bytes) -> Ranker:
    """Return a ranker that can rank the feed's candidates.

    Raises:
        ValueError: the bytes hold no ranker, or its columns are others.
    """
    ranker = Ranker.from_bytes(data)
    got = ranker.args.n_user, ranker.args.n_item
    if not ranks_feeds(*got):
        raise ValueError(
            f"expected {N_SHARED} columns of a user and {N_ACTION} of a candidate, as the feed "
            f"encodes them (schema {SCHEMA}), got {got[0]} and {got[1]}; a ranker of the simulated "
            "world's own observation cannot rank a feed"
        )
    return ranker


def load_ranking(store: SnapshotStore, version: int, digest: str = "") -> Ranking:
    """Return a ranker for blending pages.

    Args:
        store: the data folder's rankers.
        version: version of the ranker.
        digest: required digest of its manifest; empty: any.

    Raises:
        FileNotFoundError: the ranker is missing.
        SnapshotCorruption: it is damaged, of another feature schema, or of other columns.
    """
    manifest = store.manifest(version)
    if digest and manifest.digest != digest:
        raise SnapshotCorruption(f"ranker {version} is not the one that was published")
    if manifest.feature_schema not in DYNAMIC_WIDTHS:
        known = " or ".join(map(str, DYNAMIC_WIDTHS))
        raise SnapshotCorruption(
            f"ranker {version}: expected feature schema {known}, got {manifest.feature_schema}"
        )
    try:
        ranker = decode_ranker(store.load_part(version, PART))
    except (KeyError, ValueError) as error:
        raise SnapshotCorruption(f"ranker {version} cannot be used: {error}") from error
    return Ranking(ranker, version, manifest.parts[PART].sha256)


def ranker_finder(config: Config) -> FindRanker:
    """Return a function that finds the rankers named in pages of the log."""
    store = open_rankers(config)

    @lru_cache(maxsize=RANKERS_KEPT)
    def find(version: int, digest: str) -> Ranker | None:
        try:
            ranking = load_ranking(store, version)
        except FileNotFoundError:
            return None
        return ranking.ranker if ranking.digest == digest else None

    return find


def follow_rankers(
    store: Store, rankers: SnapshotStore, swap: Callable[[Ranking | None], None]
) -> ActivationFollower[Ranking | None]:
    """Return what hands each new ranker to `swap`; None: no ranker is current."""

    def load(activation: Activation) -> Ranking | None:
        if not activation.version:
            return None
        return load_ranking(rankers, activation.version, activation.digest)

    return ActivationFollower(store, "ranker", load, swap)


class PublishedRanker(msgspec.Struct, frozen=True):
    """A published ranker."""

    version: int  # from 1
    origin: str  # its source, in the publisher's words
    offset: int  # log offset up to which it was trained; 0: not trained on this log
    is_current: bool  # whether pages are blended with it


def publish_ranker(config: Config, data: bytes, *, origin: str, offset: int = 0) -> PublishedRanker:
    """Store a ranker and activate it.

    Args:
        config: names the data folder, which must hold a log.
        data: as `Ranker.to_bytes` gives it.
        origin: description of its source.
        offset: log offset up to which it was trained; 0: not trained on this log.

    Raises:
        JobError: the bytes hold no ranker, its columns are others, there is no log, or another
            ranker was activated meanwhile.
    """
    try:
        decode_ranker(data)
    except ValueError as error:
        raise JobError(f"the ranker cannot be published: {error}") from error
    with open_data(config) as store:
        with store.view() as view:
            known = current_activation(view, "ranker") or NOTHING
        rankers = open_rankers(config)
        manifest = Manifest(
            version=max(rankers.versions(), default=0) + 1,
            epoch=known.epoch + 1,
            offsets=(offset,),
            feature_schema=SCHEMA,
            reward_version=config.reward.version,
            args={"origin": origin},
        )
        try:
            written = rankers.publish(manifest, {PART: data})
            write_now(store, _activating(known, written.version, written.digest))
        except (FileExistsError, ActivationConflict) as error:
            raise JobError(f"the ranker was not made current: {error}") from error
    return _published(written, is_current=True)


def use_ranker(config: Config, version: int) -> Activation:
    """Activate a published ranker; version 0 lets the bandit serve alone.

    Raises:
        JobError: the ranker is missing or damaged, or another was activated meanwhile.
    """
    with open_data(config) as store:
        with store.view() as view:
            known = current_activation(view, "ranker") or NOTHING
        digest = _usable_digest(open_rankers(config), version) if version else ""
        try:
            return write_now(store, _activating(known, version, digest))
        except ActivationConflict as error:
            raise JobError(str(error)) from error


def list_rankers(config: Config) -> list[PublishedRanker]:
    """Return all published rankers, oldest first.

    Raises:
        JobError: there is no log.
        SnapshotCorruption: a manifest cannot be read.
    """
    with open_data(config) as store, store.view() as view:
        current = current_activation(view, "ranker") or NOTHING
    rankers = open_rankers(config)
    manifests = [rankers.manifest(version) for version in rankers.versions()]
    return [_published(m, is_current=m.digest == current.digest) for m in manifests]


def _usable_digest(rankers: SnapshotStore, version: int) -> str:
    try:
        load_ranking(rankers, version)
    except FileNotFoundError:
        there = ", ".join(map(str, rankers.versions())) or "none"
        raise JobError(f"expected a ranker that is kept ({there}), got {version}") from None
    except SnapshotCorruption as error:
        raise JobError(str(error)) from error
    return rankers.manifest(version).digest


def _activating(
    known: Activation, version: int, digest: str
) -> Callable[[Transaction], Activation]:
    return partial(activate_after, known=known, version=version, digest=digest, name="ranker")


def _published(manifest: Manifest, *, is_current: bool) -> PublishedRanker:
    args: dict[str, Any] = manifest.args
    return PublishedRanker(manifest.version, str(args["origin"]), manifest.offsets[0], is_current)
