"""Strict CSV reader: every row is complete and every cell parses, or BadFile is raised."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from env.vocabulary import Bools, Floats, Ints
from serve.errors import BadFile

Value = TypeVar("Value")


class Row:
    """One line of a table, by column name."""

    __slots__ = ("_cells", "_index", "line", "path")

    def __init__(self, path: Path, line: int, index: dict[str, int], cells: list[str]) -> None:
        self.path = path
        self.line = line
        self._index = index
        self._cells = cells

    @property
    def columns(self) -> Iterable[str]:
        """Names of all columns of the table."""
        return self._index

    def text(self, column: str) -> str:
        """Return the cell as text."""
        return self._cells[self._index[column]]

    def read(self, column: str, parse: Callable[[str], Value], expected: str) -> Value:
        """Return the parsed cell.

        Raises:
            BadFile: `parse` raised ValueError; the message contains `expected`.
        """
        text = self.text(column)
        try:
            return parse(text)
        except ValueError:
            raise self.bad(column, f"expected {expected}, got {text!r}") from None

    def whole(self, column: str) -> int:
        """Return the cell as a whole number from 0 to 10^18 - 1, written in digits."""
        return self.read(column, _parse_whole, "a whole number of at least 0")

    def bad(self, column: str, problem: str) -> BadFile:
        """Return an error for a cell."""
        return BadFile(self.path, problem, self.line, column)


def read_table(path: Path, columns: Sequence[str], allowed: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a CSV file that has at least these columns.

    Args:
        columns: required columns.
        allowed: if given, the only columns allowed.

    Raises:
        BadFile: the file cannot be read, is not UTF-8 or not CSV, a column is missing or repeated,
            or a row has another number of cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _read_rows(path, file, columns, allowed)
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadFile(path, f"expected UTF-8, got byte {error.object[error.start]:#04x}") from None


def _read_rows(
    path: Path, file: TextIO, columns: Sequence[str], allowed: Sequence[str]
) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    try:
        header: list[str] = next(reader, [])
        index = _check_header(path, header, columns, allowed)
        for cells in reader:
            if len(cells) != len(header):
                problem = f"expected {len(header)} cells, got {len(cells)}"
                raise BadFile(path, problem, reader.line_num)
            yield Row(path, reader.line_num, index, cells)
    except csv.Error as error:
        raise BadFile(path, f"expected CSV, but {error}", reader.line_num) from None


def _check_header(
    path: Path, header: list[str], columns: Sequence[str], allowed: Sequence[str]
) -> dict[str, int]:
    index = {name: k for k, name in enumerate(header)}
    if len(index) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadFile(path, "expected each column once", 1, twice)
    for column in columns:
        if column not in index:
            raise BadFile(
                path, f"expected this column, got {', '.join(header) or 'none'}", 1, column
            )
    for column in header:
        if allowed and column not in allowed:
            raise BadFile(path, f"expected columns of {', '.join(allowed)}", 1, column)
    return index


def _parse_whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise ValueError(text)
    return int(text)


BLOCK_ROWS = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class NumberBlock:
    """Rows of a table, with finite numbers only."""

    path: Path
    lines: Ints  # (m,)
    numbers: dict[str, Floats]  # (m,) by column
    texts: dict[str, list[str]]  # (m,) by column

    def __len__(self) -> int:
        return len(self.lines)

    def require(self, column: str, holds: Bools, expected: str) -> None:
        """Raise for the first row where a condition on a column's number fails.

        Raises:
            BadFile: there is such a row; with its line and value.
        """
        if not holds.all():
            row = int(np.argmin(holds))
            problem = f"expected {expected}, got {self.numbers[column][row]:g}"
            raise BadFile(self.path, problem, int(self.lines[row]), column)

    def matrix(self, columns: Sequence[str]) -> Floats:
        """Return columns side by side, shape (m, len(columns))."""
        return np.stack([self.numbers[column] for column in columns], axis=1)


def column_names(path: Path) -> list[str]:
    """Return the columns of a file, in order.

    Raises:
        BadFile: the suffix is neither .csv nor .parquet, or the file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return list(file.schema_arrow.names)
    if path.suffix.lower() != ".csv":
        raise BadFile(path, f"expected one of .csv and .parquet, got {path.suffix or 'none'!r}")
    for row in read_table(path, ()):
        return list(row.columns)
    raise BadFile(path, "expected rows, found none")


def read_blocks(
    path: Path, numbers: Sequence[str], texts: Sequence[str] = (), n_rows: int = BLOCK_ROWS
) -> Iterator[NumberBlock]:
    """Yield a file's rows in blocks.

    Args:
        path: a .csv or .parquet file.
        numbers: columns of finite numbers.
        texts: columns of text.
        n_rows: maximum rows of a block.

    Raises:
        BadFile: a column is missing, a cell is not finite, a row is incomplete, or the file cannot
            be read; with line and column.
    """
    if path.suffix.lower() == ".parquet":
        yield from _read_parquet(path, numbers, texts, n_rows)
        return
    table = read_table(path, (*numbers, *texts))
    while rows := list(islice(table, n_rows)):
        yield NumberBlock(
            path,
            np.array([row.line for row in rows], dtype=np.int64),
            {column: _parse(rows, column) for column in numbers},
            {column: [row.text(column) for row in rows] for column in texts},
        )


def _parse(rows: Sequence[Row], column: str) -> Floats:
    """Return a column's numbers; search for the invalid cell only after a failure."""
    expected = "a finite number"
    try:
        values = np.array([row.text(column) for row in rows], dtype=np.float64)
    except ValueError:
        values = np.array([row.read(column, float, expected) for row in rows])
    finite = np.isfinite(values)
    if not finite.all():
        row = rows[int(np.argmin(finite))]
        raise row.bad(column, f"expected {expected}, got {row.text(column)!r}")
    return values


def _read_parquet(
    path: Path, numbers: Sequence[str], texts: Sequence[str], n_rows: int
) -> Iterator[NumberBlock]:
    with _open_parquet(path) as file:
        for column in (*numbers, *texts):
            if column not in file.schema_arrow.names:
                there = ", ".join(file.schema_arrow.names)
                raise BadFile(path, f"expected this column, got {there}", column=column)
        first = 1
        try:
            for batch in file.iter_batches(n_rows, columns=[*numbers, *texts]):
                lines = np.arange(first, first + len(batch))
                first += len(batch)
                yield NumberBlock(
                    path,
                    lines,
                    {name: _numbers(path, lines, batch[name], name) for name in numbers},
                    {name: [str(value) for value in batch[name].to_pylist()] for name in texts},
                )
        except (OSError, pa.ArrowInvalid) as error:
            raise BadFile(path, f"expected Parquet, but {error}") from None


def _numbers(path: Path, lines: Ints, column: "pa.Array[Any]", name: str) -> Floats:
    try:
        values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise BadFile(path, f"expected numbers, got {column.type}", column=name) from None
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        problem = f"expected a finite number, got {column[row].as_py()!r}"
        raise BadFile(path, problem, int(lines[row]), name)
    return values


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise BadFile(path, "there is no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise BadFile(path, f"expected Parquet, but {error}; was the file cut?") from None
