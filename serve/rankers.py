"""Retention rankers: stored with manifests, loaded and checked against the feed's columns.

Rankers are kept in `<data>/retention` and never dropped, because a page that was drawn with one can
be drawn again only if the ranker is still there. A ranker must read the columns that the feed
encodes. Derivation: `docs/decisions/serve-rankers.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from env.features import N_ACTION, N_SHARED, SCHEMA
from env.interface import Policy
from policies.blend import BlendArgs, BlendedPolicy, Retention
from policies.ranker import Ranker
from policies.snapshots import SnapshotCorruption, SnapshotStore
from serve.config import Config

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

    def blended(self, bandit: Policy, settings: Retention) -> BlendedPolicy:
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
    if got != (N_SHARED, N_ACTION):
        raise ValueError(
            f"expected {N_SHARED} columns of a person and {N_ACTION} of a candidate, as the feed "
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
    if manifest.feature_schema != SCHEMA:
        raise SnapshotCorruption(
            f"ranker {version}: expected feature schema {SCHEMA}, got {manifest.feature_schema}"
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
