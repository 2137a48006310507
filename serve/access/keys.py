"""API keys, and the rows that a store keeps of them.

A key reads `ns_ID_SECRET`. The id finds the row; the row holds a hash of the secret, so whoever
reads the store learns no key. A name has at most two live keys, which lets a caller change from one
to the next without an outage. Rejected alternatives: `docs/decisions/access-keys.md`.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from serve.errors import JobError
from serve.store.store import RowTable, Transaction, View

Scope = Literal["feed", "feedback", "catalogue", "users", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Pages; events; items; profiles, blocks and deletions; audits, metrics and cohorts."""

PREFIX = "ns"
KEY_TABLE: RowTable = "key"
MOST_LIVE = 2
_ID_CHARACTERS = 10
_SECRET_BYTES = 32
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_HASH = bytes(32)


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as the store keeps it, without its secret.

    Attributes:
        key_id: the part of the key that is no secret.
        name: of the caller, as the operator knows it.
        digest: SHA-256 of the secret, which has 256 random bits and so needs no salt.
        scopes: operations that it may call.
        made_ms: when it was made.
        ends_ms: when it ends by itself; 0: never.
        revoked_ms: when it was revoked; 0: it was not.
        used_ms: when it was last used, to half a minute or so; 0: never.
        per_second: requests a second that it may make, on average; 0: any number.
    """

    key_id: str
    name: str
    digest: bytes
    scopes: tuple[Scope, ...]
    made_ms: int
    ends_ms: int = 0
    revoked_ms: int = 0
    used_ms: int = 0
    per_second: Annotated[float, Meta(ge=0.0)] = 0.0

    def is_live(self, now_ms: int) -> bool:
        """Return whether the key may be used at a time."""
        return not self.revoked_ms and (not self.ends_ms or now_ms < self.ends_ms)


def check_name(name: str) -> str:
    """Return a name that a key may have.

    Raises:
        JobError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise JobError(
            "expected a name of 1 to 64 letters, digits, dots, dashes and underscores that "
            f"begins with a letter or digit, got {name!r}"
        )
    return name


def split_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key's text; None: it is no key.

    >>> split_key("ns_abc_d_e"), split_key("nv_abc_d")
    (('abc', 'd_e'), None)
    """
    prefix, _, rest = text.partition("_")
    key_id, underscore, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and underscore and secret else None


def matches(key: Key | None, secret: str) -> bool:
    """Return whether a secret is the key's, in a time that does not depend on the answer."""
    digest = hashlib.sha256(secret.encode()).digest()
    return hmac.compare_digest(digest, _NO_HASH if key is None else key.digest)


def read_keys(view: View) -> list[Key]:
    """Return all keys ever made, the oldest first."""
    rows = (msgspec.msgpack.decode(row, type=Key) for row in view.rows(KEY_TABLE).values())
    return sorted(rows, key=lambda key: (key.made_ms, key.key_id))


def create_key(
    transaction: Transaction,
    name: str,
    scopes: Iterable[Scope],
    now_ms: int,
    *,
    ends_ms: int = 0,
    per_second: float = 0.0,
) -> tuple[Key, str]:
    """Make a key of a name that has no live one; return it with its text, which nothing keeps.

    Raises:
        JobError: the name cannot be one, or has a live key.
    """
    live = _live_of(transaction, check_name(name), now_ms)
    if live:
        raise JobError(
            f"expected a name without a live key, got {name}, which has {_ids(live)}: "
            f"nextswipe keys rotate {name} makes its next one"
        )
    wanted = tuple(scope for scope in SCOPES if scope in set(scopes))
    return _put_new(transaction, name, wanted, now_ms, ends_ms, per_second)


def rotate_key(
    transaction: Transaction, name: str, now_ms: int, *, ends_ms: int = 0
) -> tuple[Key, str]:
    """Make the second live key of a name, with the scopes and the rate of the first.

    Raises:
        JobError: the name has no live key, or two.
    """
    live = _live_of(transaction, name, now_ms)
    if not live:
        raise JobError(f"expected a name with a live key, got {name}: create one first")
    if len(live) >= MOST_LIVE:
        raise JobError(
            f"expected one live key of {name}, got {len(live)} ({_ids(live)}): revoke the older "
            "one once its callers have changed"
        )
    return _put_new(transaction, name, live[0].scopes, now_ms, ends_ms, live[0].per_second)


def revoke_key(transaction: Transaction, key_id: str, now_ms: int) -> Key:
    """Revoke a key; one that was revoked stays as it is.

    Raises:
        JobError: there is no key of this id.
    """
    key = _find(transaction, key_id)
    if key is None:
        raise JobError(f"expected the id of a key (nextswipe keys list), got {key_id!r}")
    revoked = key if key.revoked_ms else replace(key, revoked_ms=now_ms)
    _put(transaction, revoked)
    return revoked


def note_use(transaction: Transaction, used_ms: dict[str, int]) -> None:
    """Write when keys were last used; a key that is gone stays gone."""
    for key_id, at_ms in used_ms.items():
        key = _find(transaction, key_id)
        if key is not None and at_ms > key.used_ms:
            _put(transaction, replace(key, used_ms=at_ms))


def _put_new(
    transaction: Transaction,
    name: str,
    scopes: tuple[Scope, ...],
    now_ms: int,
    ends_ms: int,
    per_second: float,
) -> tuple[Key, str]:
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARACTERS))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    digest = hashlib.sha256(secret.encode()).digest()
    key = Key(key_id, name, digest, scopes, now_ms, ends_ms, per_second=per_second)
    _put(transaction, key)
    return key, f"{PREFIX}_{key_id}_{secret}"


def _find(view: View, key_id: str) -> Key | None:
    row = view.row(KEY_TABLE, key_id)
    return None if row is None else msgspec.msgpack.decode(row, type=Key)


def _put(transaction: Transaction, key: Key) -> None:
    transaction.put_row(KEY_TABLE, key.key_id, msgspec.msgpack.encode(key))


def _live_of(view: View, name: str, now_ms: int) -> list[Key]:
    return [key for key in read_keys(view) if key.name == name and key.is_live(now_ms)]


def _ids(keys: Iterable[Key]) -> str:
    return ", ".join(key.key_id for key in keys)
