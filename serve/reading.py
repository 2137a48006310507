"""Reads of the store during requests, which do not block the event loop.

A local file is read directly, because starting a thread costs more than such a read. A store on
another machine is read on a thread, so that health checks are answered while it is slow. Rejected
alternatives: `docs/decisions/serve-store.md`.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serve.store import Store, View

T = TypeVar("T")


async def read(store: Store, ask: Callable[[View], T], about: str = "") -> T:
    """Return the result of `ask` on a view; see `serve.store.Store.view`."""

    def asking() -> T:
        with store.view(about) as view:
            return ask(view)

    return await off_loop(store, asking)


async def off_loop(store: Store, ask: Callable[[], T]) -> T:
    """Return the result of a function that reads a store; on a thread unless the store is local."""
    return ask() if store.is_local else await asyncio.to_thread(ask)
