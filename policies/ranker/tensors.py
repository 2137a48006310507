"""Weights as safetensors, in bytes or in a file with a manifest, never as a pickle.

Reading safetensors runs no code. The library checks only that all numbers are present, so a
manifest beside the file holds its sha256. Rejected alternatives: `docs/decisions/snapshots.md`.
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
"""Largest header in bytes; it is parsed before anything verifies it."""


class Packed(NamedTuple):
    """Tensors by name, and metadata by name."""

    tensors: dict[str, Float32s]
    words: dict[str, str]


class FileManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The manifest beside a file of weights."""

    sha256: str  # of the file, in hex
    size: int  # of the file, in bytes
    made: dict[str, Any] | None = None  # how the file was made, for human readers only


class _Entry(msgspec.Struct, frozen=True):
    """A tensor's entry in the header; the library checks the rest."""

    dtype: Literal["F32"]


def pack(tensors: Mapping[str, Float32s], words: Mapping[str, str]) -> bytes:
    """Return float32 tensors and metadata as bytes of safetensors."""
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return bytes(safetensors.numpy.save(whole, dict(words)))


def unpack(data: bytes) -> Packed:
    """Return the tensors and metadata that `pack` wrote.

    Raises:
        ValueError: the bytes are no safetensors, are truncated, or hold another type than float32.
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
    """Return the path of the manifest, beside its file of weights.

    >>> manifest_path(Path("r.safetensors")).name
    'r.safetensors.json'
    """
    return path.with_name(f"{path.name}.json")


def write_verified(path: Path, data: bytes, made: Mapping[str, Any] | None = None) -> None:
    """Write a file and then its manifest, both flushed to disk when this returns.

    Each is complete or absent. Between the two writes an older manifest does not match, and the
    file is refused.

    Args:
        path: in a folder that exists.
        made: see `FileManifest`; values that JSON can hold.
    """
    told = None if made is None else dict(made)
    manifest = FileManifest(hashlib.sha256(data).hexdigest(), len(data), told)
    _write(path, data)
    _write(manifest_path(path), msgspec.json.format(msgspec.json.encode(manifest)))


def remove_verified(path: Path) -> None:
    """Remove a file and its manifest, the file first: a manifest alone verifies nothing."""
    path.unlink(missing_ok=True)
    manifest_path(path).unlink(missing_ok=True)


def read_verified(path: Path) -> bytes:
    """Return a file's contents after verification against its manifest.

    Raises:
        FileNotFoundError: it or its manifest is missing.
        SnapshotCorruption: it differs from its manifest, or the manifest cannot be read.
    """
    beside = manifest_path(path)
    try:
        manifest = msgspec.json.decode(beside.read_bytes(), type=FileManifest)
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
