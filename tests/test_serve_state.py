import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from env.records import ItemRecord, UserRecord
from env.vocabulary import CreatorId, Item, ItemId, Profile, UserId, UserKey
from serve.ledger import fold_states
from serve.secret import derive_key, load_secret
from serve.sqlite_store import SqliteStore
from serve.store import Person, Store, Transaction
from serve.versions import StaleEpoch, Version, begin_epoch, current_version, publish_version

T = TypeVar("T")
ANN, HERS = UserId("ann"), UserKey("k1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SqliteStore(tmp_path / "a.db", lambda: 0) as store:
        yield store


def write(store: Store, work: Callable[[Transaction], T]) -> T:
    return store.write(work, durable=False).result()


def register(store: Store, profile: Profile) -> None:
    def work(transaction: Transaction) -> None:
        transaction.add_user(ANN, HERS)
        fold_states(transaction, [UserRecord(HERS, 1, ANN, profile)])

    write(store, work)


def test_a_person_is_found_by_the_callers_id(store: Store) -> None:
    register(store, Profile(country="GB"))
    person = write(store, lambda t: t.person(ANN))
    assert isinstance(person, Person)
    assert (person.user, person.state.profile) == (HERS, Profile(country="GB"))
    assert write(store, lambda t: t.person("bob")) is None


def test_forgetting_removes_the_state(store: Store) -> None:
    register(store, Profile())

    def forget(transaction: Transaction) -> None:
        transaction.remove_user(ANN)
        fold_states(transaction, [UserRecord(HERS, 2)])

    write(store, forget)
    assert write(store, lambda t: t.person(ANN)) is None
    assert not write(store, lambda t: t.user_states([HERS]))


def item(name: str, title: str = "", tags: tuple[str, ...] = (), creator: str = "") -> Item:
    return Item(ItemId(name), title=title, tags=tags, creator=CreatorId(creator))


def put(store: Store, items: list[Item]) -> None:
    def work(transaction: Transaction) -> None:
        transaction.append([ItemRecord(item.item_id, 1, item) for item in items])
        transaction.put_items(items)

    write(store, work)


def remove(store: Store, item_id: ItemId) -> None:
    def work(transaction: Transaction) -> None:
        transaction.append([ItemRecord(item_id, 1)])
        transaction.remove_item(item_id)

    write(store, work)


def test_items_are_searched_by_words_and_their_beginnings(store: Store) -> None:
    cats = item("1", "Two cats at the café", ("pets",), "ann")
    dogs = item("2", "A dog surfing", ("pets", "sport"), "bob")
    put(store, [cats, dogs])

    def found(text: str) -> list[str]:
        return [i.item_id for i in write(store, lambda t: t.search(text, 10))]

    assert found("cat") == ["1"]
    assert sorted(found("pets")) == ["1", "2"]
    assert found("pets sur") == ["2"]
    assert found("CAFE") == ["1"]
    assert found("bob") == ["2"]
    assert found("") == found(" ") == found("cat dog") == []
    assert write(store, lambda t: t.catalogue_offset()) == 2


@pytest.mark.parametrize("text", ['"', "a OR", "NEAR(", "*", "title:x", "-", "^", "\0", "'; DROP"])
def test_a_search_never_meets_the_query_language(store: Store, text: str) -> None:
    put(store, [item("1", "plain")])
    assert write(store, lambda t: t.search(text, 10)) == []


def test_a_changed_item_is_found_by_its_new_words_only(store: Store) -> None:
    put(store, [item("1", "before")])
    put(store, [item("1", "after")])
    assert write(store, lambda t: t.search("before", 10)) == []
    assert write(store, lambda t: t.search("after", 10)) == [item("1", "after")]


def test_a_removed_item_is_gone_from_search(store: Store) -> None:
    put(store, [item("1", "film")])
    remove(store, ItemId("1"))
    assert write(store, lambda t: t.find_items([ItemId("1")])) == {}
    assert write(store, lambda t: t.search("film", 10)) == []
    assert write(store, lambda t: t.catalogue_offset()) == 2


def test_a_version_is_published_under_the_newest_epoch_only(store: Store) -> None:
    assert current_version(store) is None
    assert write(store, lambda t: t.last_version_number()) == 0
    old = write(store, begin_epoch)
    write(store, lambda t: publish_version(t, Version(1, old, 10, "a")))
    new = write(store, begin_epoch)
    with pytest.raises(StaleEpoch, match="another learner runs"):
        write(store, lambda t: publish_version(t, Version(2, old, 20, "b")))
    assert current_version(store) == Version(1, old, 10, "a")
    write(store, lambda t: publish_version(t, Version(2, new, 15, "c")))
    assert current_version(store) == Version(2, new, 15, "c")
    assert write(store, lambda t: t.last_version_number()) == 2


def test_epochs_are_never_given_out_twice(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        epochs = list(pool.map(lambda _: write(store, begin_epoch), range(50)))
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
