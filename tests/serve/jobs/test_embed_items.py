"""An import embeds before it writes: in several processes, with progress, each media once."""

from functools import partial
from pathlib import Path

import msgspec
import pytest
from histories import START_MS, config_of
from hooks import answer_to, asked, hook_settings, with_media, write_hook
from servers import serving
from typer.testing import CliRunner

from env.columns.schema import CONTENT_DIM, N_STATIC, VECTOR_DIM
from env.items.projections import LEAST_ITEMS
from env.records import ItemRecord
from env.vocabulary import Item, ItemId
from serve.commands.main import app
from serve.config import Config
from serve.errors import JobError
from serve.jobs.embed_items import EmbeddedItems, embed_items
from serve.jobs.import_data import ImportCounts, import_items
from serve.store.ledger import put_items, put_projection
from serve.store.open import open_store
from serve.store.store import Transaction, write_now
from serve.wire.items import ItemBody


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_hook(tmp_path)
    return hooked(tmp_path)


def hooked(folder: Path, name: str = "hooks:embed") -> Config:
    content, custom = hook_settings(folder, name)
    return msgspec.structs.replace(config_of(folder / "data"), content=content, custom=custom)


def records(config: Config) -> list[ItemRecord]:
    with open_store(config, lambda: 0) as store:
        lines = [line.record for line in store.log.read()]
    return [record for record in lines if isinstance(record, ItemRecord)]


def test_media_are_embedded_in_order_with_progress(config: Config, tmp_path: Path) -> None:
    items = [with_media("m" * (k + 1), f"i{k}") for k in range(50)]
    items[7:7] = [with_media("none"), with_media("raise"), Item(ItemId("plain"))]
    told: list[int] = []
    embedded = embed_items(config, items, START_MS, told.append)
    assert sum(told) == 2 * len(items)
    assert len(told) > 4
    assert embedded.outcomes == {"vector": 50, "none": 1, "failed": 1}
    assert import_items(config, embedded, START_MS) == ImportCounts(new=53)
    found = {record.item_id: record for record in records(config)}
    assert list(found) == [item.item_id for item in items]
    for k in range(50):
        item = found[ItemId(f"i{k}")].item
        assert item is not None
        assert (item.vector, item.embedder) == (answer_to("m" * (k + 1)), "hooks:embed")
    assert [r.item.embedder for r in records(config)[7:10] if r.item] == ["hooks:embed", "", ""]
    assert len(set(asked(tmp_path))) == 52


def test_a_second_import_asks_only_about_new_media_and_failures(
    config: Config, tmp_path: Path
) -> None:
    items = [with_media("a"), with_media("none"), with_media("raise"), with_media("b")]
    import_items(config, items, START_MS)
    first = len(asked(tmp_path))
    changed = [*items[:3], with_media("other", "b")]
    assert import_items(config, changed, START_MS + 1) == ImportCounts(changed=1, unchanged=3)
    assert set(asked(tmp_path)[first:]) == {"raise", "b"}
    assert import_items(config, items[:2], START_MS + 2) == ImportCounts(unchanged=2)


def test_vectors_of_the_import_s_own_set_the_length(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    own = Item(ItemId("own"), vector=(1.0, 0.0))
    assert import_items(config, [with_media("a"), own], START_MS) == ImportCounts(new=2)
    assert [r.item.vector for r in records(config) if r.item] == [None, (1.0, 0.0)]
    told = "not embedded item=a: expected 2 numbers as in the catalogue's vectors, got 3"
    assert caplog.messages == [told]


async def test_what_keeps_its_vector_is_encoded_with_the_projection_of_the_import(
    tmp_path: Path,
) -> None:
    write_hook(tmp_path)
    items = [with_media("m" * (k + 1), f"i{k}") for k in range(LEAST_ITEMS)]
    embedded = embed_items(hooked(tmp_path, "hooks:many"), items, START_MS)
    with serving(tmp_path / "data") as server:
        write_now(server.store, partial(_put, embedded=embedded))
    with serving(tmp_path / "data") as server:
        await server.engine.shelf.put(ItemId("i7"), ItemBody(title="Renamed", media="m" * 8))
        first, last = server.of(ItemRecord)[7], server.of(ItemRecord)[-1]
    (learned,) = embedded.learned
    assert (first.encoding, last.encoding) == (learned.number, learned.number)
    assert (first.block, len(first.block)) == (
        last.block,
        2 * (N_STATIC + CONTENT_DIM - VECTOR_DIM),
    )


def _put(transaction: Transaction, embedded: EmbeddedItems) -> None:
    for record in embedded.learned:
        put_projection(transaction, record)
    put_items(transaction, embedded.items, embedded.blocks, START_MS, are_new=False)


def test_own_vectors_of_another_length_replace_all_of_a_hook_s(config: Config) -> None:
    items = [with_media("a"), with_media("b")]
    import_items(config, items, START_MS)
    own = [msgspec.structs.replace(item, vector=(1.0, 0.0)) for item in items]
    assert import_items(config, own, START_MS + 1) == ImportCounts(changed=2)


def test_a_hook_that_cannot_be_loaded_writes_nothing(tmp_path: Path) -> None:
    write_hook(tmp_path, "import absent_library")
    config = hooked(tmp_path)
    with pytest.raises(JobError, match=r"content\.embed: hooks:embed: importing it raised"):
        import_items(config, [with_media("a")], START_MS)
    assert records(config) == []
    assert isinstance(embed_items(config, [Item(ItemId("plain"))], START_MS), EmbeddedItems)


def test_the_command_says_what_came_of_it(tmp_path: Path) -> None:
    write_hook(tmp_path)
    (tmp_path / "items.csv").write_text("item_id,media\na,a.jpg\nb,none\nc,raise\n")
    settings = tmp_path / "settings.toml"
    settings.write_text('[content]\nembed = "hooks:embed"\nmedia_folder = "media"\n')
    data, file = str(tmp_path / "data"), str(tmp_path / "items.csv")
    command = ["import", "items", file, "--config", str(settings), "--data", data]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines() == [
        "3 items (new 3, unchanged 0)",
        "embedded by hooks:embed: 1 with a vector, 1 without, 1 failed",
    ]
