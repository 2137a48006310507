"""The snapshot store keeps generations of a learned policy on disk, each with a manifest.

A generation is a folder named by its version, with its parts and `manifest.json`, which holds each
part's sha256. It is written aside and renamed, so it is either complete or absent, and only
verified parts are returned. Old generations thin out: the last few, one an hour, one a day, those
that are pinned, within a bound of disk. Rejected alternatives: `docs/decisions/snapshots.md`.
"""

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_PART_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_GENERATION = re.compile(r"v([0-9]{12})")
_PIN = re.compile(r"v([0-9]{12})\.pin")
_HOUR_S, _DAY_S, _MB = 3_600, 86_400, 1_000_000
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


class Generations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The generations that are kept: the last, the last one of each hour and of each day.

    Hours and days are those of the time at which a generation was written, and those without a
    generation do not count.
    """

    last: Annotated[int, Meta(ge=1, le=1000)] = 5
    hourly: Annotated[int, Meta(ge=0, le=1000)] = 24
    daily: Annotated[int, Meta(ge=0, le=1000)] = 14
    disk_mb: Annotated[float, Meta(gt=0.0, le=1e9)] = 2_000.0  # of all generations, 10^6 bytes

    def kept(
        self,
        written_s: Mapping[int, float],
        n_bytes: Mapping[int, int],
        required: Collection[int] = (),
    ) -> set[int]:
        """Return the versions that are kept.

        Where they would not fit on the disk, the oldest go first. The last `last` and those that
        are required stay, since without them nobody could serve or resume.

        Args:
            written_s: when each was written, seconds.
            n_bytes: how large each is.
            required: versions that stay in any case.
        """
        newest_first = sorted(written_s, reverse=True)
        fixed = {*newest_first[: self.last], *(v for v in required if v in written_s)}
        by_hour = _last_of_each(newest_first, written_s, _HOUR_S)[: self.hourly]
        by_day = _last_of_each(newest_first, written_s, _DAY_S)[: self.daily]
        room = self.disk_mb * _MB - sum(n_bytes[version] for version in fixed)
        kept = set(fixed)
        for version in sorted({*by_hour, *by_day} - fixed, reverse=True):
            room -= n_bytes[version]
            if room < 0:
                break
            kept.add(version)
        return kept


def _last_of_each(
    newest_first: list[int], written_s: Mapping[int, float], span_s: int
) -> list[int]:
    """Return the newest version of each span of time, the latest span first."""
    spans: dict[int, int] = {}
    for version in newest_first:
        spans.setdefault(int(written_s[version] // span_s), version)
    return sorted(spans.values(), reverse=True)


class Pin(msgspec.Struct, frozen=True):
    """The reason for which a generation is kept until it is unpinned."""

    version: int
    why: str = ""


class SnapshotStore:
    """A folder of generations, written by one learner and read by every replica."""

    def __init__(self, folder: Path, keep: int | Generations = 5, *, lasting: str = "") -> None:
        """Use this folder; it is created if missing.

        Args:
            folder: holds nothing else.
            keep: the generations that are kept; a number: the last ones alone, at least 1; with 1 a
                replica could lose the generation that it is loading.
            lasting: a part that not every generation has; the newest generation with it is kept
                too.

        Raises:
            ValueError: keep is below 1.
        """
        if isinstance(keep, int):
            if keep < 1:
                raise ValueError(f"keep must be at least 1, got {keep}")
            keep = Generations(last=keep, hourly=0, daily=0)
        self._folder = folder
        self._keep = keep
        self._lasting = lasting
        self._known: dict[int, tuple[float, int]] = {}  # when it was written, and its bytes
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
        full = filled(manifest, parts)
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

    @contextmanager
    def reading(self, versions: Collection[int]) -> Iterator[None]:
        """Keep generations from being deleted while they are read; the end of the process ends it.

        Raises:
            FileNotFoundError: one of the versions does not exist (any more).
        """
        with _held([self._home(version) for version in versions], fcntl.LOCK_SH):
            yield

    def pin(self, version: int, why: str = "") -> None:
        """Keep a generation until it is unpinned.

        Raises:
            FileNotFoundError: the version does not exist (any more).
            ValueError: the pinned generations alone would exceed the bound of disk.
        """
        with self.reading([version]):
            pinned = {pin.version for pin in self.pins()} | {version}
            n_bytes = sum(self._described(each)[1] for each in pinned & set(self.versions()))
            if n_bytes > self._keep.disk_mb * _MB:
                raise ValueError(
                    f"expected pinned versions of at most {self._keep.disk_mb:g} MB in all, got "
                    f"{n_bytes / _MB:.4g} MB with version {version}: unpin another, or raise the "
                    "bound (learner.snapshots_kept.disk_mb)"
                )
            aside = self._aside()
            aside.write_bytes(msgspec.json.encode(Pin(version, why)))
            aside.rename(self._pin_of(version))

    def unpin(self, version: int) -> bool:
        """Let a generation go as others do; return whether it was pinned."""
        try:
            self._pin_of(version).unlink()
        except FileNotFoundError:
            return False
        return True

    def pins(self) -> list[Pin]:
        """Return the pinned generations, oldest first."""
        names = sorted(path.name for path in self._folder.iterdir() if _PIN.fullmatch(path.name))
        found = []
        for name in names:
            with suppress(FileNotFoundError):
                found.append(msgspec.json.decode((self._folder / name).read_bytes(), type=Pin))
        return found

    def written_s(self, version: int) -> float:
        """Return when a generation was written, in seconds, by the disk's clock.

        Raises:
            FileNotFoundError: the version does not exist (any more).
        """
        return (self._home(version) / MANIFEST).stat().st_mtime

    def _described(self, version: int) -> tuple[float, int]:
        """Return when a generation was written, and its bytes."""
        if version not in self._known:
            home = self._home(version)
            n_bytes = sum(path.stat().st_size for path in home.iterdir())
            self._known[version] = self.written_s(version), n_bytes
        return self._known[version]

    def _pin_of(self, version: int) -> Path:
        home = self._home(version)
        return home.with_name(f"{home.name}.pin")

    def _home(self, version: int) -> Path:
        return self._folder / f"v{version:012d}"

    def _aside(self) -> Path:
        return self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}"

    def _prune(self) -> None:
        """Delete old generations and the unfinished folders of killed writers.

        An old generation is renamed first, so that a reader finds it complete or absent; one that
        is being read stays until the next time. A learner that lost its lease may still write or
        delete here: its unfinished folders stay for an hour, and a concurrent deletion is ignored.
        """
        versions = self.versions()
        newest_s = self._home(versions[-1]).stat().st_mtime
        for version in sorted(set(versions) - self._kept(versions)):
            self._known.pop(version, None)
            aside = self._aside()
            with suppress(FileNotFoundError, BlockingIOError):
                with _held([self._home(version)], fcntl.LOCK_EX | fcntl.LOCK_NB):
                    if self._pin_of(version).exists():
                        continue
                    self._home(version).rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if newest_s - path.stat().st_mtime <= _ABANDONED_S:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:  # a pin whose writer was killed
                    path.unlink()

    def _kept(self, versions: list[int]) -> set[int]:
        if len(versions) <= self._keep.last:
            return set(versions)
        described: dict[int, tuple[float, int]] = {}
        for version in versions:
            with suppress(FileNotFoundError):
                described[version] = self._described(version)
        required = [pin.version for pin in self.pins()]
        if self._lasting:
            required.append(self.newest_with(self._lasting))
        written_s = {version: at_s for version, (at_s, _) in described.items()}
        n_bytes = {version: size for version, (_, size) in described.items()}
        return self._keep.kept(written_s, n_bytes, required)


@contextmanager
def _held(homes: Collection[Path], how: int) -> Iterator[None]:
    """Hold a lock on generations, each by its manifest.

    Raises:
        FileNotFoundError: one does not exist (any more).
        BlockingIOError: `how` does not wait, and another holds one.
    """
    handles: list[int] = []
    try:
        for home in homes:
            path = home / MANIFEST
            handles.append(os.open(path, os.O_RDONLY))
            fcntl.flock(handles[-1], how)
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(handles[-1])):
                raise FileNotFoundError(f"{home} was dropped while it was read")
        yield
    finally:
        for handle in handles:
            os.close(handle)


def filled(manifest: Manifest, parts: Mapping[str, bytes]) -> Manifest:
    """Return a manifest with the digests of these parts.

    Raises:
        ValueError: the version is below 1 or a part's name is not allowed.
    """
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
