"""Uploads without a vector get one by a second put, once, whatever happens meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from histories import config_of
from hooks import answer_to, asked, hook_args, hook_settings, with_media, write_hook
from servers import START_MS, Server, kept_in, measured, sample, serving
from waiting import wait_until

from env.columns.schema import N_STATIC
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import Item, ItemId
from serve.content.embedding import Embedder
from serve.content.worker import HookWorker
from serve.processes.replica import LearnerReplica
from serve.wire.items import ItemBody, ItemsRequest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_hook(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder / "data") as server:
        yield server


async def put(server: Server, *items: Item) -> None:
    """Put items as a client would."""
    bodies = [msgspec.convert(msgspec.to_builtins(item), ItemBody) for item in items]
    await server.engine.shelf.put_many(ItemsRequest(tuple(bodies)))


def embed(server: Server, folder: Path, name: str = "hooks:embed") -> Embedder:
    """Embed all that waits, as a process does that has just started."""
    args = hook_args(folder, name)
    embedder = Embedder(server.store, args, now_ms=server.watch)
    with HookWorker(args) as worker:
        while embedder.step(worker):
            pass
    return embedder


def item_of(server: Server, name: str) -> Item:
    with server.store.view() as view:
        return view.find_items([ItemId(name)])[ItemId(name)]


@pytest.mark.parametrize("kind", ["sqlite", "redis", "toy"])
async def test_an_upload_is_taken_at_once_and_its_vector_follows(kind: str, folder: Path) -> None:
    with kept_in(kind), serving(folder / "data") as server:
        await put(server, with_media("a.jpg"), with_media("none"), Item(ItemId("plain")))
        assert item_of(server, "a.jpg").vector is None
        counts = embed(server, folder).counts()
        assert (counts.waiting, counts.outcomes) == (0, {"vector": 1, "none": 1})
        embedded = item_of(server, "a.jpg")
        with server.store.view() as view:
            offset = view.catalogue_offset()
            assert view.vectors() == (1, 3)
        await server.engine.shelf.refresh(offset)
        catalogue = server.engine._maker.catalogue
        index = catalogue.index_of(ItemId("a.jpg"))
    assert (embedded.vector, embedded.embedder) == (answer_to("a.jpg"), "hooks:embed")
    assert asked(folder) == ["a.jpg", "none"]
    assert index is not None
    assert catalogue.item(index) == embedded
    assert np.array_equal(catalogue.blocks[index], static_block(embedded)[:N_STATIC])


async def test_what_has_a_vector_or_no_media_is_not_asked_about(
    server: Server, folder: Path
) -> None:
    own = msgspec.structs.replace(with_media("own"), vector=(1.0, 2.0))
    await put(server, own, Item(ItemId("plain"), tags=("cats",)))
    before = server.records()
    assert embed(server, folder).counts().outcomes == {}
    assert server.records() == before


async def test_after_a_restart_only_what_was_never_answered_is_asked(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await put(server, with_media("a"), with_media("none"), with_media("raise"))
    embed(server, folder)
    await put(server, with_media("b"))
    first = len(asked(folder))
    caplog.clear()
    counts = embed(server, folder).counts()
    assert counts.outcomes == {"vector": 1, "failed": 1}
    assert set(asked(folder)[first:]) == {"raise", "b"}
    assert caplog.messages == ["not embedded item=raise: raised RuntimeError: cannot be decoded"]
    assert item_of(server, "raise").embedder == ""


async def test_a_put_of_the_same_media_keeps_the_vector(server: Server, folder: Path) -> None:
    item = with_media("a.jpg")
    await put(server, item)
    embed(server, folder)
    n = len(server.records())
    await put(server, item)
    assert len(server.records()) == n, "nothing has changed"
    await put(server, msgspec.structs.replace(item, title="Renamed"))
    embedded = item_of(server, "a.jpg")
    assert (embedded.title, embedded.vector) == ("Renamed", answer_to("a.jpg"))
    last = server.of(ItemRecord)[-1]
    assert last.block == pack_halves(static_block(embedded))
    await put(server, embedded)  # as it was got
    assert len(server.records()) == n + 1
    embed(server, folder)
    assert asked(folder) == ["a.jpg"]


async def test_other_media_are_embedded_even_if_the_old_vector_is_sent_along(
    server: Server, folder: Path
) -> None:
    await put(server, with_media("a.jpg", "clip"))
    embed(server, folder)
    got = item_of(server, "clip")
    await put(server, msgspec.structs.replace(got, media="other.jpg"))
    assert item_of(server, "clip").vector is None
    embed(server, folder)
    assert item_of(server, "clip").vector == answer_to("other.jpg")
    assert asked(folder) == ["clip", "clip"]


async def test_the_caller_s_own_vector_takes_its_place(server: Server, folder: Path) -> None:
    await put(server, with_media("a.jpg"))
    embed(server, folder)
    await put(server, msgspec.structs.replace(with_media("a.jpg"), vector=(0.0, 0.0, 1.0)))
    embed(server, folder)
    item = item_of(server, "a.jpg")
    assert (item.vector, item.embedder) == ((0.0, 0.0, 1.0), "")
    assert asked(folder) == ["a.jpg"]


async def test_a_vector_of_another_length_than_the_catalogue_s_is_not_kept(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Item(ItemId("own"), vector=(1.0, 0.0))
    await put(server, own, with_media("a"))
    counts = embed(server, folder).counts()
    assert counts.outcomes == {"failed": 1}
    told = "not embedded item=a: expected 2 numbers as in the catalogue's vectors, got 3"
    assert caplog.messages == [told]
    assert item_of(server, "a") == msgspec.structs.replace(
        with_media("a"), published_ms=item_of(server, "a").published_ms
    )
    assert item_of(server, "own").vector == (1.0, 0.0)


async def test_another_hook_embeds_everything_anew(server: Server, folder: Path) -> None:
    media = [f"m{k}" for k in range(20)]
    await put(server, *map(with_media, media), with_media("none"))
    embed(server, folder)
    counts = embed(server, folder, "hooks:wider").counts()
    assert counts.outcomes == {"vector": 20, "failed": 1}
    for name in media:
        assert item_of(server, name).vector == (0.5, *answer_to(name))
        assert item_of(server, name).embedder == "hooks:wider"
    with server.store.view() as view:
        assert view.vectors() == (20, 4)


async def test_an_item_that_was_changed_while_it_was_embedded_is_asked_about_again(
    server: Server, folder: Path
) -> None:
    await put(server, with_media("old.jpg", "clip"))
    args = hook_args(folder)
    embedder = Embedder(server.store, args, now_ms=server.watch)
    embedder._read()
    await put(server, with_media("new.jpeg", "clip"))
    with HookWorker(args) as worker:
        # What waits is embedded without another look at the log.
        embedder._put_batch(worker)
        assert item_of(server, "clip").vector is None
        while embedder.step(worker):
            pass
    assert item_of(server, "clip").vector == answer_to("new.jpeg")
    assert asked(folder) == ["clip", "clip"]


async def test_an_item_that_is_removed_meanwhile_stays_removed(
    server: Server, folder: Path
) -> None:
    await put(server, with_media("a"))
    args = hook_args(folder)
    embedder = Embedder(server.store, args, now_ms=server.watch)
    embedder._read()
    await server.engine.shelf.delete(ItemId("a"))
    with HookWorker(args) as worker:
        embedder._put_batch(worker)
    assert server.of(ItemRecord)[-1].item is None
    assert embedder.counts().outcomes == {}


async def test_the_learner_s_process_embeds_and_its_metrics_say_so(folder: Path) -> None:
    content, custom = hook_settings(folder)
    config = msgspec.structs.replace(config_of(folder / "data"), content=content, custom=custom)
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder / "data"))
        await put(server, with_media("before"))
        learner = LearnerReplica(config, now_ms=server.watch)
        stack.enter_context(closing(learner))
        wait_until(lambda: item_of(server, "before").vector is not None)
        await put(server, with_media("after"), with_media("raise"))
        wait_until(lambda: item_of(server, "after").vector is not None)
        learner.check()
        learner.close()
        metrics = await measured(server.app)
    assert sample(metrics, "nextswipe_embedding_items_total", outcome="vector") == 2
    assert sample(metrics, "nextswipe_embedding_items_total", outcome="failed") == 1
    assert metrics["nextswipe_embedding_waiting"] == [({}, 0.0)]


async def test_an_upload_s_vector_is_no_second_launch(server: Server, folder: Path) -> None:
    launch = msgspec.structs.replace(with_media("a"), published_ms=START_MS)
    await put(server, launch)
    embed(server, folder)
    assert [record.debut for record in server.of(ItemRecord)] == [True, False]
    catalogue = server.engine._maker.catalogue
    with server.store.view() as view:
        offset = view.catalogue_offset()
    await server.engine.shelf.refresh(offset)
    assert catalogue.debuts.tolist() == [True]
