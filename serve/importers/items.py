"""Reads a catalogue from CSV, JSON lines or Parquet: strictly, and all of it or nothing.

Columns and keys are the fields of `Item`; only `item_id` is required. In CSV an empty cell means
the field's default and the fields that hold several values separate them by `|`.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from env.vocabulary import Item
from serve.importers.bad_file import BadFile
from serve.importers.tables import read_table
from serve.wire import ID_RULE, MAX_ID, is_id

FIELDS = Item.__struct_fields__
SEVERAL = ("tags", "markets", "vector")
MAX_TEXT = 1_000
MAX_SEVERAL = {"tags": 64, "markets": 250, "vector": 4_096}
MAX_DURATION_S = 24 * 3600.0
MAX_MS = 2**53

_COUNTRY = re.compile(r"[A-Z]{2}")
_FIELD_IN_ERROR = re.compile(r"`\$\.(\w+)")
_NAME_IN_ERROR = re.compile(r"field `(\w+)`")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int  # as an editor counts; in Parquet the row, from 1
    item: Item


def read(path: Path) -> list[Item]:
    """Return the items of a file, its kind known by its suffix.

    Raises:
        BadFile: the suffix is none of .csv, .jsonl, .ndjson and .parquet, or the file is not what
            it should be, with its line and column.
    """
    readers: dict[str, Callable[[Path], Iterator[_Line]]] = {
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadFile(path, f"expected one of {', '.join(readers)}, got {path.suffix or 'none'!r}")
    return _check_together(path, list(reader(path)))


def _read_csv(path: Path) -> Iterator[_Line]:
    for row in read_table(path, ("item_id",), allowed=FIELDS):
        cells: dict[str, object] = {}
        for column in row.columns:
            text = row.text(column)
            if text:
                cells[column] = text.split("|") if column in SEVERAL else text
        yield _Line(row.line, _convert(path, row.line, cells, strict=False))


def _read_json_lines(path: Path) -> Iterator[_Line]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _Line(number, _convert(path, number, _decode(path, number, line)))
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror}") from None


def _decode(path: Path, number: int, line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"expected JSON, but {error}", number) from None


def _read_parquet(path: Path) -> Iterator[_Line]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadFile(path, f"expected Parquet, but {error}") from None
    for column in table.column_names:
        if column not in FIELDS:
            raise BadFile(path, f"expected columns of {', '.join(FIELDS)}", column=column)
    number = 0
    for batch in table.to_batches(max_chunksize=1_000):
        for cells in batch.to_pylist():
            number += 1
            present = {name: value for name, value in cells.items() if value is not None}
            yield _Line(number, _convert(path, number, present))


def _convert(path: Path, number: int, cells: object, *, strict: bool = True) -> Item:
    try:
        item = msgspec.convert(cells, Item, strict=strict)
    except msgspec.ValidationError as error:
        raise BadFile(path, _lower_first(str(error)), number, _field_of(str(error))) from None
    for column, problem in _problems(item):
        raise BadFile(path, problem, number, column)
    return item


def _field_of(message: str) -> str:
    found = _FIELD_IN_ERROR.search(message) or _NAME_IN_ERROR.search(message)
    return found.group(1) if found else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _problems(item: Item) -> Iterator[tuple[str, str]]:
    """Yield column and problem of whatever is out of range."""
    if not 0 < len(item.item_id) <= MAX_ID:
        yield "item_id", f"expected 1 to {MAX_ID} characters, got {len(item.item_id)}"
    elif not is_id(item.item_id):
        yield "item_id", f"expected {ID_RULE}, got {item.item_id!r}"
    yield from _number_problems(item)
    yield from _text_problems(item)


def _number_problems(item: Item) -> Iterator[tuple[str, str]]:
    if item.duration_s is not None and not 0.0 < item.duration_s <= MAX_DURATION_S:
        got = item.duration_s
        yield "duration_s", f"expected seconds in (0, {MAX_DURATION_S:.0f}], got {got}"
    if not 0 <= item.published_ms <= MAX_MS:
        yield "published_ms", f"expected Unix milliseconds, got {item.published_ms}"
    if item.vector is not None and not all(map(math.isfinite, item.vector)):
        yield "vector", "expected finite numbers"
    if item.vector is not None and not item.vector:
        yield "vector", "expected at least one number, or no vector"


def _text_problems(item: Item) -> Iterator[tuple[str, str]]:
    for column in ("creator", "title", "language", "sound", "media"):
        n = len(getattr(item, column))
        if n > MAX_TEXT:
            yield column, f"expected at most {MAX_TEXT} characters, got {n}"
    for column, most in MAX_SEVERAL.items():
        n = len(getattr(item, column) or ())
        if n > most:
            yield column, f"expected at most {most} values, got {n}"
    for column, codes in (("country", (item.country,)), ("markets", item.markets)):
        for code in codes:
            if (code or column == "markets") and not _COUNTRY.fullmatch(code):
                yield column, f"expected a code like GB, got {code!r}"


def _check_together(path: Path, lines: list[_Line]) -> list[Item]:
    """Return the items, each id once and all vectors of one length."""
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
    return [line.item for line in lines]
