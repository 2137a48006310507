"""Backups fit together while the server runs, and come back as they were."""

import shutil
import stat
import threading
from pathlib import Path

import msgspec
import pytest
from histories import START_MS, config_of, make_history, make_learner
from kuairands import write_kuairand
from waiting import DEADLINE_S

from env.records import LogLine, TickRecord
from serve.config import Config, DataSettings
from serve.errors import JobError
from serve.importers import kuairand
from serve.jobs.backup import Backup, backup, restore
from serve.jobs.import_data import import_kuairand, load_world
from serve.jobs.verify import verify_log
from serve.learn.fold import JOIN
from serve.learn.learner import publish
from serve.learn.settings import open_snapshots
from serve.processes.replica import LearnerReplica
from serve.store.data_folder import open_file
from serve.store.generations import current_version
from serve.store.open import open_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    make_history(config_of(folder), rounds=range(2))
    data = kuairand.read(write_kuairand(folder.parent))
    import_kuairand(config_of(folder), data, START_MS)
    (folder / "imports" / "unfinished").mkdir()
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return config_of(shutil.copytree(made, tmp_path / "data"))


def test_a_restored_backup_is_what_was_there(config: Config, tmp_path: Path) -> None:
    about = backup(config, tmp_path / "copy", START_MS)

    elsewhere = _at(config, tmp_path / "elsewhere" / "data")
    assert restore(elsewhere, tmp_path / "copy") == about
    assert _lines(elsewhere) == _lines(config)
    assert about == Backup(START_MS, _lines(config)[-1].offset, 2)
    assert open_snapshots(elsewhere).load(2) == open_snapshots(config).load(2)
    secret = tmp_path / "elsewhere" / "data" / "secret.key"
    assert secret.read_bytes() == (tmp_path / "data" / "secret.key").read_bytes()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert load_world(elsewhere, seed=1)[1] == load_world(config, seed=1)[1]
    assert len(list((tmp_path / "elsewhere" / "data" / "imports").iterdir())) == 1
    assert verify_log(elsewhere).is_clean
    make_history(elsewhere, rounds=range(2, 3))
    assert verify_log(elsewhere).is_clean


def test_a_backup_has_what_a_learner_goes_on_from(config: Config, tmp_path: Path) -> None:
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        version = publish(
            store, open_snapshots(config), learner.learning, learner.epoch, resumable=False
        )
    about = backup(config, tmp_path / "copy", START_MS)
    assert about.version == version.version == 3

    elsewhere = _at(config, tmp_path / "elsewhere" / "data")
    restore(elsewhere, tmp_path / "copy")
    snapshots = open_snapshots(elsewhere)
    assert snapshots.versions() == [2, 3]
    assert snapshots.newest_with(JOIN) == 2
    with open_store(elsewhere, lambda: 0) as store:
        assert make_learner(elsewhere, store).learning.offset == version.offset


def test_a_backup_fits_together_while_the_server_writes(config: Config, tmp_path: Path) -> None:
    stop, appended = threading.Event(), threading.Event()

    def append() -> None:
        with open_store(config, lambda: 0) as store:
            log = store.log
            while not stop.is_set():
                log.append([TickRecord(START_MS)] * 50, durable=False)
                appended.set()

    writer = threading.Thread(target=append)
    writer.start()
    try:
        assert appended.wait(DEADLINE_S)
        about = backup(config, tmp_path / "copy", START_MS)
    finally:
        stop.set()
        writer.join()

    elsewhere = _at(config, tmp_path / "elsewhere")
    restore(elsewhere, tmp_path / "copy")
    restored = _lines(elsewhere)
    assert restored == _lines(config)[: len(restored)]
    assert restored[-1].offset == about.offset
    LearnerReplica(elsewhere, now_ms=lambda: START_MS).close()


def test_progress_is_told(config: Config, tmp_path: Path) -> None:
    told: list[int] = []
    backup(config, tmp_path / "copy", START_MS, told.append)
    copy = _at(config, tmp_path / "copy")
    with open_file(copy) as store, store.database.reader() as reader:
        assert sum(told) == reader.execute("PRAGMA page_count").fetchone()[0]


def test_a_folder_that_holds_something_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "thesis.txt").write_text("mine")
    with pytest.raises(JobError, match="copy is not empty"):
        backup(config, tmp_path / "copy", START_MS)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["thesis.txt"]


def test_a_data_folder_is_replaced_only_by_force(config: Config, tmp_path: Path) -> None:
    backup(config, tmp_path / "copy", START_MS)
    before = _lines(config)
    make_history(config, rounds=range(2, 3))
    with pytest.raises(JobError, match="is not empty; --force replaces it"):
        restore(config, tmp_path / "copy")
    assert len(_lines(config)) > len(before)

    restore(config, tmp_path / "copy", force=True)

    assert _lines(config) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_a_data_folder_in_use_is_not_replaced(config: Config, tmp_path: Path) -> None:
    backup(config, tmp_path / "copy", START_MS)
    with open_store(config, lambda: 0), pytest.raises(JobError, match="is in use"):
        restore(config, tmp_path / "copy", force=True)


def test_half_a_backup_is_not_restored(config: Config, tmp_path: Path) -> None:
    backup(config, tmp_path / "copy", START_MS)
    (tmp_path / "copy" / "backup.json").unlink()
    with pytest.raises(JobError, match="expected a whole backup"):
        restore(_at(config, tmp_path / "elsewhere"), tmp_path / "copy")


def test_a_damaged_backup_is_not_restored(config: Config, tmp_path: Path) -> None:
    backup(config, tmp_path / "copy", START_MS)
    scorer = next((tmp_path / "copy").rglob("scorer"))
    data = bytearray(scorer.read_bytes())
    data[100] ^= 1
    scorer.write_bytes(data)
    with pytest.raises(JobError, match="sha256"):
        restore(_at(config, tmp_path / "elsewhere"), tmp_path / "copy")
    (tmp_path / "copy" / "nextswipe.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(JobError, match="not a database"):
        restore(_at(config, tmp_path / "elsewhere"), tmp_path / "copy")
    assert not (tmp_path / "elsewhere").exists()


def test_a_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="expected a data folder"):
        backup(config_of(tmp_path / "data"), tmp_path / "copy", START_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_nothing_was_learned_can_be_backed_up(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    make_history(config, n_users=1, rounds=range(1), publish=False)
    assert backup(config, tmp_path / "copy", START_MS).version == 0
    elsewhere = _at(config, tmp_path / "elsewhere")
    restore(elsewhere, tmp_path / "copy")
    with open_store(elsewhere, lambda: 0) as store:
        assert current_version(store) is None


def _at(config: Config, folder: Path) -> Config:
    return msgspec.structs.replace(config, data=DataSettings(str(folder)))


def _lines(config: Config) -> list[LogLine]:
    with open_store(config, lambda: 0) as store:
        return list(store.log.read())
