"""Weights as bytes and as a file that is vouched for: safetensors, never a pickle.

Safetensors is a header of JSON (names, types, shapes, free words of the writer) and then plain
numbers: reading it runs nothing. Its library checks that the numbers are all there and in place,
not that they are those that were written; a manifest beside the file says what its sha256 must be.

Rejected: numpy's npz (a zip around headers that are evaluated as Python, and allow_pickle a word
away), and words in a file of their own (weights and what they are for belong together).
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from env.vocabulary import Float32s
from policies.snapshots import SnapshotCorruption

MOST_HEADER = 1 << 20
"""Bytes of a header, which is parsed before anything vouches for it."""


class Packed(NamedTuple):
    """What was packed: tensors by name, and the writer's words."""

    tensors: dict[str, Float32s]
    words: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What stands beside a file of weights.

    Attributes:
        sha256: of the file, in hex.
        size: of it, in bytes.
        made: what it was made by and how that went, for who looks at it later; nothing reads it.
    """

    sha256: str
    size: int
    made: dict[str, Any] | None = None


class _Entry(msgspec.Struct, frozen=True):
    """Of a tensor in the header; the library checks the rest."""

    dtype: Literal["F32"]


def pack(tensors: Mapping[str, Float32s], words: Mapping[str, str]) -> bytes:
    """Return float32 tensors and words as bytes of safetensors."""
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return bytes(safetensors.numpy.save(whole, dict(words)))


def unpack(data: bytes) -> Packed:
    """Return what `pack` packed.

    Raises:
        ValueError: it is no safetensors, is cut off, or holds something else than float32.
    """
    words = _read_words(data)
    try:
        return Packed(safetensors.numpy.load(data), words)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"expected safetensors, got {len(data)} bytes that are not: {error}"
        ) from error


def _read_words(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(MOST_HEADER, len(data) - 8):
        raise ValueError(
            f"expected safetensors with a header of 2 to {MOST_HEADER} bytes, "
            f"got {len(data)} bytes that announce one of {size}"
        )
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=dict[str, msgspec.Raw])
        words = msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
        for entry in header.values():
            msgspec.json.decode(entry, type=_Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"expected the header of safetensors with float32 only: {error}"
        ) from error
    return words


def manifest_path(path: Path) -> Path:
    """Return where the manifest of a file of weights lies: beside it.

    >>> manifest_path(Path("r.safetensors")).name
    'r.safetensors.json'
    """
    return path.with_name(f"{path.name}.json")


def write_vouched(path: Path, data: bytes, made: Mapping[str, Any] | None = None) -> None:
    """Write a file and then its manifest, both on disk when this returns.

    Each is there whole or not at all. Between the two, an older file's manifest vouches for
    nothing, and the file is refused.

    Args:
        path: in a folder that exists.
        data: all of it.
        made: see `Manifest`; of what JSON can hold.
    """
    told = None if made is None else dict(made)
    manifest = Manifest(hashlib.sha256(data).hexdigest(), len(data), told)
    _write(path, data)
    _write(manifest_path(path), msgspec.json.format(msgspec.json.encode(manifest)))


def remove_vouched(path: Path) -> None:
    """Remove a file and its manifest, the file first: a manifest alone vouches for nothing."""
    path.unlink(missing_ok=True)
    manifest_path(path).unlink(missing_ok=True)


def read_vouched(path: Path) -> bytes:
    """Return a file that is what its manifest says.

    Raises:
        FileNotFoundError: it or its manifest is not there.
        SnapshotCorruption: it is not what its manifest says, or the manifest cannot be read.
    """
    beside = manifest_path(path)
    try:
        manifest = msgspec.json.decode(beside.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorruption(f"{beside}: {error}") from error
    data = path.read_bytes()
    if len(data) != manifest.size:
        raise SnapshotCorruption(f"{path}: expected {manifest.size} bytes, got {len(data)}")
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise SnapshotCorruption(f"{path}: its sha256 is not the manifest's")
    return data


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.unfinished")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
