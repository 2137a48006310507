"""The snapshot format of uploads: ids with their rows and contents, and columns by row.

It is a struct of arrays, as the id is most of the size of an upload whose trial is over. Rejected
alternatives: `docs/decisions/upload-identity.md`.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from env.reach import UploadState
from env.trials import Trial
from env.vocabulary import ItemId


class StoredUploads(msgspec.Struct, frozen=True, array_like=True, tag="uploads/2"):
    """The state of `env.uploads.Uploads`."""

    ids: tuple[ItemId, ...]  # all items that ever had a row
    rows: bytes  # row of each id, 4 bytes each
    contents: bytes  # content hash of each id, 8 bytes each
    keys: bytes  # near-duplicate key of each row, 8 bytes each
    standing: bytes  # level or end of each row, a byte each
    trials: list[Trial]  # current trials
    ended: dict[int, UploadState]  # audit records of the latest ended trials, by row

    @classmethod
    def of(
        cls,
        rows: Mapping[ItemId, int],
        contents: Mapping[ItemId, int],
        keys: Sequence[int],
        standing: bytes,
        trials: list[Trial],
        ended: dict[int, UploadState],
    ) -> "StoredUploads":
        """Return the stored form; the same state gives the same bytes."""
        return cls(
            tuple(rows),
            np.fromiter(rows.values(), dtype="<u4", count=len(rows)).tobytes(),
            np.array([contents[item_id] for item_id in rows], dtype="<u8").tobytes(),
            np.array(keys, dtype="<u8").tobytes(),
            standing,
            trials,
            ended,
        )

    def row_of(self) -> dict[ItemId, int]:
        """Return the rows by item; raise ValueError unless there is one an id."""
        return self._by_id(np.frombuffer(self.rows, dtype="<u4").tolist(), "rows")

    def content_of(self) -> dict[ItemId, int]:
        """Return the content hashes by item; raise ValueError unless there is one an id."""
        return self._by_id(np.frombuffer(self.contents, dtype="<u8").tolist(), "contents")

    def key_of(self) -> list[int]:
        """Return the keys by row; raise ValueError unless there is one a standing."""
        keys: list[int] = np.frombuffer(self.keys, dtype="<u8").tolist()
        if len(keys) != len(self.standing):
            raise ValueError(f"expected {len(self.standing)} keys, got {len(keys)}")
        return keys

    def _by_id(self, column: list[int], name: str) -> dict[ItemId, int]:
        if len(column) != len(self.ids):
            raise ValueError(f"expected {len(self.ids)} {name}, got {len(column)}")
        return dict(zip(self.ids, column, strict=True))
