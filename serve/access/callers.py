"""The caller of a request: by an API key, by a token that a key made, or anybody.

Anybody may call a server whose store holds no key, which listens on loopback only. From the first
key on each request needs one, whether or not keys are live. A token is an HMAC over user, expiry,
scopes and the key that asked for it, so nothing is stored of it, and it ends with that key.
Rejected alternatives: `docs/decisions/access-keys.md`.
"""

import base64
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import msgspec

from env.vocabulary import UserId
from serve.access.keys import SCOPES, Key, Scope, matches, note_use, read_keys, split_key
from serve.access.rates import RateLimiter
from serve.store.store import Store, StoreUnavailable, write_now
from serve.tokens import derive_key, has_secret, load_secret

logger = logging.getLogger(__name__)
POLL_S = 0.5
NOTE_S = 30.0
BURST_S = 10.0
"""Seconds whose requests a key may make at once."""

VIEWER_SCOPES: tuple[Scope, ...] = ("feed", "feedback")
TOKEN_PREFIX = "nv"  # noqa: S105 - the beginning of every token, no token
OPERATOR_PREFIX = "no"
OPERATOR_MS = 24 * 3_600_000
_MAC_BYTES = 16


class AccessDenied(Exception):  # noqa: N818  # it tells what happened, not a mistake
    """A request whose caller may not make it.

    Attributes:
        status: 401: nobody who is known; 403: somebody who may not; 429: too often.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        key_id: of the key, also behind a token; empty: anybody, on a server without keys.
        scopes: operations that may be called.
        user: the only user whom the request may be about; None: any.
        per_second: rate of the key; 0: any.
    """

    key_id: str
    scopes: frozenset[Scope]
    user: UserId | None = None
    per_second: float = 0.0


class _Token(NamedTuple):
    user: str
    ends_ms: int
    scopes: tuple[Scope, ...]
    key_id: str


ANYBODY = Caller("", frozenset(SCOPES))
OPERATOR = "operator"
"""In place of a key's id, for whoever can read the data folder's secret; no key has it."""

BY_OPERATOR = Caller(OPERATOR, frozenset(SCOPES))


class KeyRing:
    """The keys of a store as a replica knows them: read twice a second, and never on a request."""

    def __init__(
        self, store: Store, secret: bytes, *, now_ms: Callable[[], int], always: bool = False
    ) -> None:
        """Read the keys.

        Args:
            store: holds the keys.
            secret: of the data folder; tokens are signed with it.
            now_ms: the wall clock, by which keys and tokens end.
            always: ask for a key even before there is one.
        """
        self._store, self._now_ms, self._always = store, now_ms, always
        self._token_key = derive_key(secret, "viewer")
        self._operator_key = derive_key(secret, "operator")
        self._keys: dict[str, Key] = {}
        self._used_ms: dict[str, int] = {}
        self._rates = RateLimiter(0.0, BURST_S)
        self.poll()

    @property
    def is_guarded(self) -> bool:
        """Whether every request needs a key."""
        return self._always or bool(self._keys)

    def poll(self) -> None:
        """Read the keys anew; raises `StoreUnavailable`."""
        with self._store.view() as view:
            self._keys = {key.key_id: key for key in read_keys(view)}

    def run(self, stop: Event) -> None:
        """Keep the keys current, and their last uses on record, until told to stop."""
        n_polls = 0
        while not stop.wait(POLL_S):
            try:
                self.poll()
                n_polls += 1
                if n_polls * POLL_S >= NOTE_S:
                    n_polls = 0
                    self.note_uses()
            except StoreUnavailable as error:
                logger.warning("kept keys=%d: %s", len(self._keys), error)

    def note_uses(self) -> None:
        """Write when keys were last used."""
        used, self._used_ms = self._used_ms, {}
        if used:
            write_now(self._store, partial(note_use, used_ms=used))

    def admit(self, authorization: str, scope: Scope) -> Caller:
        """Return the caller of a request who may call an operation of a scope.

        Args:
            authorization: the header `Authorization`; empty: there is none.
            scope: of the operation.

        Raises:
            AccessDenied: 401, 403 or 429.
        """
        caller = self._caller(authorization)
        if scope not in caller.scopes:
            have = ", ".join(scope for scope in SCOPES if scope in caller.scopes) or "none"
            raise AccessDenied(403, f"expected a key with the scope {scope}, got one with {have}")
        if not self._rates.take(caller.key_id, self._now_ms(), caller.per_second):
            raise AccessDenied(429, "the key has made more requests than it may; ask again")
        return caller

    def make_token(self, caller: Caller, user: UserId, ttl_s: float) -> tuple[str, int]:
        """Return a token with which a browser calls feed and feedback for one user.

        It has no scope that its caller lacks, and ends with its caller's key.

        Returns:
            The token, and when it ends, Unix milliseconds.
        """
        ends_ms = self._now_ms() + round(ttl_s * 1000)
        scopes = tuple(scope for scope in VIEWER_SCOPES if scope in caller.scopes)
        token = _Token(user, ends_ms, scopes, caller.key_id)
        return f"{TOKEN_PREFIX}_{_signed(self._token_key, token)}", ends_ms

    def _caller(self, authorization: str) -> Caller:
        kind, _, text = authorization.strip().partition(" ")
        text = text.strip()
        if not text:
            if self.is_guarded:
                raise AccessDenied(401, "expected a key: Authorization: Bearer ns_ID_SECRET")
            return ANYBODY
        if kind.lower() != "bearer":
            raise AccessDenied(401, f"expected Authorization: Bearer, got {kind[:32]}")
        if text.startswith(f"{TOKEN_PREFIX}_"):
            return self._holder(text)
        if text.startswith(f"{OPERATOR_PREFIX}_"):
            return self._operator(text)
        return self._key_caller(text)

    def _key_caller(self, text: str) -> Caller:
        key_id, secret = split_key(text) or ("", "")
        key, now_ms = self._keys.get(key_id), self._now_ms()
        is_right = matches(key, secret)
        if key is None or not is_right:
            raise AccessDenied(401, "the key is not one of this server")
        if not key.is_live(now_ms):
            raise AccessDenied(401, f"the key {key_id} was revoked or has ended")
        self._used_ms[key_id] = now_ms
        return Caller(key_id, frozenset(key.scopes), per_second=key.per_second)

    def _holder(self, text: str) -> Caller:
        """Return the caller of a token, whose scopes are among those that the key has now.

        Tokens are bounded by `[limits]`, not by the rate of their key, which makes one a user.
        """
        token, now_ms = _opened(self._token_key, text), self._now_ms()
        if token is None:
            raise AccessDenied(401, "the token is not one of this server")
        if now_ms >= token.ends_ms:
            raise AccessDenied(401, "the token has ended: ask for a new one")
        scopes = frozenset(token.scopes)
        if token.key_id == OPERATOR or not (token.key_id or self.is_guarded):
            return Caller(token.key_id, scopes, UserId(token.user))
        key = self._keys.get(token.key_id)
        if key is None or not key.is_live(now_ms):
            raise AccessDenied(401, "the key that made the token was revoked or has ended")
        return Caller(token.key_id, scopes & frozenset(key.scopes), UserId(token.user))

    def _operator(self, text: str) -> Caller:
        token = _opened(self._operator_key, text)
        is_valid = token is not None and self._now_ms() < token.ends_ms
        # Commands send one unasked, also to an open server that runs from another folder.
        if not is_valid and self.is_guarded:
            raise AccessDenied(401, "the operator's token is not of this folder, or has ended")
        return BY_OPERATOR


def operator_token(folder: Path, now_ms: int) -> str:
    """Return a token for commands that can read a data folder's secret; it may do everything.

    It is empty where the folder has no secret yet.
    """
    if not has_secret(folder):
        return ""
    token = _Token("", now_ms + OPERATOR_MS, (), "")
    key = derive_key(load_secret(folder), "operator")
    return f"{OPERATOR_PREFIX}_{_signed(key, token)}"


def _signed(key: bytes, token: _Token) -> str:
    payload = _text(msgspec.msgpack.encode(token))
    return f"{payload}.{_text(_mac(key, payload))}"


def _opened(key: bytes, text: str) -> _Token | None:
    """Return a token that was signed with a key; None: it was not."""
    payload, _, mac = text.partition("_")[2].partition(".")
    if not hmac.compare_digest(mac.encode(), _text(_mac(key, payload)).encode()):
        return None
    padded = payload + "=" * (-len(payload) % 4)
    return msgspec.msgpack.decode(base64.urlsafe_b64decode(padded), type=_Token)


def _mac(key: bytes, payload: str) -> bytes:
    return hmac.digest(key, payload.encode(), "sha256")[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
