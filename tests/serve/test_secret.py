"""The secret of an installation, and the keys that are derived from it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.tokens import derive_key, load_secret


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(load_secret, [tmp_path] * 16))
    assert len(secrets) == 1
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_broken_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 32 bytes, got 5"):
        load_secret(tmp_path)


def test_keys_for_different_purposes_differ() -> None:
    secret = bytes(32)
    keys = {derive_key(secret, p) for p in ("decision", "page", "session", "draw")}
    assert len(keys) == 4
    assert derive_key(secret, "draw") == derive_key(secret, "draw")
