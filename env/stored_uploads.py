"""The uploads as they are kept in a snapshot: ids with their rows and contents, columns by row.

A struct of arrays and not an array of structs: an id is most of what an upload that is over takes.

Rejected: the trials' own ids as the only ones (what is over has none, and must be known again).
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from env.reach import UploadState
from env.trials import Trial
from env.vocabulary import ItemId


class StoredUploads(msgspec.Struct, frozen=True, array_like=True, tag="uploads/2"):
    """The state of `env.uploads.Uploads`.

    Attributes:
        ids: of all items that ever had a row.
        rows: of each, 4 bytes.
        contents: of each, 8 bytes.
        keys: of each row, 8 bytes.
        standing: of each row, a byte.
        trials: that are under way.
        ended: of the latest others a record, by row.
    """

    ids: tuple[ItemId, ...]
    rows: bytes
    contents: bytes
    keys: bytes
    standing: bytes
    trials: list[Trial]
    ended: dict[int, UploadState]

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
        """Return what to keep; the same state gives the same."""
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
        """Return the rows by item.

        Raises:
            ValueError: there are more or fewer than ids.
        """
        return self._by_id(np.frombuffer(self.rows, dtype="<u4").tolist(), "rows")

    def content_of(self) -> dict[ItemId, int]:
        """Return the contents by item.

        Raises:
            ValueError: there are more or fewer than ids.
        """
        return self._by_id(np.frombuffer(self.contents, dtype="<u8").tolist(), "contents")

    def key_of(self) -> list[int]:
        """Return the keys by row.

        Raises:
            ValueError: there are more or fewer than rows that stand somewhere.
        """
        keys: list[int] = np.frombuffer(self.keys, dtype="<u8").tolist()
        if len(keys) != len(self.standing):
            raise ValueError(f"expected {len(self.standing)} keys, got {len(keys)}")
        return keys

    def _by_id(self, column: list[int], name: str) -> dict[ItemId, int]:
        if len(column) != len(self.ids):
            raise ValueError(f"expected {len(self.ids)} {name}, got {len(column)}")
        return dict(zip(self.ids, column, strict=True))
