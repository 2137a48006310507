"""A location in a file, so that every error names file, line and field."""

from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
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
