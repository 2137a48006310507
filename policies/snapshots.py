"""The snapshot store keeps generations of a learned policy on disk, each with a manifest.

A generation is a folder named by its version, with its parts and `manifest.json`, which holds each
part's sha256. It is written aside and renamed, so it is either complete or absent, and only
verified parts are returned. Rejected alternatives: `docs/decisions/snapshots.md`.
"""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_PART_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_GENERATION = re.compile(r"v([0-9]{12})")
_UNFINISHED = "unfinished-"
_ABANDONED_S = 3600.0
"""An unfinished folder this much older than the newest generation has no writer any more."""


class SnapshotCorruption(RuntimeError):  # noqa: N818 - it names what was found
    """A generation differs from its manifest, or has no readable one."""


class PartDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Expected sha256 in hex and size in bytes of a part."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents and origin of a generation."""

    version: int  # of the policy, from 1; each is published once
    epoch: int  # of the learner that published it
    # Offsets of the log, one a shard: all records up to them are folded in, none after. Their sum
    # is the offset of the last record in the merged log.
    offsets: tuple[int, ...]
    feature_schema: int  # `env.columns.schema.SCHEMA` of the learned features
    reward_version: int  # of the learned Reward
    args: dict[str, object]  # arguments of the policy, enough to rebuild it
    parts: dict[str, PartDigest] = {}  # by name
    format_version: int = FORMAT_VERSION  # of this file

    @property
    def digest(self) -> str:
        """The sha256 of the whole manifest, in hex; it covers every part."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified generation."""

    manifest: Manifest
    parts: Mapping[str, bytes]


class SnapshotStore:
    """A folder of generations, written by one learner and read by every replica."""

    def __init__(self, folder: Path, keep: int = 5, *, lasting: str = "") -> None:
        """Use this folder; it is created if missing.

        Args:
            folder: holds nothing else.
            keep: number of generations kept, at least 1; with 1 a replica could lose the generation
                that it is loading.
            lasting: a part that not every generation has; the newest generation with it is kept
                too.

        Raises:
            ValueError: keep is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._folder = folder
        self._keep = keep
        self._lasting = lasting
        folder.mkdir(parents=True, exist_ok=True)

    def publish(
        self, manifest: Manifest, parts: Mapping[str, bytes], *, durable: bool = True
    ) -> Manifest:
        """Write a generation, then delete the oldest ones.

        Args:
            manifest: its `parts` are filled in here.
            parts: by name; lower-case letters, digits, `_`, `-`, `.`.
            durable: whether it is flushed to disk before this returns. Without it a power cut may
                corrupt the generation, which loading detects, but other users of the disk are
                spared the flush.

        Returns:
            The manifest as written.

        Raises:
            ValueError: the version is below 1 or a part's name is not allowed.
            FileExistsError: this version or a later one exists; its learner may have died before
                making it current, so take the next above the last of `versions()`.
        """
        full = _filled(manifest, parts)
        newest = max(self.versions(), default=0)
        if full.version <= newest:
            raise FileExistsError(f"expected a version above {newest}, got {full.version}")
        home = self._home(full.version)
        aside = self._aside()
        aside.mkdir()
        try:
            _write_generation(aside, full, parts)
            if durable:
                _flush_generation(aside)
            aside.rename(home)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if durable:
            _flush(self._folder)
        self._prune()
        return full

    def load(self, version: int) -> Snapshot:
        """Return a generation with every part verified.

        Raises:
            FileNotFoundError: the version does not exist (any more).
            SnapshotCorruption: the manifest cannot be read, is of another version or a newer
                format, names a part that is not allowed, or a part differs from it.
        """
        manifest = self.manifest(version)
        home = self._home(version)
        parts = {name: _read_part(home, name, part) for name, part in manifest.parts.items()}
        return Snapshot(manifest, parts)

    def load_part(self, version: int, name: str) -> bytes:
        """Return one verified part of a generation.

        Raises:
            FileNotFoundError: the version does not exist (any more).
            KeyError: its manifest names no such part.
            SnapshotCorruption: as for `load`.
        """
        return _read_part(self._home(version), name, self.manifest(version).parts[name])

    def manifest(self, version: int) -> Manifest:
        """Return a generation's manifest without reading its parts.

        Raises:
            FileNotFoundError: the version does not exist (any more).
            SnapshotCorruption: the manifest cannot be read or does not fit.
        """
        home = self._home(version)
        if not home.is_dir():
            raise FileNotFoundError(f"no snapshot of version {version} in {self._folder}")
        return _read_manifest(home, version)

    def versions(self) -> list[int]:
        """Return the existing versions, oldest first."""
        names = (_GENERATION.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def newest_with(self, part: str) -> int:
        """Return the newest version whose readable manifest names a part, 0 if there is none."""
        for version in reversed(self.versions()):
            with suppress(FileNotFoundError, SnapshotCorruption):
                if part in self.manifest(version).parts:
                    return version
        return 0

    def _home(self, version: int) -> Path:
        return self._folder / f"v{version:012d}"

    def _aside(self) -> Path:
        return self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}"

    def _prune(self) -> None:
        """Delete old generations and the unfinished folders of killed writers.

        An old generation is renamed first, so that a reader finds it complete or absent. A learner
        that lost its lease may still write or delete here: its unfinished folders stay for an hour,
        and a concurrent deletion is ignored.
        """
        versions = self.versions()
        newest_s = self._home(versions[-1]).stat().st_mtime
        too_old = versions[: -self._keep]
        lasting = self.newest_with(self._lasting) if self._lasting and too_old else 0
        for version in too_old:
            if version == lasting:
                continue
            aside = self._aside()
            with suppress(FileNotFoundError):
                self._home(version).rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if newest_s - path.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True)


def _filled(manifest: Manifest, parts: Mapping[str, bytes]) -> Manifest:
    if not 1 <= manifest.version < 10**12:
        raise ValueError(f"version must be from 1 to 10^12 - 1, got {manifest.version}")
    for name in parts:
        if not _is_part_name(name):
            raise ValueError(f"expected a part's name like model.vw, got {name!r}")
    described = {
        name: PartDigest(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in parts.items()
    }
    return msgspec.structs.replace(manifest, parts=described)


def _is_part_name(name: str) -> bool:
    return _PART_NAME.fullmatch(name) is not None and name != MANIFEST


def _write_generation(folder: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    text = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)
    (folder / MANIFEST).write_bytes(text)


def _flush_generation(folder: Path) -> None:
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_manifest(home: Path, version: int) -> Manifest:
    try:
        manifest = msgspec.json.decode(_read(home / MANIFEST), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorruption(f"{home / MANIFEST}: {error}") from error
    if manifest.format_version > FORMAT_VERSION or manifest.version != version:
        raise SnapshotCorruption(
            f"{home / MANIFEST}: expected version {version} in a format up to {FORMAT_VERSION}, "
            f"got version {manifest.version} in format {manifest.format_version}"
        )
    for name in manifest.parts:
        if not _is_part_name(name):
            raise SnapshotCorruption(f"{home / MANIFEST}: part name not allowed: {name!r}")
    return manifest


def _read_part(home: Path, name: str, part: PartDigest) -> bytes:
    path = home / name
    data = _read(path)
    if len(data) != part.size:
        raise SnapshotCorruption(f"{path}: expected {part.size} bytes, got {len(data)}")
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise SnapshotCorruption(f"{path}: its sha256 is not the manifest's")
    return data


def _read(path: Path) -> bytes:
    """Return a file of a generation; a generation deleted meanwhile is missing, not corrupt."""
    try:
        if path.is_symlink():
            raise SnapshotCorruption(f"{path}: expected a file, got a link")
        return path.read_bytes()
    except OSError as error:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} was dropped while it was read") from error
        raise SnapshotCorruption(f"{path}: {error}") from error
