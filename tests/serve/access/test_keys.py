"""Keys in a store: made, rotated, revoked, on every kind of store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import kept_in, open_kind

from serve.access.keys import (
    SCOPES,
    create_key,
    matches,
    note_use,
    read_keys,
    revoke_key,
    rotate_key,
    split_key,
)
from serve.errors import JobError
from serve.store.store import Store, write_now


@pytest.fixture(params=["sqlite", "redis", "toy"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with kept_in(request.param), open_kind(tmp_path, lambda: 0) as store:
        yield store


def test_a_key_is_found_again_and_its_secret_is_not_kept(store: Store) -> None:
    key, text = write_now(store, lambda t: create_key(t, "backend", ["feed", "admin"], 5))
    with store.view() as view:
        assert read_keys(view) == [key]
        row = view.row("key", key.key_id)
    parts = split_key(text)
    assert parts is not None
    assert parts[0] == key.key_id
    assert row is not None
    assert parts[1].encode() not in row
    assert matches(key, parts[1])
    assert not matches(key, parts[1][:-1])
    assert not matches(None, parts[1])
    assert key.scopes == ("feed", "admin")


def test_a_name_has_at_most_two_live_keys(store: Store) -> None:
    first, _ = write_now(store, lambda t: create_key(t, "backend", SCOPES, 1, per_second=3.0))
    with pytest.raises(JobError, match="keys rotate backend"):
        write_now(store, lambda t: create_key(t, "backend", SCOPES, 2))
    second, _ = write_now(store, lambda t: rotate_key(t, "backend", 2))
    assert (second.scopes, second.per_second) == (first.scopes, 3.0)
    with pytest.raises(JobError, match="expected one live key of backend, got 2"):
        write_now(store, lambda t: rotate_key(t, "backend", 3))
    write_now(store, lambda t: revoke_key(t, first.key_id, 4))
    third, _ = write_now(store, lambda t: rotate_key(t, "backend", 5))
    with store.view() as view:
        live = [key.key_id for key in read_keys(view) if key.is_live(6)]
    assert live == [second.key_id, third.key_id]


def test_a_revoked_key_stays_revoked_and_a_use_does_not_bring_it_back(store: Store) -> None:
    key, _ = write_now(store, lambda t: create_key(t, "backend", SCOPES, 1))
    assert write_now(store, lambda t: revoke_key(t, key.key_id, 7)).revoked_ms == 7
    assert write_now(store, lambda t: revoke_key(t, key.key_id, 9)).revoked_ms == 7
    write_now(store, lambda t: note_use(t, {key.key_id: 8, "unknown": 8}))
    with store.view() as view:
        (kept,) = read_keys(view)
    assert (kept.revoked_ms, kept.used_ms, kept.is_live(8)) == (7, 8, False)


def test_a_key_ends_by_itself(store: Store) -> None:
    key, _ = write_now(store, lambda t: create_key(t, "backend", SCOPES, 1, ends_ms=10))
    assert key.is_live(9)
    assert not key.is_live(10)
    # Its name is free again.
    write_now(store, lambda t: create_key(t, "backend", SCOPES, 10))


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "ä"])
def test_a_name_is_plain(store: Store, name: str) -> None:
    with pytest.raises(JobError, match="expected a name of 1 to 64"):
        write_now(store, lambda t: create_key(t, name, SCOPES, 1))


def test_an_unknown_key_cannot_be_revoked_and_an_unknown_name_not_rotated(store: Store) -> None:
    with pytest.raises(JobError, match="expected the id of a key"):
        write_now(store, lambda t: revoke_key(t, "nobody", 1))
    with pytest.raises(JobError, match="expected a name with a live key, got nobody"):
        write_now(store, lambda t: rotate_key(t, "nobody", 1))
