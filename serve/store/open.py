"""The kinds of stores by the scheme of an address, and the one that the settings name."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from serve.config import Config, ConfigError, StoreSettings
from serve.store.kind import StoreKind
from serve.store.staging import recover_import
from serve.store.store import Store

KINDS: Mapping[str, str] = {
    "sqlite": "serve.store.sqlite:SQLITE",
    "redis": "serve.store.redis:REDIS",
    "rediss": "serve.store.redis:REDIS",
}
"""MODULE:NAME of the `StoreKind` of each scheme; the module is imported when a store is opened."""

DEFAULT = "sqlite"
"""Scheme of an empty address."""


def find_kind(settings: StoreSettings) -> StoreKind:
    """Return the kind of the store in the settings.

    Raises:
        ConfigError: no kind has the scheme, or the module of a kind of one's own has none.
    """
    scheme = settings.url.partition("://")[0] or DEFAULT
    known = {**KINDS, **settings.kinds}
    if scheme not in known:
        told = ", ".join(f"{each}://" for each in known)
        raise ConfigError(f"store.url: expected one of {told}, got {scheme}://")
    module, _, name = known[scheme].partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"store.kinds.{scheme}: {error}") from error
    if not isinstance(found, StoreKind):
        raise ConfigError(f"store.kinds.{scheme}: expected a StoreKind as {known[scheme]}")
    return found


def open_store(config: Config, now_ms: Callable[[], int], *, make: bool = True) -> Store:
    """Open the store; the caller closes it.

    The data folder exists with every store: it holds the secret, snapshots and rankers. An import
    of histories that was committed, and whose process is gone, is finished first.

    Args:
        config: names the data folder and the store.
        now_ms: the wall clock, for `LogLine.written_ms`.
        make: make a missing store and data folder; otherwise refuse and write nothing.

    Raises:
        ConfigError: no kind of store has this scheme.
        ValueError: the store is missing, was written by a newer nextswipe, has another number of
            shards, lacks the configured durability, or is no store at all.
        StoreUnavailable: the server cannot be reached.
    """
    if make:
        Path(config.data.folder).mkdir(parents=True, exist_ok=True)
    store = find_kind(config.store).open(config, now_ms, make=make)
    if make:  # a reader writes nothing
        try:
            recover_import(store, Path(config.data.folder))
        except BaseException:
            store.close()
            raise
    return store
