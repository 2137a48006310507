"""Strict importer of a catalogue from CSV, JSON lines or Parquet, all or nothing.

Columns and keys are the fields of `Item`; only `item_id` is required. `serve.wire.items.ItemBody`
validates fields, as in the API. In CSV an empty cell is the default, `|` separates several values,
and a product is COUNTRY=ADDRESS.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from env.vocabulary import Item, ItemId
from serve.errors import BadFile
from serve.importers.tables import read_table
from serve.limits import ID_RULE, is_id
from serve.wire.codec import misfit
from serve.wire.items import ItemBody

B = TypeVar("B", bound=msgspec.Struct)


def to_body(path: Path, line: int, cells: object, kind: type[B], *, strict: bool = True) -> B:
    """Return a record of a file as the API would accept it.

    Args:
        line: line of the record, from 1.
        cells: values by field.
        kind: a body of `serve.wire.items` or `serve.wire.users`.
        strict: False also accepts numbers written as text.

    Raises:
        BadFile: a value does not fit; with line and field.
    """
    try:
        return msgspec.convert(cells, kind, strict=strict)
    except msgspec.ValidationError as error:
        problem = misfit(error).problem
        is_id_rule = problem.field == "item_id" and "regex" in problem.detail
        detail = f"expected {ID_RULE}" if is_id_rule else problem.detail
        value = cells.get(problem.field) if isinstance(cells, dict) else None
        if isinstance(value, str | int | float):
            link = ":" if ", got" in detail else ", got"
            detail += f"{link} {str(value)[:SHOWN]!r}"
        raise BadFile(path, detail[:1].lower() + detail[1:], line, problem.field) from None


SHOWN = 60
"""Characters of a wrong value that a message shows."""

FIELDS = Item.__struct_fields__
SEVERAL = ("tags", "markets", "vector")
PRODUCTS = "products"


@dataclass(frozen=True, slots=True)
class ItemLine:
    """An item with its line, for errors found only against the catalogue.

    Attributes:
        number: line number; in Parquet the row, from 1.
    """

    number: int
    item: Item


def read(path: Path) -> list[ItemLine]:
    """Return the items of a file, by its suffix.

    Raises:
        BadFile: the suffix is none of .csv, .jsonl, .ndjson and .parquet, or the file is invalid;
            with line and column.
    """
    lines = []
    for number, cells, is_text in read_records(path, FIELDS, "item_id", SEVERAL):
        if is_text and PRODUCTS in cells:
            parts = str(cells[PRODUCTS]).split("|")
            cells[PRODUCTS] = dict(_product(path, number, part) for part in parts)
        elif PRODUCTS in cells and path.suffix.lower() == ".parquet":
            cells[PRODUCTS] = _without_nulls(cells[PRODUCTS])
        lines.append(ItemLine(number, _convert(path, number, cells, strict=not is_text)))
    _check_together(path, lines)
    return lines


Cells = dict[str, object]


def read_records(
    path: Path, fields: Sequence[str], key: str, several: Collection[str]
) -> Iterator[tuple[int, Cells, bool]]:
    """Yield the records of a file by its suffix: line, values by field, whether all are text.

    Args:
        path: .csv, .jsonl, .ndjson or .parquet.
        fields: the columns that it may have.
        key: the column that it must have.
        several: fields of several values, which `|` separates in CSV.

    Raises:
        BadFile: the suffix is another, or the file cannot be read; with line and column.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        for line, cells in _read_csv(path, fields, key, several):
            yield line, cells, True
    elif suffix in (".jsonl", ".ndjson"):
        for line, cells in _read_json_lines(path):
            yield line, cells, False
    elif suffix == ".parquet":
        for line, cells in _read_parquet(path, fields):
            yield line, cells, False
    else:
        known = ".csv, .jsonl, .ndjson, .parquet"
        raise BadFile(path, f"expected one of {known}, got {path.suffix or 'none'!r}")


def _read_csv(
    path: Path, fields: Sequence[str], key: str, several: Collection[str]
) -> Iterator[tuple[int, Cells]]:
    for row in read_table(path, (key,), allowed=fields):
        cells: Cells = {}
        for column in row.columns:
            text = row.text(column)
            if text:
                is_several = column in several
                cells[column] = _values(path, row.line, column, text) if is_several else text
        yield row.line, cells


def _values(path: Path, number: int, column: str, text: str) -> list[str]:
    if text.startswith("["):
        problem = f"expected values separated by |, as in a|b, got a JSON list: {text[:SHOWN]}"
        raise BadFile(path, problem, number, column)
    return text.split("|")


def _product(path: Path, number: int, text: str) -> tuple[str, str]:
    country, equals, address = text.partition("=")
    if not equals:
        problem = f"expected COUNTRY=ADDRESS, several separated by |, got {text!r}"
        raise BadFile(path, problem, number, PRODUCTS)
    return country, address


def _read_json_lines(path: Path) -> Iterator[tuple[int, Cells]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _decode(path, number, line)
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror}") from None


def _decode(path: Path, number: int, line: bytes) -> Cells:
    try:
        return msgspec.convert(msgspec.json.decode(line), Cells)
    except msgspec.ValidationError as error:
        detail = str(error)
        raise BadFile(path, detail[:1].lower() + detail[1:], number) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"expected JSON, but {error}", number) from None


def _read_parquet(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, Cells]]:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BadFile(path, "there is no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise BadFile(path, f"expected Parquet, but {error}") from None
    for column in table.column_names:
        if column not in fields:
            raise BadFile(path, f"expected columns of {', '.join(fields)}", column=column)
    number = 0
    for batch in table.to_batches(max_chunksize=1_000):
        for cells in batch.to_pylist():
            number += 1
            yield number, {name: value for name, value in cells.items() if value is not None}


def _without_nulls(products: object) -> object:
    """Return a Parquet map (pairs) or struct (all keys) as a dict without nulls."""
    if isinstance(products, list) and all(isinstance(pair, tuple) for pair in products):
        products = dict(products)
    if not isinstance(products, dict):
        return products
    return {country: address for country, address in products.items() if address is not None}


def _convert(path: Path, number: int, cells: Cells, *, strict: bool = True) -> Item:
    body = to_body(path, number, cells, ItemBody, strict=strict)
    item_id = body.item_id or ""
    if not is_id(item_id):
        raise BadFile(path, f"expected an id, got {item_id!r}", number, "item_id")
    return body.item(ItemId(item_id))


def _check_together(path: Path, lines: list[ItemLine]) -> None:
    """Refuse a repeated id, and vectors of two lengths."""
    first: dict[str, int] = {}
    length, where = 0, 0
    for line in lines:
        before = first.setdefault(line.item.item_id, line.number)
        if before != line.number:
            problem = f"expected each id once, got {line.item.item_id!r} of line {before} again"
            raise BadFile(path, problem, line.number, "item_id")
        n = len(line.item.vector or ())
        if n and length and n != length:
            problem = f"expected {length} numbers as in line {where}, got {n}"
            raise BadFile(path, problem, line.number, "vector")
        if n and not length:
            length, where = n, line.number
