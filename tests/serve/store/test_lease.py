"""The lease of a Redis: one server on an installation, whatever folders and machines there are."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from redises import new_name, shared_url
from servers import START_MS
from waiting import wait_until

from replay.log.redis.client import RedisClient
from serve.config import Config, DataSettings, StoreSettings
from serve.errors import JobError
from serve.store.data_folder import Holder, sole_server


@pytest.fixture
def configs(tmp_path: Path) -> tuple[Config, Config]:
    """Return the settings of two machines, each with its folder, on one Redis."""
    store = StoreSettings(shared_url(), new_name(), shards=3)
    one, other = (Config(data=DataSettings(str(tmp_path / name)), store=store) for name in "ab")
    return one, other


@pytest.fixture
def client() -> Iterator[RedisClient]:
    client = RedisClient(shared_url())
    yield client
    client.close()


def key_of(config: Config) -> str:
    return f"{{{config.store.name}.0}}:server"


def test_a_second_server_is_refused_while_the_first_renews(configs: tuple[Config, Config]) -> None:
    one, other = configs
    with (
        sole_server(one, START_MS),
        pytest.raises(JobError, match=r"store.url is served already, .* as process \d+ on"),
        sole_server(other, START_MS),
    ):
        pytest.fail("expected to be refused")
    with sole_server(other, START_MS):
        pass


def test_a_lease_ends_with_its_server_or_by_itself(
    configs: tuple[Config, Config], client: RedisClient
) -> None:
    one, _ = configs
    with sole_server(one, START_MS):
        assert 0 < client.ask("PTTL", key_of(one)) <= 10_000
    assert client.ask("EXISTS", key_of(one)) == 0


def test_a_server_that_was_away_too_long_is_told_who_has_the_store(
    configs: tuple[Config, Config], client: RedisClient
) -> None:
    one, _ = configs
    said: list[str] = []
    told = threading.Event()

    def lost(reason: str) -> None:
        said.append(reason)
        told.set()

    with sole_server(one, START_MS, lost=lost):
        other = msgspec.json.encode(Holder(7, "elsewhere", START_MS))
        client.ask("SET", key_of(one), other + b"\n0")
        wait_until(told.is_set)
        assert "process 7 on elsewhere" in said[0]
    assert client.ask("GET", key_of(one)) == other + b"\n0", "it is the other's"
    client.ask("DEL", key_of(one))


def test_a_lease_that_was_forgotten_is_taken_again(
    configs: tuple[Config, Config], client: RedisClient
) -> None:
    one, _ = configs
    with sole_server(one, START_MS):
        client.ask("DEL", key_of(one))
        wait_until(lambda: client.ask("EXISTS", key_of(one)) == 1)
