"""Columns of a whole log on disk, appended batch by batch and read as memory-mapped arrays.

An evaluation keeps a dozen numbers per decision, where the log has a kilobyte. The files lie in a
temporary folder that is removed afterwards. Rejected: lists of arrays (twice the memory when
joined) and Parquet (decoded five times over).
"""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from env.vocabulary import Floats, Ints


class Spill:
    """A context manager of named float64 or int64 columns, removed at its end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nextswipe-columns-")
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
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
        """Append values to a column, creating it if it is new."""
        if name not in self._files:
            path = Path(self._folder.name) / f"{len(self._files)}.column"
            self._files[name] = path.open("wb")
        self._files[name].write(np.ascontiguousarray(values).tobytes())

    def floats(self, name: str) -> Floats:
        """Return the current contents of a float64 column, or raise KeyError."""
        return np.memmap(self._flushed(name), dtype=np.float64, mode="r")

    def ints(self, name: str) -> Ints:
        """Return the current contents of an int64 column, or raise KeyError."""
        return np.memmap(self._flushed(name), dtype=np.int64, mode="r")

    def _flushed(self, name: str) -> str:
        self._files[name].flush()
        return self._files[name].name
