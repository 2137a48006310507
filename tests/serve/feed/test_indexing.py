"""Indexing: a large catalogue gets an index beside serving; pages are good before and after."""

import numpy as np
import pytest

from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import Item, ItemId
from policies.candidates.cells import ClusterIndex
from policies.candidates.query import MatchIndex
from serve.feed.shelf import Indexing
from tests.serve.feed.test_pipeline import draw, drawn, pipeline_of, served


def test_a_small_catalogue_gets_no_index_and_a_large_one_does() -> None:
    pipeline = pipeline_of()
    assert not Indexing(pipeline).poll()
    nearest = pipeline.nearest
    assert nearest is None
    indexing = Indexing(pipeline, least_items=100)
    assert indexing.poll()
    assert isinstance(pipeline.nearest, ClusterIndex)
    assert not indexing.poll(), "nothing has changed"


def test_pages_with_an_index_hold_the_same_candidates_where_it_looks_at_all() -> None:
    without, with_index = pipeline_of(), pipeline_of()
    Indexing(with_index, least_items=100).poll()
    for k in range(20):
        pages = [drawn(pipeline, f"p{k}") for pipeline in (without, with_index)]
        assert set(pages[0].candidates) == set(pages[1].candidates)


def test_an_upload_is_on_the_next_page_and_a_takedown_on_none() -> None:
    pipeline = pipeline_of()
    indexing = Indexing(pipeline, least_items=100)
    indexing.poll()
    item = Item(ItemId("upload"), title="One of its kind, upload", country="GB", tags=("new",))
    block = pack_halves(static_block(item))
    pipeline.catalogue.apply(ItemRecord(item.item_id, 1, item, block))
    assert "upload" in {name for k in range(20) for name in drawn(pipeline, f"q{k}").candidates}
    pipeline.catalogue.apply(ItemRecord(item.item_id, 2))
    assert "upload" not in {name for k in range(20) for name in drawn(pipeline, f"r{k}").candidates}


def test_a_version_is_warmed_for_the_index_too() -> None:
    pipeline = pipeline_of()
    Indexing(pipeline, least_items=100).poll()
    version = served(2)
    pipeline.warm(version)
    pipeline.swap(version)
    assert isinstance(pipeline.nearest, ClusterIndex)
    items = version.states.aligned(pipeline.catalogue)
    assert pipeline.nearest.tail(pipeline.catalogue, items).tolist() == []
    assert draw(pipeline) is not None
    assert np.array_equal(items.reward_mean, version.states.aligned(pipeline.catalogue).reward_mean)


@pytest.mark.parametrize("when", ["while it is made", "while it is put in place"])
def test_a_new_index_has_followed_what_is_served_when_it_is_looked_into(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, version = pipeline_of(), served(2)
    build, look_in = ClusterIndex.build, pipeline.look_in

    def swap() -> None:
        pipeline.warm(version)
        pipeline.swap(version)

    def built(*args: object) -> ClusterIndex:
        cells = build(*args)  # type: ignore[arg-type]
        swap()
        return cells

    def put(nearest: MatchIndex) -> None:
        swap()
        look_in(nearest)

    if when == "while it is made":
        monkeypatch.setattr(ClusterIndex, "build", built)
    else:
        monkeypatch.setattr(pipeline, "look_in", put)
    Indexing(pipeline, least_items=100).poll()
    cells, items = pipeline.nearest, version.states.last_aligned
    assert isinstance(cells, ClusterIndex)
    assert items is not None
    assert any(moved.popularity is items.popularity for moved in cells._moved)
