"""The error of a refused job, kept apart so that the command line can import it cheaply."""

from pathlib import Path


class BadFile(ValueError):  # noqa: N818 - a short name for a message
    """A file is invalid; nothing of it was imported."""

    def __init__(self, path: Path, problem: str, line: int = 0, column: str = "") -> None:
        """Compose the message.

        Args:
            problem: expected and actual content.
            line: from 1; 0: the whole file.
            column: name of the column; empty: the whole line.
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


class JobError(RuntimeError):  # the command line prints it as it is
    """A job cannot be done in the present state; nothing was changed."""
