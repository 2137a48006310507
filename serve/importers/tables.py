"""Strict CSV reader: every row is complete and every cell parses, or BadFile is raised."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from serve.importers.bad_file import BadFile

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
