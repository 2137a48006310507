"""Search by words, which the store on SQLite has."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from env.records import ItemRecord
from env.vocabulary import CreatorId, Item, ItemId
from serve.store.sqlite import SqliteStore
from serve.store.store import Store, Transaction

T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SqliteStore(tmp_path / "a.db", lambda: 0) as store:
        yield store


def write(store: Store, work: Callable[[Transaction], T]) -> T:
    return store.write(work, durable=False).result()


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
