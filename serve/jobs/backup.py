"""Backup and restore of the data folder; a backup runs beside the server and is consistent.

SQLite's backup, the current snapshot and the imported world are copied in one read transaction, and
all rankers beside them. `backup.json` is written last, so a folder without it is incomplete. The
copy holds the secret, which signs decisions: keep it as private as the data folder. Details:
`docs/decisions/jobs-backup.md`.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from policies.snapshots import SnapshotCorruption, SnapshotStore
from serve.config import Config
from serve.errors import JobError
from serve.jobs.imported_world import ImportedWorld
from serve.learn.fold import JOIN
from serve.learn.rankers import KEPT, open_rankers
from serve.learn.settings import open_snapshots
from serve.store.data_folder import copies_of, freeze_data, require_idle
from serve.store.generations import current_activation
from serve.store.kind import FileCopies

Advance = Callable[[int], None]
"""Called with the number of pages of the store copied since the last call."""

FORMAT_VERSION = 1

ABOUT, SECRET, SNAPSHOTS, RANKERS = (
    "backup.json",
    "secret.key",
    "snapshots",
    "retention",
)

ATTEMPTS = 5


class Backup(msgspec.Struct, frozen=True):
    """Description of a backup.

    Attributes:
        made_ms: time of the backup, Unix milliseconds.
        offset: last log line in it.
        version: policy version; 0: none was published.
    """

    made_ms: int
    offset: int
    version: int
    format_version: int = FORMAT_VERSION


def backup(config: Config, folder: Path, now_ms: int, advance: Advance | None = None) -> Backup:
    """Copy the data folder; a server may be running on it.

    Args:
        folder: target; must be missing or empty.

    Raises:
        JobError: there is no log, or the target is not empty.
    """
    _require_empty(folder)
    data = Path(config.data.folder)
    version = _copy_together(config, folder, advance)
    if (data / SECRET).exists():
        shutil.copy2(data / SECRET, folder / SECRET)
        (folder / SECRET).chmod(0o600)
    copies = copies_of(config)
    about = Backup(now_ms, copies.last_offset(folder / copies.file), version)
    _flush(folder)
    (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
    _flush(folder)
    return about


def count_pages(config: Config) -> int:
    """Return the number of database pages that a backup would copy now.

    Raises:
        JobError: as `backup`.
    """
    with freeze_data(config) as frozen:
        return frozen.n_pages()


def restore(config: Config, folder: Path, *, force: bool = False) -> Backup:
    """Replace the data folder by a backup, after checking all of the backup.

    Args:
        folder: a backup made by `backup`.
        force: replace a data folder that is not empty; the old one is removed afterwards.

    Raises:
        JobError: the backup is incomplete, the data folder is in use, or it is not empty without
            `force`.
    """
    about = _checked(copies_of(config), folder)
    data = Path(config.data.folder)
    require_idle(config)
    if not force:
        _require_empty(data, hint="; --force replaces it")
    data.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside, old = (data.with_name(f".{data.name}.{uuid.uuid4().hex}") for _ in range(2))
    shutil.copytree(folder, aside, ignore=shutil.ignore_patterns(ABOUT))
    _flush(aside)
    if data.exists():
        data.rename(old)
    aside.rename(data)
    _flush_one(data.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)
    return about


def _copy_together(config: Config, folder: Path, advance: Advance | None) -> int:
    """Copy database and snapshots as of one moment; return the current snapshot's version.

    The snapshot to resume from is copied too. Pruning may remove a generation between reading its
    row and its files, so the copy is retried.
    """
    for _ in range(ATTEMPTS):
        try:
            return _try_copy(config, folder, advance)
        except FileNotFoundError:
            continue
    raise JobError(f"the current snapshot went {ATTEMPTS} times while it was copied; try again")


def _try_copy(config: Config, folder: Path, advance: Advance | None) -> int:
    imported = ImportedWorld(Path(config.data.folder))
    with freeze_data(config) as frozen, imported.alone():
        folder.mkdir(parents=True, exist_ok=True)
        version = current_activation(frozen.view, "policy")
        if version is not None:
            _copy_snapshots(open_snapshots(config), folder / SNAPSHOTS, version.version)
        imported.copy(frozen.view, folder)
        _copy_rankers(open_rankers(config), folder / RANKERS)
        frozen.copy(folder / copies_of(config).file, advance or _tell_nobody)
    return 0 if version is None else version.version


def _copy_snapshots(store: SnapshotStore, folder: Path, current: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    copies = SnapshotStore(folder, keep=2)
    for version in sorted({store.newest_with(JOIN), current}):
        if not 0 < version <= current:
            continue  # there is none, or it was never made current
        snapshot = store.load(version)
        copies.publish(snapshot.manifest, snapshot.parts)


def _copy_rankers(store: SnapshotStore, folder: Path) -> None:
    """Copy all rankers: one that a row of the transaction names was on disk before the row."""
    shutil.rmtree(folder, ignore_errors=True)
    for version in store.versions():
        snapshot = store.load(version)
        SnapshotStore(folder, keep=KEPT).publish(snapshot.manifest, snapshot.parts)


def _checked(copies: FileCopies, folder: Path) -> Backup:
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=Backup)
    except FileNotFoundError:
        raise JobError(f"{folder}: expected a whole backup with {ABOUT}, found none") from None
    except msgspec.DecodeError as error:
        raise JobError(f"{folder / ABOUT}: {error}") from error
    if about.format_version > FORMAT_VERSION:
        raise JobError(f"{folder}: written by a newer nextswipe: upgrade this one")
    _check_database(copies, folder / copies.file, about)
    try:
        _check_generations(folder, about)
    except (FileNotFoundError, SnapshotCorruption) as error:
        raise JobError(f"{folder}: {error}") from error
    return about


def _check_generations(folder: Path, about: Backup) -> None:
    if about.version:
        snapshots = SnapshotStore(folder / SNAPSHOTS, keep=2)
        for version in {about.version, *snapshots.versions()}:
            snapshots.load(version)
    if (folder / RANKERS).is_dir():
        rankers = SnapshotStore(folder / RANKERS, keep=KEPT)
        for version in rankers.versions():
            rankers.load(version)


def _check_database(copies: FileCopies, path: Path, about: Backup) -> None:
    try:
        offset = copies.check(path)
    except ValueError as error:
        raise JobError(f"{path}: {error}") from error
    if offset != about.offset:
        raise JobError(f"{path}: expected a log up to {about.offset}, got {offset}")


def _require_empty(folder: Path, hint: str = ": name another folder") -> None:
    if folder.exists() and not folder.is_dir():
        raise JobError(f"{folder}: expected a folder, got a file: name another")
    if folder.is_dir() and any(folder.iterdir()):
        raise JobError(f"{folder} is not empty{hint}")


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush_one(path)
    _flush_one(folder)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tell_nobody(n: int) -> None:
    """Ignore progress."""
