"""Strict reader of a history: users' views of items with their times, dwells and reactions.

A row is a view. CSV, JSON lines and Parquet are read as columns, so a million rows take seconds;
only a file that is refused is read again, row by row, for the line of its mistake. KuaiRand's own
logs and MovieLens' ratings are known by their columns. Columns and rules: `docs/history.md`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from env.feedback import REACTIONS
from env.vocabulary import Bools, Floats, Ints
from serve.errors import BadFile
from serve.importers.tables import column_names, read_table
from serve.limits import (
    ID_RULE,
    MAX_DWELL_S,
    MAX_MS,
    USER_ID_RULE,
    is_external_user_id,
    is_id,
)

Format = Literal["own", "kuairand", "movielens"]
Column = Any
"""A chunked array of pyarrow, of which the checker knows too little."""

USER, ITEM, TIME = "user_id", "item_id", "at_ms"
DWELL, COMPLETION, DURATION = "dwell_s", "completion", "duration_s"
REQUIRED = (USER, ITEM, TIME)
COLUMNS = (*REQUIRED, DWELL, COMPLETION, DURATION, *REACTIONS)
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
LEAST_MS = 100_000_000_000
"""Times before March 1973 are refused: they are Unix seconds, taken for milliseconds."""

MAX_COMPLETION = 1_000.0
LIKED, DISLIKED = 4.0, 2.0
"""Stars from which a rating is a like, and up to which the user wants less of it."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryViews:
    """The rows of a history, by user and time.

    Attributes:
        path: of the file.
        user_ids: the distinct users.
        item_ids: the distinct items.
        user: shape (n,), index of each row's user, ascending.
        item: shape (n,), index of its item.
        at_ms: shape (n,), ascending within a user.
        dwell_s: shape (n,), seconds; NaN where unknown.
        completion: shape (n,), share of the duration that was watched; NaN where unknown.
        duration_s: shape (n,), as the file says; 0 where it does not.
        reactions: which rows have one, shape (n,), by kind of feedback.
        row: shape (n,), place in the file, from 0.
    """

    path: Path
    user_ids: list[str]
    item_ids: list[str]
    user: Ints
    item: Ints
    at_ms: Ints
    dwell_s: Floats
    completion: Floats
    duration_s: Floats
    reactions: Mapping[str, Bools]
    row: Ints

    def __len__(self) -> int:
        return len(self.user)


def read(path: Path, now_ms: int, form: Format | None = None) -> HistoryViews:
    """Return the views of a file.

    Args:
        path: .csv, .jsonl, .ndjson or .parquet.
        now_ms: Unix milliseconds; later views are refused.
        form: of the columns; None: found by their names.

    Raises:
        BadFile: the suffix is another, or the file is invalid; with line and column.
    """
    table = _open(path)
    form = form or find_format(table.column_names)
    called, translate = _FORMS[form]
    return _Reader(path, translate(path, table), called).views(now_ms)


def find_format(columns: Sequence[str]) -> Format:
    """Return the format of a file with these columns.

    >>> find_format(["userId", "movieId", "rating", "timestamp"])
    'movielens'
    """
    names = set(columns)
    if names >= {"userId", "movieId", "rating", "timestamp"}:
        return "movielens"
    return "kuairand" if names >= {"user_id", "video_id", "time_ms"} else "own"


# --- files to tables ---


def _open(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadFile(path, f"expected one of {', '.join(SUFFIXES)}, got {suffix or 'none'!r}")
    if not path.is_file():
        raise BadFile(path, "there is no such file")
    if suffix == ".parquet":
        return _open_parquet(path)
    return _open_csv(path) if suffix == ".csv" else _open_json(path)


def _open_csv(path: Path) -> pa.Table:
    """Return all columns as text."""
    names = column_names(path)
    try:
        return pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        for _ in read_table(path, ()):
            pass  # it raises with the line
        raise BadFile(path, f"expected CSV, but {error}") from None


def _open_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadFile(path, f"expected Parquet, but {error}") from None


def _open_json(path: Path) -> pa.Table:
    """Return a table of JSON lines: ids as text, numbers, and flags as they stand."""
    columns: dict[str, list[object]] = {}
    with path.open("rb") as file:
        n = 0
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            for name, value in _decode(path, number, line).items():
                column = columns.setdefault(name, [])
                column.extend([None] * (n - len(column)))
                column.append(value)
            n += 1
    arrays: dict[str, Column] = {}
    make: Callable[[list[object]], Column] = pa.array  # the checker knows arrays of one type only
    for name, values in columns.items():
        values.extend([None] * (n - len(values)))
        try:
            arrays[name] = make(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            first = type(next(value for value in values if value is not None))
            others = (k for k, v in enumerate(values) if v is not None and type(v) is not first)
            row = next(others, None)
            if row is None:
                problem = f"expected texts, numbers or flags, but {error}"
                raise BadFile(path, problem, column=name) from None
            problem = f"expected values of one kind, got {values[row]!r} beside {first.__name__}"
            raise BadFile(path, problem, line_of(path, row), name) from None
    return pa.table(arrays)


def _decode(path: Path, number: int, line: bytes) -> dict[str, object]:
    try:
        return _objects.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"expected a JSON object, but {error}", number) from None


_objects = msgspec.json.Decoder(dict[str, object])

# --- the columns of others ---


def _of_own(path: Path, table: pa.Table) -> pa.Table:
    for name in table.column_names:
        if name not in COLUMNS:
            raise BadFile(path, f"expected columns of {', '.join(COLUMNS)}", 1, name)
    return table


_KUAIRAND = {
    "user_id": USER,
    "video_id": ITEM,
    "time_ms": TIME,
    "play_time_ms": DWELL,
    "duration_ms": DURATION,
    "is_like": "like",
    "is_comment": "comment",
    "is_forward": "share",
    "is_follow": "follow",
    "is_hate": "not_interested",
}


def _of_kuairand(path: Path, table: pa.Table) -> pa.Table:
    there = {name: table[name] for name in _KUAIRAND if name in table.column_names}
    columns = {_KUAIRAND[name]: column for name, column in there.items()}
    for name in ("play_time_ms", "duration_ms"):
        if name in there:
            numbers = _Reader(path, table).numbers(name, "milliseconds", 0.0, 1e12)
            columns[_KUAIRAND[name]] = pa.chunked_array([pa.array(numbers / 1000.0)])
    return pa.table(columns)


def _of_movielens(path: Path, table: pa.Table) -> pa.Table:
    reader = _Reader(path, table)
    stars = reader.numbers("rating", "0.5 to 5 stars", 0.5, 5.0)
    seconds = reader.numbers("timestamp", "Unix seconds", LEAST_MS / 1e3, MAX_MS / 1e3)
    return pa.table(
        {
            USER: table["userId"],
            ITEM: table["movieId"],
            TIME: pa.array((seconds * 1000.0).astype(np.int64)),
            "like": pa.array(stars >= LIKED),
            "not_interested": pa.array(stars <= DISLIKED),
        }
    )


_FORMS: Mapping[Format, tuple[Mapping[str, str], Callable[[Path, pa.Table], pa.Table]]] = {
    "own": ({}, _of_own),
    "kuairand": ({ours: theirs for theirs, ours in _KUAIRAND.items()}, _of_kuairand),
    "movielens": ({USER: "userId", ITEM: "movieId", TIME: "timestamp"}, _of_movielens),
}
"""Names of our columns in a format, and its translation to them."""

# --- tables to views ---


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks the columns of a table."""

    path: Path
    table: pa.Table
    called: Mapping[str, str] = field(default_factory=dict)  # names in the file, by ours

    def views(self, now_ms: int) -> HistoryViews:
        for name in REQUIRED:
            if name not in self.table.column_names:
                there = ", ".join(self.table.column_names) or "none"
                called = self.called.get(name, name)
                raise BadFile(self.path, f"expected this column, got {there}", 1, called)
        user_ids, user = self.ids(USER, USER_ID_RULE, is_external_user_id)
        item_ids, item = self.ids(ITEM, ID_RULE, is_id)
        at_ms = self.times(now_ms)
        order = np.lexsort((at_ms, user))
        none = np.full(self.table.num_rows, np.nan)
        numbers = {
            DWELL: self.optional(DWELL, f"0 to {MAX_DWELL_S:,.0f} seconds", MAX_DWELL_S, none),
            COMPLETION: self.optional(
                COMPLETION, "the share that was watched, 1 for all of it", MAX_COMPLETION, none
            ),
            DURATION: self.optional(
                DURATION, f"0 to {MAX_DWELL_S:,.0f} seconds", MAX_DWELL_S, none
            ),
        }
        return HistoryViews(
            self.path,
            user_ids,
            item_ids,
            user[order],
            item[order],
            at_ms[order],
            numbers[DWELL][order],
            numbers[COMPLETION][order],
            np.nan_to_num(numbers[DURATION][order]),
            {
                kind: self.flags(kind)[order]
                for kind in REACTIONS
                if kind in self.table.column_names
            },
            order,
        )

    def ids(self, name: str, rule: str, holds: Callable[[str], bool]) -> tuple[list[str], Ints]:
        """Return the distinct ids, and the index of each row's."""
        column: Column = _plain(self.table[name])
        if not (pa.types.is_integer(column.type) or _is_text(column)):
            raise BadFile(self.path, f"expected ids, got {column.type}", 1, name)
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        index = np.asarray(encoded.indices.fill_null(-1)).astype(np.int64)
        self.require(name, index >= 0, "an id")
        found = [str(each) for each in encoded.dictionary.to_pylist()]
        good = np.array([holds(each) for each in found], dtype=np.bool_)
        self.require(name, good[index] if len(index) else good, rule)
        return found, index

    def times(self, now_ms: int) -> Ints:
        """Return the times in Unix milliseconds."""
        at_ms = self.numbers(TIME, "Unix milliseconds", 0.0, MAX_MS)
        self.require(TIME, at_ms >= LEAST_MS, "Unix milliseconds (seconds times 1000)")
        self.require(TIME, at_ms <= now_ms, f"a time up to now, {now_ms}")
        return at_ms.astype(np.int64)

    def optional(self, name: str, expected: str, most: float, none: Floats) -> Floats:
        """Return a column's numbers, NaN where there is none."""
        if name not in self.table.column_names:
            return none
        return self.numbers(name, expected, 0.0, most, is_optional=True)

    def numbers(
        self, name: str, expected: str, least: float, most: float, *, is_optional: bool = False
    ) -> Floats:
        """Return a column's numbers; an empty cell is NaN where the column is optional."""
        if name not in self.table.column_names:
            there = ", ".join(self.table.column_names) or "none"
            raise BadFile(self.path, f"expected this column, got {there}", 1, name)
        column: Column = _plain(self.table[name])
        is_none = _is_none(column)
        try:
            texts = pc.if_else(is_none, None, column) if _is_text(column) else column
            cast: Column = texts.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            self.require(name, self._are_numbers(column), expected)
            raise BadFile(self.path, f"expected {expected}, got {column.type}", 1, name) from None
        values = np.asarray(cast.fill_null(np.nan).combine_chunks().to_numpy(zero_copy_only=False))
        empty = np.asarray(is_none.combine_chunks().to_numpy(zero_copy_only=False))
        fits = (values >= least) & (values <= most)  # false for NaN
        self.require(name, fits | (empty & is_optional), expected)
        return values

    def _are_numbers(self, column: Column) -> Bools:
        return np.array([_is_number(value) for value in column.to_pylist()], dtype=np.bool_)

    def flags(self, name: str) -> Bools:
        """Return which rows are true: 1 or true; 0, false and an empty cell are not."""
        column: Column = self.table[name]
        if not (_is_text(column) or pa.types.is_boolean(column.type)):
            values = np.asarray(self.numbers(name, "0 or 1", 0.0, 1.0, is_optional=True))
            self.require(name, np.isnan(values) | np.isin(values, (0.0, 1.0)), "0 or 1")
            return np.nan_to_num(values) > 0.0
        words: Column = pc.utf8_lower(column.cast(pa.string()).fill_null(""))
        is_true = _among(words, ("1", "true", "1.0"))
        self.require(name, is_true | _among(words, ("", "0", "false", "0.0")), "0 or 1")
        return is_true

    def require(self, name: str, holds: Bools, expected: str) -> None:
        """Raise for the first row of which a condition on a column is false."""
        if holds.all():
            return
        row = int(np.argmin(holds))
        value = self.table[name][row].as_py()
        got = "none" if value is None or value == "" else repr(value)[:60]
        line, called = line_of(self.path, row), self.called.get(name, name)
        raise BadFile(self.path, f"expected {expected}, got {got}", line, called)


def line_of(path: Path, row: int) -> int:
    """Return the line, from 1, of a row, from 0; in Parquet the number of the row, from 1.

    Raises:
        BadFile: the file cannot be read again.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return row + 1
    if suffix != ".csv":
        with path.open("rb") as file:
            filled = (number for number, line in enumerate(file, 1) if line.strip())
            return next(islice(filled, row, None), 0)
    return next((each.line for each in islice(read_table(path, ()), row, None)), 0)


def _among(words: Column, known: Sequence[str]) -> Bools:
    found: Column = pc.is_in(words, value_set=pa.array(known))
    return np.asarray(found.combine_chunks().to_numpy(zero_copy_only=False))


def _plain(column: Column) -> Column:
    """Return a column without the dictionary in which pandas writes a categorical one."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _is_text(column: Column) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _is_none(column: Column) -> Column:
    missing: Column = column.is_null(nan_is_null=True)  # pandas writes a missing number as NaN
    return pc.equal(column.fill_null(""), pa.scalar("")) if _is_text(column) else missing


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        return value is None or value == ""
    return True
