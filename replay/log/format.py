"""Removal of members from one JSON object, with all other text unchanged.

VW treats a repeated key as two features, while every decoder keeps only the last, so members are
cut out of the text. The input must already be valid JSON; it is not checked.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from env.records import FORMAT_VERSION


def require_known_format(found: int, where: str) -> None:
    """Raise ValueError if a newer nextswipe wrote the log."""
    if found > FORMAT_VERSION:
        raise ValueError(
            f"{where}: expected log format {FORMAT_VERSION} or older, got {found}; it was written "
            "by a newer nextswipe: upgrade this one"
        )


class LinePosition(NamedTuple):
    """A line of a file."""

    path: Path
    line: int  # from 1

    def bad(self, problem: str, field: str = "") -> ValueError:
        """Return the error for a line, or for a field of it.

        >>> Place(Path("log.json"), 3).bad("expected a finite number, got nan", "reward")
        ValueError("log.json, line 3, field 'reward': expected a finite number, got nan")
        """
        where = f", field {field!r}" if field else ""
        return ValueError(f"{self.path}, line {self.line}{where}: {problem}")


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],]')


def flat_members(line: bytes, keep: Callable[[str], bool]) -> bytes:
    """Return the object with only those of its own members whose names are kept.

    Args:
        line: one object as JSON, without spaces around it.
        keep: called with each name.

    >>> flat_members(b'{"a":"1", "_x":[{"a":2}],"a":"2"}', lambda name: name != "_x")
    b'{"a":"1","a":"2"}'
    """
    kept = [member for name, member in _members(line) if keep(name)]
    return b"{" + b",".join(kept) + b"}"


def _members(line: bytes) -> Iterator[tuple[str, bytes]]:
    depth, start, name = 0, 1, b""
    for token in _TOKEN.finditer(line):
        sign = token[0]
        if sign in b"{[":
            depth += 1
        elif sign in b"}]":
            depth -= 1
        elif depth == 1 and sign[:1] == b'"' and not name:
            name = sign
        if name and ((sign == b"," and depth == 1) or depth == 0):
            yield msgspec.json.decode(name, type=str), line[start : token.start()].strip()
            start, name = token.end(), b""
