"""Backup and restore of the data folder; a backup runs beside the server and is consistent.

SQLite's backup, the current snapshot and the imported world are copied in one read transaction, and
all rankers beside them. `backup.json` is written last, so a folder without it is incomplete. The
copy holds the secret, which signs decisions: keep it as private as the data folder. Details:
`docs/decisions/jobs-backup.md`.
"""

import os
import shutil
import sqlite3
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
from serve.store.data_folder import open_file, require_idle
from serve.store.sqlite import SqliteView

Advance = Callable[[int], None]
"""Called with the number of database pages copied since the last call."""

FORMAT_VERSION = 1

ABOUT, DATABASE, SECRET, SNAPSHOTS, RANKERS = (
    "backup.json",
    "nextswipe.db",
    "secret.key",
    "snapshots",
    "retention",
)

ATTEMPTS = 5

PAGES_A_STEP = 1_000


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
        Refused: there is no log, or the target is not empty.
    """
    _require_empty(folder)
    data = Path(config.data.folder)
    version = _copy_together(config, folder, advance)
    if (data / SECRET).exists():
        shutil.copy2(data / SECRET, folder / SECRET)
        (folder / SECRET).chmod(0o600)
    about = Backup(now_ms, _last_offset(folder / DATABASE), version)
    _flush(folder)
    (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
    _flush(folder)
    return about


def count_pages(config: Config) -> int:
    """Return the number of database pages that a backup would copy now.

    Raises:
        Refused: as `backup`.
    """
    with open_file(config) as store, store.database.reader() as connection:
        (n,) = connection.execute("PRAGMA page_count").fetchone()
    return int(n)


def restore(config: Config, folder: Path, *, force: bool = False) -> Backup:
    """Replace the data folder by a backup, after checking all of the backup.

    Args:
        folder: a backup made by `backup`.
        force: replace a data folder that is not empty; the old one is removed afterwards.

    Raises:
        Refused: the backup is incomplete, the data folder is in use, or it is not empty without
            `force`.
    """
    about = _checked(folder)
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
    with open_file(config) as store:
        folder.mkdir(parents=True, exist_ok=True)
        imported = ImportedWorld(Path(config.data.folder))
        with imported.alone(), store.database.reader() as connection:
            view = SqliteView(connection)
            # A read transaction begins at its first read, and the backup below is part of it.
            version = view.current_version()
            if version is not None:
                _copy_snapshots(open_snapshots(config), folder / SNAPSHOTS, version.version)
            imported.copy(view, folder)
            _copy_rankers(open_rankers(config), folder / RANKERS)
            _copy_database(connection, folder / DATABASE, advance)
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


def _copy_database(connection: sqlite3.Connection, path: Path, advance: Advance | None) -> None:
    path.unlink(missing_ok=True)
    target = sqlite3.connect(path)

    done = 0

    def tell(status: int, remaining: int, total: int) -> None:
        nonlocal done
        if advance is not None:
            advance(total - remaining - done)
        done = total - remaining

    try:
        connection.backup(target, pages=PAGES_A_STEP, progress=tell)
    finally:
        target.close()


def _last_offset(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        (offset,) = connection.execute("SELECT coalesce(max(offset), 0) FROM log").fetchone()
    finally:
        connection.close()
    return int(offset)


def _checked(folder: Path) -> Backup:
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=Backup)
    except FileNotFoundError:
        raise JobError(f"{folder}: expected a whole backup with {ABOUT}, found none") from None
    except msgspec.DecodeError as error:
        raise JobError(f"{folder / ABOUT}: {error}") from error
    if about.format_version > FORMAT_VERSION:
        raise JobError(f"{folder}: written by a newer nextswipe: upgrade this one")
    _check_database(folder / DATABASE, about)
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


def _check_database(path: Path, about: Backup) -> None:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        (offset,) = connection.execute("SELECT coalesce(max(offset), 0) FROM log").fetchone()
    except sqlite3.DatabaseError as error:
        raise JobError(f"{path}: {error}") from error
    finally:
        connection.close()
    if verdict != "ok" or offset != about.offset:
        raise JobError(f"{path}: expected a log up to {about.offset}, got {offset} ({verdict})")


def _require_empty(folder: Path, hint: str = "") -> None:
    if folder.exists() and not folder.is_dir():
        raise JobError(f"{folder}: expected a folder")
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
