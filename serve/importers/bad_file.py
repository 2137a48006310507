"""The one error of the importers: which file, which line, which column, what was expected."""

from pathlib import Path


class BadFile(ValueError):  # noqa: N818 - the word of the command line, which prints it as it is
    """A file that is not what it should be; nothing of it was imported."""

    def __init__(self, path: Path, problem: str, line: int = 0, column: str = "") -> None:
        """Say where.

        Args:
            path: the file.
            problem: what was expected and what came.
            line: from 1; 0 where the whole file is meant.
            column: its name; empty where the whole line is meant.
        """
        place = f"{path}"
        if line:
            place += f", line {line}"
        if column:
            place += f", column {column!r}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.problem = problem
        self.line = line
        self.column = column
