"""The encoding of a log line on Redis: a fixed-length header, then the record with its crc."""

import struct
import zlib
from collections.abc import Collection
from typing import NamedTuple

from env.records import Kind, Record, encode_record
from replay.log import LogCorruption, anonymous, checked_record

_HEAD = struct.Struct("<cqqI")
"""Header of a payload: kind, time of the record, time of writing, crc."""
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
    """A line as stored in its shard."""

    offset: int  # in the shard, from 1, without gaps
    kind: str  # of its record
    at_ms: int  # of its record
    written_ms: int
    crc: int  # CRC-32 of the payload
    payload: bytes

    @classmethod
    def unpacked(cls, offset: int, packed: bytes) -> "Line":
        """Return a line that `pack` encoded, or raise LogCorruption if it is too short."""
        if len(packed) < _HEAD.size:
            raise LogCorruption(offset, f"expected {_HEAD.size} bytes or more, got {len(packed)}")
        kind, at_ms, written_ms, crc = _HEAD.unpack_from(packed)
        return cls(offset, _KINDS.get(kind, ""), at_ms, written_ms, crc, packed[_HEAD.size :])

    def record(self) -> Record:
        """Return the record, or raise LogCorruption if its crc or payload is wrong."""
        return checked_record(self.offset, self.crc, self.payload)


def pack(record: Record, written_ms: int) -> bytes:
    """Return the encoded line that `Line.unpacked` reads."""
    kind: Kind = record.__struct_config__.tag  # type: ignore[assignment]  # it is one of them
    payload = encode_record(record)
    head = _HEAD.pack(_LETTERS[kind], record.at_ms, written_ms, zlib.crc32(payload))
    return head + payload


def unnamed(packed: bytes, offset: int = 0) -> bytes:
    """Return a line without the fields that identify a user; raise LogCorruption if damaged."""
    line = Line.unpacked(offset, packed)
    return pack(anonymous(line.record()), line.written_ms)


def is_kind(line: Line, kinds: Collection[Kind] | None) -> bool:
    """Return whether a line is of one of these kinds; None: any kind."""
    return kinds is None or line.kind in kinds
