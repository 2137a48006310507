from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from env.vocabulary import CreatorId, Item, ItemId
from serve.errors import BadFile
from serve.importers import items
from serve.importers.items import ItemLine
from serve.wire.items import ItemBody

EXPECTED = [
    Item(
        item_id=ItemId("a"),
        creator=CreatorId("c1"),
        title="Bread, at last",
        tags=("cooking", "bread"),
        duration_s=12.5,
        published_ms=1_700_000_000_000,
        language="en",
        country="GB",
        markets=("GB", "US"),
        vector=(0.5, -1.0),
        rating=16,
        products={"GB": "https://shop.example/?a=1", "US": "https://shop.example/us"},
        listed=False,
        bait=0.25,
    ),
    Item(item_id=ItemId("b")),
]


def test_csv_json_lines_and_parquet_bring_the_same_items(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "item_id,creator,title,tags,duration_s,published_ms,language,country,markets,vector,rating,"
        "products,listed,bait\n"
        'a,c1,"Bread, at last",cooking|bread,12.5,1700000000000,en,GB,GB|US,0.5|-1.0,16,'
        "GB=https://shop.example/?a=1|US=https://shop.example/us,false,0.25\n"
        "b,,,,,,,,,,,,,\n",
        encoding="utf-8",
    )
    lines = b"\n".join(msgspec.json.encode(item) for item in EXPECTED)
    (tmp_path / "a.jsonl").write_bytes(lines + b"\n\n")
    rows = [msgspec.to_builtins(item) for item in EXPECTED]
    for row in rows:
        row.update({k: list(v) for k, v in row.items() if isinstance(v, tuple)})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert [line.item for line in items.read(tmp_path / name)] == EXPECTED


def test_the_products_of_a_parquet_may_be_a_struct_or_a_map(tmp_path: Path) -> None:
    struct: pa.DataType = pa.struct([("GB", pa.string()), ("US", pa.string())])
    of_map: pa.DataType = pa.map_(pa.string(), pa.string())
    for kind, rows in (
        (struct, [{"GB": "a", "US": None}, None]),
        (of_map, [[("GB", "a"), ("US", None)], None]),
    ):
        columns = {"item_id": pa.array(["a", "b"]), "products": pa.array(rows, type=kind)}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        read = [line.item.products for line in items.read(tmp_path / "a.parquet")]
        assert read == [{"GB": "a"}, {}]
    for name, wrong in (("int", 7), ("str", "GB=a"), ("array", [7])):
        pq.write_table(pa.table({"item_id": ["a"], "products": [wrong]}), tmp_path / "a.parquet")
        with pytest.raises(BadFile, match=f"column 'products': expected `object`, got `{name}`"):
            items.read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,products\na,cup\n", "line 2, column 'products': expected COUNTRY=ADDRESS"),
        ("item_id,rating\na,22\n", "line 2, column 'rating': expected `int` <= 21"),
        (
            "item_id,media\na,a.mp4\nb,http://[\n",
            "line 3, column 'media': expected an address that can be parsed",
        ),
        (
            "item_id,products\na,GB=http://[\n",
            "line 2, column 'products.GB': expected an address that can be parsed",
        ),
        ("item_id,size\na,1\n", "line 1, column 'size': expected columns of item_id, creator"),
        ("title\na\n", "line 1, column 'item_id': expected this column"),
        ("", "line 1, column 'item_id': expected this column, got none"),
        ("item_id,duration_s\na,5\nb,long\n", "line 3, column 'duration_s': expected `float"),
        ("item_id,duration_s\na,0\n", "line 2, column 'duration_s': expected `float` > 0.0"),
        ("item_id,duration_s\na,nan\n", "line 2, column 'duration_s': expected `float` > 0.0"),
        ("item_id,country\na,Britain\n", "line 2, column 'country': expected `str` of length <= 2"),
        ("item_id,markets\na,GB|uk\n", "line 2, column 'markets[1]': expected `str` matching"),
        ("item_id,vector\na,1|inf\n", "line 2, column 'vector[1]': expected `float` <= 1000000.0"),
        (
            "item_id,vector\na,1|2\nb,1\n",
            "line 3, column 'vector': expected 2 numbers as in",
        ),
        ("item_id,title\na,\na,\n", "line 3, column 'item_id': expected each id once"),
        ("item_id\na\ufffd\n", "line 2, column 'item_id': expected no control characters"),
        ("item_id,title\n,x\n", "line 2, column 'item_id': expected an id, got ''"),
        ("item_id,title\na\n", "line 2: expected 2 cells, got 1"),
        ('item_id,title\na,"open\n', "expected CSV, but"),
        ("item_id,published_ms\na,-1\n", "line 2, column 'published_ms': expected `int` >= 0"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadFile) as caught:
        items.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"item_id":"a"}\n{"item_id":', "line 2: expected JSON, but"),
        ('{"item_id":7}', "line 1, column 'item_id': expected `str | null`, got `int`"),
        ('{"item_id":"a","tags":["x",7]}', "line 1, column 'tags[1]': expected `str`, got `int`"),
        ('{"item_id":"a","colour":"red"}', "line 1, column 'colour': object contains unknown"),
        ('[{"item_id":"a"}]', "line 1: expected `object`, got `array`"),
        ('\n{"item_id":"a","duration_s":"5"}', "line 2, column 'duration_s': expected `float"),
        ("[" * 100_000, "line 1: expected JSON, but"),
    ],
)
def test_a_bad_json_line_is_refused_with_its_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadFile) as caught:
        items.read(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "fits", "does_not"),
    [
        ("title", "x" * 500, "x" * 501),
        ("creator", "x" * 128, "x" * 129),
        ("media", "x" * 2000, "x" * 2001),
        ("media", "//[::1]/a b.mp4?[", "//[::1"),
        ("tags", ["x"] * 50, ["x"] * 51),
        ("tags", ["x" * 64], ["x" * 65]),
        ("language", "zh-Hant", "Mandarin"),
        ("published_ms", 4_102_444_799_999, 4_102_444_800_000),
        ("vector", [1e6], [1e6, 1.0]),
        ("rating", 21, 22),
        ("bait", 1.0, 1.5),
        ("products", {"GB": "x" * 2000}, {"Gb": "x"}),
    ],
)
def test_a_file_takes_what_the_api_takes(
    tmp_path: Path, field: str, fits: object, does_not: object
) -> None:
    path = tmp_path / "items.jsonl"
    for value in (fits, does_not):
        content = msgspec.json.encode({"item_id": "a", field: value})
        path.write_bytes(content)
        if value is fits:
            body = msgspec.json.decode(content, type=ItemBody)
            assert items.read(path) == [ItemLine(1, body.item(ItemId("a")))]
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(content, type=ItemBody)
            with pytest.raises(BadFile, match=f"line 1, column '{field}"):
                items.read(path)


def test_a_bad_parquet_is_refused_with_its_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"item_id": ["a", "b"], "duration_s": [3.0, -1.0]}), path)
    with pytest.raises(BadFile, match=r"line 2, column 'duration_s': expected `float` > 0.0"):
        items.read(path)
    pq.write_table(pa.table({"item_id": ["a"], "colour": ["red"]}), path)
    with pytest.raises(BadFile, match=r"column 'colour': expected columns of item_id"):
        items.read(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(BadFile, match="expected Parquet"):
        items.read(path)
    with pytest.raises(BadFile, match=r"nowhere\.parquet: there is no such file"):
        items.read(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("name", ["items.xlsx", "items"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match=r"expected one of \.csv, \.jsonl, \.ndjson, \.parquet, got"):
        items.read(tmp_path / name)


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl", "none.parquet"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match=r"none\."):
        items.read(tmp_path / name)
