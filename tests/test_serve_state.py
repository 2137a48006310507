import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

import pytest

from env.records import UserRecord
from env.vocabulary import CreatorId, Item, ItemId, Profile, UserId, UserKey
from replay.database import Database
from serve.secret import derive_key, load_secret
from serve.state import SCHEMA, Person, StaleEpoch, State, Version

T = TypeVar("T")
ANN, HERS = UserId("ann"), UserKey("k1")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with Database(tmp_path / "a.db", schema=SCHEMA) as database:
        yield State(database)


def write(state: State, work: Callable[[Connection], T]) -> T:
    return state.database.write(work, durable=False).result()


def register(state: State, profile: Profile) -> None:
    def work(connection: Connection) -> None:
        state.add_user(connection, ANN, HERS)
        state.fold(connection, [UserRecord(HERS, 1, ANN, profile)])

    write(state, work)


def test_a_person_is_found_by_the_callers_id(state: State) -> None:
    register(state, Profile(country="GB"))
    person = write(state, lambda c: state.person(c, ANN))
    assert isinstance(person, Person)
    assert (person.user, person.state.profile) == (HERS, Profile(country="GB"))
    assert write(state, lambda c: state.person(c, "bob")) is None


def test_forgetting_removes_the_state(state: State) -> None:
    register(state, Profile())

    def forget(connection: Connection) -> None:
        state.remove_user(connection, ANN)
        state.fold(connection, [UserRecord(HERS, 2)])

    write(state, forget)
    assert write(state, lambda c: state.person(c, ANN)) is None
    assert not write(state, lambda c: state.has_state(c, HERS))


def item(name: str, title: str = "", tags: tuple[str, ...] = (), creator: str = "") -> Item:
    return Item(ItemId(name), title=title, tags=tags, creator=CreatorId(creator))


def test_items_are_searched_by_words_and_their_beginnings(state: State) -> None:
    cats = item("1", "Two cats at the café", ("pets",), "ann")
    dogs = item("2", "A dog surfing", ("pets", "sport"), "bob")
    write(state, lambda c: state.put_items(c, [cats, dogs], 7))

    def found(text: str) -> list[str]:
        return [i.item_id for i in write(state, lambda c: state.search(c, text, 10))]

    assert found("cat") == ["1"]
    assert sorted(found("pets")) == ["1", "2"]
    assert found("pets sur") == ["2"]
    assert found("CAFE") == ["1"]
    assert found("bob") == ["2"]
    assert found("") == found(" ") == found("cat dog") == []
    assert write(state, state.catalogue_offset) == 7


@pytest.mark.parametrize("text", ['"', "a OR", "NEAR(", "*", "title:x", "-", "^", "\0", "'; DROP"])
def test_a_search_never_meets_the_query_language(state: State, text: str) -> None:
    write(state, lambda c: state.put_items(c, [item("1", "plain")], 1))
    assert write(state, lambda c: state.search(c, text, 10)) == []


def test_a_changed_item_is_found_by_its_new_words_only(state: State) -> None:
    write(state, lambda c: state.put_items(c, [item("1", "before")], 1))
    write(state, lambda c: state.put_items(c, [item("1", "after")], 2))
    assert write(state, lambda c: state.search(c, "before", 10)) == []
    assert write(state, lambda c: state.search(c, "after", 10)) == [item("1", "after")]


def test_a_removed_item_is_gone_from_search(state: State) -> None:
    write(state, lambda c: state.put_items(c, [item("1", "film")], 1))
    write(state, lambda c: state.remove_item(c, ItemId("1"), 2))
    assert write(state, lambda c: state.item(c, "1")) is None
    assert write(state, lambda c: state.search(c, "film", 10)) == []
    assert write(state, state.catalogue_offset) == 2


def test_a_version_is_published_under_the_newest_epoch_only(state: State) -> None:
    assert state.current_version() is None
    assert state.last_version_number() == 0
    old = write(state, state.next_epoch)
    write(state, lambda c: state.publish_version(c, Version(1, old, 10, "a")))
    new = write(state, state.next_epoch)
    with pytest.raises(StaleEpoch, match="another learner runs"):
        write(state, lambda c: state.publish_version(c, Version(2, old, 20, "b")))
    assert state.current_version() == Version(1, old, 10, "a")
    write(state, lambda c: state.publish_version(c, Version(2, new, 15, "c")))
    assert state.current_version() == Version(2, new, 15, "c")
    assert state.last_version_number() == 2


def test_epochs_are_never_given_out_twice(state: State) -> None:
    with ThreadPoolExecutor(8) as pool:
        epochs = list(pool.map(lambda _: write(state, state.next_epoch), range(50)))
    assert sorted(epochs) == list(range(1, 51))


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(load_secret, [tmp_path] * 16))
    assert len(secrets) == 1
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_broken_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 32 bytes, got 5"):
        load_secret(tmp_path)


def test_keys_for_different_purposes_differ() -> None:
    secret = bytes(32)
    keys = {derive_key(secret, p) for p in ("decision", "page", "session", "draw")}
    assert len(keys) == 4
    assert derive_key(secret, "draw") == derive_key(secret, "draw")
