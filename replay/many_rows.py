"""SQLite statements over many rows at once.

Python's sqlite3 releases and reacquires the interpreter lock at each step of a statement, so a
writer beside a busy event loop waits once per statement here instead of once per row. Rejected
alternatives: `docs/decisions/sqlite-log.md`.
"""

import sqlite3
from collections.abc import Iterator, Sequence

Value = str | int | bytes
MOST_ROWS = 64


def insert_rows(
    connection: sqlite3.Connection, begin: str, rows: Sequence[Sequence[Value]], end: str = ""
) -> None:
    """Insert rows of one length, in order, between the statement's beginning (to VALUES) and end.

    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute("CREATE TABLE pairs (a, b)")
    >>> insert_rows(connection, "INSERT INTO pairs VALUES", [(k, -k) for k in range(100)])
    >>> connection.execute("SELECT count(*), min(b) FROM pairs").fetchone()
    (100, -99)
    """
    for part in _parts(rows):
        row = f"({', '.join('?' * len(part[0]))})"
        values = [value for its in part for value in its]
        connection.execute(f"{begin} {', '.join([row] * len(part))} {end}", values)


def select_in(
    connection: sqlite3.Connection, begin: str, keys: Sequence[str]
) -> list[tuple[Value, ...]]:
    """Return the rows of a statement that ends in IN with one of these keys, in no order.

    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute("CREATE TABLE names (name)")
    >>> insert_rows(connection, "INSERT INTO names VALUES", [("a",), ("b",)])
    >>> select_in(connection, "SELECT name FROM names WHERE name IN", ["b", "c"])
    [('b',)]
    """
    found: list[tuple[Value, ...]] = []
    for begun in range(0, len(keys), MOST_ROWS):
        part = keys[begun : begun + MOST_ROWS]
        n = 1 << (len(part) - 1).bit_length()
        padded = [*part, *[part[-1]] * (n - len(part))]
        query = f"{begin} ({', '.join('?' * n)})"
        found += connection.execute(query, padded).fetchall()
    return found


def _parts(rows: Sequence[Sequence[Value]]) -> Iterator[Sequence[Sequence[Value]]]:
    """Yield the rows in parts of power-of-two length, so that few statements are prepared."""
    begin = 0
    while left := len(rows) - begin:
        n = min(MOST_ROWS, 1 << left.bit_length() - 1)
        yield rows[begin : begin + n]
        begin += n
