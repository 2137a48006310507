"""Which server asks for keys, and by which names it is called."""

from pathlib import Path

import pytest
from servers import open_kind

from serve.access.exposure import allowed_hosts, asks_always, is_loopback, require_guarded
from serve.access.keys import create_key, revoke_key
from serve.config import Config, ServerSettings
from serve.errors import JobError
from serve.store.store import write_now


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("feed.example", False),
    ],
)
def test_only_loopback_asks_for_no_key(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
    assert asks_always(ServerSettings(host=host)) is not expected
    assert asks_always(ServerSettings(host=host, keys="always"))


def test_a_server_on_loopback_answers_to_names_of_this_machine_and_given_ones() -> None:
    found = allowed_hosts(ServerSettings(hosts=("feed.example",)))
    assert found == frozenset({"localhost", "127.0.0.1", "[::1]", "feed.example"})
    assert allowed_hosts(ServerSettings(host="0.0.0.0")) is None
    assert allowed_hosts(ServerSettings(host="0.0.0.0", hosts=("a.example",))) == frozenset(
        {"a.example"}
    )


def test_a_server_that_others_reach_needs_a_live_key(tmp_path: Path) -> None:
    far = Config(server=ServerSettings(host="0.0.0.0"))
    with open_kind(tmp_path, lambda: 0) as store:
        require_guarded(Config(), store, 0)
        with pytest.raises(JobError, match=r"server.host: expected a live API key .* 0\.0\.0\.0"):
            require_guarded(far, store, 0)
        key, _ = write_now(store, lambda t: create_key(t, "a", ["feed"], 0, ends_ms=100))
        require_guarded(far, store, 99)
        with pytest.raises(JobError, match="and none; create one first"):
            require_guarded(far, store, 100)
        write_now(store, lambda t: revoke_key(t, key.key_id, 1))
        with pytest.raises(JobError, match="and none; create one first"):
            require_guarded(far, store, 2)


def test_a_server_that_always_asks_for_keys_answers_to_any_name() -> None:
    assert allowed_hosts(ServerSettings(keys="always")) is None
    assert allowed_hosts(ServerSettings(keys="always", hosts=("a.example",))) == frozenset(
        {"a.example"}
    )
