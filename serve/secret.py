"""The installation's secret: one file in the data folder, from which every key is derived.

Anyone who holds it can draw logged pages again and sign decision ids, so it belongs in a backup and
never in a log. Keys of different purposes are independent. Rejected alternatives:
`docs/decisions/serve-ids-and-keys.md`.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

N_BYTES = 32

Purpose = Literal["decision", "page", "session", "event", "origin", "draw"]


def load_secret(folder: Path) -> bytes:
    """Return the secret of a data folder; the first process to ask makes it.

    Args:
        folder: exists; the file `secret.key` in it is readable by its owner only.

    Raises:
        ValueError: the file has another length.
    """
    path = folder / "secret.key"
    if not path.exists():
        _create(path)
    secret = path.read_bytes()
    if len(secret) != N_BYTES:
        raise ValueError(f"{path}: expected {N_BYTES} bytes, got {len(secret)}; restore it")
    return secret


def derive_key(secret: bytes, purpose: Purpose) -> bytes:
    """Return the 32-byte key for one purpose: "draw" is the one for `env.interface.page_seed`."""
    return hashlib.blake2b(key=secret, person=purpose.encode(), digest_size=32).digest()


def _create(path: Path) -> None:
    """Write aside and link, so that no process reads half a secret."""
    aside = path.with_name(f".{secrets.token_hex(8)}.key")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(N_BYTES))
            file.flush()
            os.fsync(file.fileno())
        _link(aside, path)
    finally:
        aside.unlink()


def _link(aside: Path, path: Path) -> None:
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        return  # another process was first
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
