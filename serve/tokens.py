"""This module makes and checks ids: signed decision ids, page ids, and pseudonyms.

A decision id on the wire is `page:slot.mac` with 96 bits of keyed BLAKE2b. A page id begins with a
keyed hash of user and request and ends with a random part. Session ids, event ids and address
blocks become keyed hashes. Derivation and rejected alternatives:
`docs/decisions/serve-ids-and-keys.md`.
"""

import base64
import hashlib
import hmac
import ipaddress
import os
import secrets
from pathlib import Path
from typing import Literal

from env.vocabulary import DecisionId, PageId, SessionId, UserKey

N_BYTES = 32
Purpose = Literal["decision", "page", "session", "event", "origin", "draw", "viewer", "operator"]


SECRET = "secret.key"  # noqa: S105 - the name of a file


def has_secret(folder: Path) -> bool:
    """Return whether a data folder has a secret already."""
    return (folder / SECRET).exists()


def load_secret(folder: Path) -> bytes:
    """Return the secret of a data folder; the first process to ask makes it.

    Args:
        folder: exists; the file `secret.key` in it is readable by its owner only.

    Raises:
        ValueError: the file has another length.
    """
    path = folder / SECRET
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


_MAC_BYTES = 12
_ID_BYTES = 12
_NONCE_BYTES = 6
_ORIGIN_BYTES = 4
_BLOCK_BITS = {4: 24, 6: 48}
"""Leading bits of an address that a household, office or data centre shares, by IP version."""


class Tokens:
    """Makes and checks the ids of one installation."""

    def __init__(self, secret: bytes) -> None:
        self._decision_key = derive_key(secret, "decision")
        self._page_key = derive_key(secret, "page")
        self._session_key = derive_key(secret, "session")
        self._event_key = derive_key(secret, "event")
        self._origin_key = derive_key(secret, "origin")

    def sign(self, decision: DecisionId) -> str:
        """Return a decision id as clients see it.

        >>> Tokens(bytes(32)).sign(DecisionId("9f:3"))
        '9f:3.r4kCdB8IFD7m6agZ'
        """
        return f"{decision}.{self._mac(decision)}"

    def verify(self, token: str) -> DecisionId | None:
        """Return the decision id of a token; None: this installation did not sign it.

        >>> tokens = Tokens(bytes(32))
        >>> tokens.verify(tokens.sign(DecisionId("9f:3"))), tokens.verify("9f:4.forged")
        ('9f:3', None)
        """
        decision, _, mac = token.rpartition(".")
        expected = self._mac(decision)
        return (
            DecisionId(decision) if hmac.compare_digest(mac.encode(), expected.encode()) else None
        )

    def request(self, user: UserKey, request_id: str | None) -> str:
        """Return the prefix of a request's page ids; random for a request without an id."""
        if request_id is None:
            return secrets.token_hex(_ID_BYTES)
        return _hash(self._page_key, user, request_id)

    def page_id(self, request: str) -> PageId:
        """Return a unique page id with the prefix that `request` returned."""
        return PageId(f"{request}{secrets.token_hex(_NONCE_BYTES)}")

    def session_id(self, user: UserKey, session_id: str) -> SessionId:
        """Return the pseudonym of a caller's session."""
        return SessionId(_hash(self._session_key, user, session_id))

    def event_id(self, user: UserKey, event_id: str) -> str:
        """Return the pseudonym of a caller's event, the same for every repeat."""
        return _hash(self._event_key, user, event_id)

    def origin(self, address: str) -> str:
        """Return the pseudonym of the block of an IP address: 8 hex digits.

        An IPv4 address mapped into IPv6 counts as the IPv4 address.

        >>> tokens = Tokens(bytes(32))
        >>> tokens.origin("192.0.2.7") == tokens.origin("::ffff:192.0.2.200")
        True
        >>> tokens.origin("192.0.2.7") == tokens.origin("192.0.3.7")
        False

        Args:
            address: a valid address; an empty one has an empty pseudonym.
        """
        if not address:
            return ""
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        block = int(parsed) >> parsed.max_prefixlen - _BLOCK_BITS[parsed.version]
        message = f"{parsed.version}/{block:x}".encode()
        digest = hashlib.blake2b(message, key=self._origin_key, digest_size=_ORIGIN_BYTES)
        return digest.hexdigest()

    def _mac(self, decision: str) -> str:
        digest = hashlib.blake2b(decision.encode(), key=self._decision_key, digest_size=_MAC_BYTES)
        return base64.urlsafe_b64encode(digest.digest()).decode()


def new_user_key() -> UserKey:
    """Return a random pseudonym of 128 bits."""
    return UserKey(secrets.token_hex(16))


def _hash(key: bytes, user: UserKey, name: str) -> str:
    message = f"{user}\0{name}".encode()
    return hashlib.blake2b(message, key=key, digest_size=_ID_BYTES).hexdigest()
