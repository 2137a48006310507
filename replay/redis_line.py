"""A line of the log as it stands on Redis: a head of fixed length, and the record under its crc."""

import struct
import zlib
from collections.abc import Collection
from typing import NamedTuple

from env.records import Kind, Record, encode_record
from replay.log import LogCorruption, anonymous, checked_record

_HEAD = struct.Struct("<cqqI")
"""Before a payload: kind, time of the record, when it was written, crc."""
_LETTERS: dict[Kind, bytes] = {
    "page": b"p",
    "feedback": b"f",
    "item": b"i",
    "user": b"u",
    "block": b"b",
    "tick": b"t",
}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}


class Line(NamedTuple):
    """A line as it stands in its shard.

    Attributes:
        offset: in the shard, from 1, without gaps.
        kind: of its record.
        at_ms: of its record.
        crc: of the payload, CRC-32.
    """

    offset: int
    kind: str
    at_ms: int
    written_ms: int
    crc: int
    payload: bytes

    @classmethod
    def unpacked(cls, offset: int, packed: bytes) -> "Line":
        """Return a line as `pack` wrote it.

        Raises:
            LogCorruption: it is too short to be one.
        """
        if len(packed) < _HEAD.size:
            raise LogCorruption(offset, f"expected {_HEAD.size} bytes or more, got {len(packed)}")
        kind, at_ms, written_ms, crc = _HEAD.unpack_from(packed)
        return cls(offset, _KINDS.get(kind, ""), at_ms, written_ms, crc, packed[_HEAD.size :])

    def record(self) -> Record:
        """Return the record.

        Raises:
            LogCorruption: it is not what was written.
        """
        return checked_record(self.offset, self.crc, self.payload)


def pack(record: Record, written_ms: int) -> bytes:
    """Return a line as `Line.unpacked` reads it."""
    kind: Kind = record.__struct_config__.tag  # type: ignore[assignment]  # it is one of them
    payload = encode_record(record)
    head = _HEAD.pack(_LETTERS[kind], record.at_ms, written_ms, zlib.crc32(payload))
    return head + payload


def unnamed(packed: bytes, offset: int = 0) -> bytes:
    """Return a line without what names a user.

    Raises:
        LogCorruption: it is not what was written.
    """
    line = Line.unpacked(offset, packed)
    return pack(anonymous(line.record()), line.written_ms)


def is_kind(line: Line, kinds: Collection[Kind] | None) -> bool:
    """Return whether a line is of one of these kinds; None: all kinds."""
    return kinds is None or line.kind in kinds
