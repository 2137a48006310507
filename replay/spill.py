"""Columns of a whole log on disk: appended batch by batch, read back as memory-mapped arrays.

An evaluation keeps a dozen numbers a decision, where the log keeps a kilobyte. They lie in files of
a temporary folder, which the system holds in memory as long as there is some, and which goes when
the evaluation is over.

Rejected: lists of arrays in memory (twice the columns, when they are joined), and Parquet (to be
read back in whole columns or decoded batch by batch, five times over).
"""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from env.vocabulary import Floats, Ints


class Spill:
    """Named columns of float64 or int64; a context, at whose end they are gone."""

    def __init__(self) -> None:
        """Make an empty temporary folder."""
        self._folder = tempfile.TemporaryDirectory(prefix="nextswipe-columns-")
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the columns; arrays that were handed out must not be read any more."""
        for file in self._files.values():
            file.close()
        self._folder.cleanup()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def append(self, name: str, values: Floats | Ints) -> None:
        """Put values at the end of a column, which the first ones make."""
        if name not in self._files:
            path = Path(self._folder.name) / f"{len(self._files)}.column"
            self._files[name] = path.open("wb")
        self._files[name].write(np.ascontiguousarray(values).tobytes())

    def floats(self, name: str) -> Floats:
        """Return a column of float64 as it is now.

        Raises:
            KeyError: nothing was put into it.
        """
        return np.memmap(self._flushed(name), dtype=np.float64, mode="r")

    def ints(self, name: str) -> Ints:
        """Return a column of int64 as it is now.

        Raises:
            KeyError: nothing was put into it.
        """
        return np.memmap(self._flushed(name), dtype=np.int64, mode="r")

    def _flushed(self, name: str) -> str:
        self._files[name].flush()
        return self._files[name].name
