"""Exported pages as plain columns: read with pyarrow alone, they say what the pages were."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from worlds import LIKES, World, lines

from env.columns.schema import DYNAMIC, DYNAMIC_WIDTHS, SHARED, STATIC
from env.feedback import KINDS, RESERVED
from env.records import PageRecord, Record
from env.vocabulary import Page
from policies.baselines import mixture_policy
from replay.join import dataset, exported, tables

DOCUMENT = Path(__file__).parents[3] / "docs" / "data.md"
FEATURES = {
    "pages": ("shared_NAME", "SHARED", tuple(f"shared_{name}" for name in SHARED)),
    "candidates": ("NAME", "DYNAMIC", DYNAMIC),
    "blocks": ("NAME", "STATIC", STATIC),
}


def make_log() -> tuple[dict[str, Page], list[Record]]:
    world = World(rng=np.random.default_rng(11))
    pages: dict[str, Page] = {}
    records = list(world.items())
    for page, its_records in world.pages(mixture_policy(0.5), n_users=8, pages_each=2, eps=0.1):
        pages[page.context.page_id] = page
        records += its_records
    return pages, records


PAGES, RECORDS = make_log()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    exported.save(dataset.read(lines(RECORDS), LIKES), place, lambda page: mixture_policy(0.5))
    return place


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_no_signal_may_have_the_name_of_another_column() -> None:
    columns = {*tables.DECISIONS.names} - KINDS.keys()
    assert columns <= RESERVED
    assert not RESERVED & KINDS.keys()


# --- with pyarrow alone ---


def test_the_features_of_a_page_can_be_read_as_columns(folder: Path) -> None:
    blocks = {row["block"]: row for row in rows_of(folder, "blocks")}
    candidates = rows_of(folder, "candidates")
    pages = rows_of(folder, "pages")
    assert len(pages) > 10
    for row in pages:
        context = PAGES[row["page_id"]].context
        assert [row[f"shared_{name}"] for name in SHARED] == context.features.shared.tolist()
        own = [one for one in candidates if one["page_id"] == row["page_id"]]
        assert [one["action"] for one in own] == list(range(len(context)))
        assert tuple(one["item_id"] for one in own) == context.candidates
        features = [
            [blocks[one["block"]][name] for name in STATIC] + [one[name] for name in DYNAMIC]
            for one in own
        ]
        assert features == context.features.actions.tolist()


def test_who_could_be_drawn_and_who_was_can_be_read_as_columns(folder: Path) -> None:
    candidates = rows_of(folder, "candidates")
    for row in rows_of(folder, "pages"):
        page = PAGES[row["page_id"]]
        own = [one for one in candidates if one["page_id"] == row["page_id"]]
        for slot, rule in enumerate(page.slots):
            k = row["slots"][slot]
            assert row["rules"][k] == rule.name
            assert [one["allowed"][k] for one in own] == rule.mask.tolist()
            assert [one["eligible"][k] for one in own] == rule.eligible.tolist()
        drawn = [(d["slot"], d["action"], d["propensity"]) for d in row["drawn"]]
        assert drawn == [(d.slot, d.action, d.propensity) for d in page.decisions]


def test_a_decision_finds_its_candidate(folder: Path) -> None:
    candidates = {(one["page_id"], one["action"]): one for one in rows_of(folder, "candidates")}
    decisions = rows_of(folder, "decisions")
    assert len(decisions) > 20
    for row in decisions:
        assert candidates[row["page_id"], row["action"]]["item_id"] == row["item_id"]


def test_no_column_is_a_blob_and_each_says_what_it_means(folder: Path) -> None:
    for name, schema in tables.SCHEMAS.items():
        written = pq.read_schema(folder / f"{name}.parquet")
        assert written.names == schema.names
        for field in written:
            assert not pa.types.is_binary(field.type), field
            assert not pa.types.is_large_binary(field.type), field
            assert (field.metadata or {}).get(b"description"), field


# --- the document ---


def documented(name: str) -> dict[str, tuple[str, str]]:
    """Return type and meaning by column, as the document lists them for a file."""
    _, _, after = DOCUMENT.read_text("utf-8").partition(f"**`{name}.parquet`**")
    table, _, _ = after.lstrip().partition("\n\n")
    rows = [row.strip("|").split("|") for row in table.splitlines()[2:]]
    return {column.strip(" `"): (kind.strip(), text.strip()) for column, kind, text in rows}


def kind_of(kind: Any) -> str:
    if pa.types.is_struct(kind):
        return ", ".join(field.name for field in kind)
    return f"list of {kind_of(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_the_document_lists_the_columns_of_each_file(name: str) -> None:
    told = documented(name)
    pattern, block, features = FEATURES.get(name, ("", "", ()))
    if features:
        kind, text = told.pop(pattern)
        assert kind == "float"
        assert re.match(rf"the {len(features)} features `{block}` ", text)
    plain = [field for field in tables.SCHEMAS[name] if field.name not in features]
    expected = {
        field.name: (kind_of(field.type), (field.metadata or {})[b"description"].decode())
        for field in plain
    }
    assert told == expected


# --- back again ---


def expected_pages() -> Iterator[PageRecord]:
    for record in RECORDS:
        if isinstance(record, PageRecord):
            yield replace(record, cards=(), reasons=())


def test_pages_come_back_as_they_were_logged(folder: Path) -> None:
    expected = {record.page_id: record for record in expected_pages()}
    found = list(tables.read_pages(folder))
    assert len(found) > 10
    assert all(record == expected[record.page_id] for record in found)


def test_pages_of_an_older_schema_come_back_as_they_were_logged(tmp_path: Path) -> None:
    old, width = min(DYNAMIC_WIDTHS.items())
    data = dataset.read(lines(RECORDS), LIKES)
    narrow = [
        replace(
            page,
            feature_schema=old,
            dynamic=b"".join(
                page.dynamic[2 * len(DYNAMIC) * k :][: 2 * width]
                for k in range(len(page.candidates))
            ),
            proposers=(1, 2),
            removed={"seen": 3},
            degraded="gave way: language",
        )
        for page in data.pages
    ]
    tables.write_pages(narrow, data.blocks, tmp_path)
    assert list(tables.read_pages(tmp_path)) == narrow
    newer = DYNAMIC[width]
    assert set(pq.read_table(tmp_path / "candidates.parquet")[newer].to_pylist()) == {0.0}


def test_a_page_of_another_width_is_refused(tmp_path: Path) -> None:
    data = dataset.read(lines(RECORDS), LIKES)
    cut = replace(data.pages[0], dynamic=data.pages[0].dynamic[:-2])
    with pytest.raises(ValueError, match=r"expected \d+ dynamic features of \d+ candidates"):
        tables.write_pages([cut], data.blocks, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("candidates", r"expected \d+ candidates of page .*; was candidates.parquet changed\?"),
        ("blocks", "expected the features of block [0-9a-f]{16}, got changed ones"),
    ],
)
def test_files_that_were_changed_are_refused(tmp_path: Path, name: str, message: str) -> None:
    exported.save(dataset.read(lines(RECORDS), LIKES), tmp_path)
    file = tmp_path / f"{name}.parquet"
    table = pq.read_table(file)
    if name == "candidates":
        pq.write_table(table.slice(1), file)
    else:
        place = table.schema.get_field_index("v0")
        shifted = (np.asarray(table["v0"]) + np.float32(1.0)).tolist()
        changed = pa.array(shifted, pa.float32())
        pq.write_table(table.set_column(place, table.schema.field("v0"), changed), file)
    with pytest.raises(ValueError, match=message):
        exported.load(tmp_path)
