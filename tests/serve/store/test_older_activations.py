"""What the release of 29 November kept of versions and rankers, in two ways, is read as one."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from redises import new_name, shared_url

from serve.config import Config, DataSettings, StoreSettings
from serve.store.generations import (
    activate,
    activate_after,
    all_versions,
    begin_epoch,
    current_activation,
    current_version,
)
from serve.store.open import open_store
from serve.store.redis import MARKS, RedisTransaction
from serve.store.sqlite import DATABASE
from serve.store.store import Activation, Store, write_now

VERSIONS = [Activation(1, 1, 10, "a"), Activation(2, 3, 5, "b")]
OFF = Activation(0, 3)
OLD_TABLES = """
CREATE TABLE versions (version INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,
    log_offset INTEGER NOT NULL, digest TEXT NOT NULL) STRICT;
CREATE INDEX versions_current ON versions (epoch, version);
CREATE TABLE ranker_moves (move INTEGER PRIMARY KEY, version INTEGER NOT NULL,
    digest TEXT NOT NULL) STRICT;
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO marks VALUES ('catalogue', 0), ('epoch', 4), ('vectors', 0), ('vector_length', 0);
INSERT INTO versions VALUES (1, 1, 10, 'a'), (2, 3, 5, 'b');
INSERT INTO ranker_moves VALUES (1, 1, 'r1'), (2, 2, 'r2'), (3, 0, '');
"""


def in_sqlite(config: Config) -> None:
    Path(config.data.folder).mkdir()
    connection = sqlite3.connect(Path(config.data.folder) / DATABASE)
    connection.executescript(OLD_TABLES)
    connection.close()


def in_redis(config: Config) -> None:
    def keep(transaction: object) -> None:
        assert isinstance(transaction, RedisTransaction)
        for version in VERSIONS:
            row = msgspec.msgpack.encode(version)
            transaction._put("", "version", str(version.version), row)
        transaction._put("", MARKS, "newest", msgspec.msgpack.encode(VERSIONS))
        transaction._put("", MARKS, "epoch", b"4")
        transaction._put("", MARKS, "ranker", msgspec.msgpack.encode((3, 0, "")))

    with open_store(config, lambda: 0) as store:
        write_now(store, keep)


@pytest.fixture(params=[in_sqlite, in_redis])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    url = shared_url() if request.param is in_redis else ""
    store = StoreSettings(url, new_name(), shards=1)
    config = Config(data=DataSettings(str(tmp_path / "data")), store=store)
    request.param(config)
    return config


def ranker(store: Store) -> Activation | None:
    with store.view() as view:
        return current_activation(view, "ranker")


def test_older_rows_are_current_and_gone_on_from(config: Config) -> None:
    for _ in range(2):  # the first one moves them
        with open_store(config, lambda: 0) as store, store.view() as view:
            assert current_version(store) == VERSIONS[1]
            assert all_versions(store) == [VERSIONS[1], VERSIONS[0]]
            assert (view.newest_epoch("policy"), view.newest_epoch("ranker")) == (4, 3)
            assert view.last_version_number("policy") == 2
            assert ranker(store) == OFF
    with open_store(config, lambda: 0) as store:
        again = write_now(store, lambda t: activate_after(t, OFF, 2, "r2", "ranker"))
        assert ranker(store) == again == Activation(2, 4, 0, "r2")
        epoch = write_now(store, begin_epoch)
        newest = Activation(3, epoch, 20, "c")
        write_now(store, lambda t: activate(t, newest))
        assert current_version(store) == newest
        assert all_versions(store) == [VERSIONS[1], VERSIONS[0], newest]


def test_both_processes_that_open_an_older_folder_at_once_read_it(tmp_path: Path) -> None:
    config = Config(data=DataSettings(str(tmp_path / "data")))
    in_sqlite(config)
    with open_store(config, lambda: 0) as one, open_store(config, lambda: 0) as other:
        assert all_versions(one) == all_versions(other) == [VERSIONS[1], VERSIONS[0]]
