"""Reads of the store while requests are answered, which hold nobody else up.

A row of a file on this machine is read faster than a thread is told to; a store on another machine
may take as long as its network does, or not answer at all. Then health checks and refusals are to
be answered all the same, so such a store is read on a thread.

Rejected: a thread for every store (telling it costs more than such a read), and a client of Redis
that is asynchronous beside the one of the writer's thread (each lookup would be written twice).
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serve.store import Store, View

T = TypeVar("T")


async def read(store: Store, ask: Callable[[View], T], about: str = "") -> T:
    """Return what is asked of a view; see `serve.store.Store.view`."""

    def asking() -> T:
        with store.view(about) as view:
            return ask(view)

    return await off_loop(store, asking)


async def off_loop(store: Store, ask: Callable[[], T]) -> T:
    """Return what a function returns that reads a store; on a thread unless that is local."""
    return ask() if store.is_local else await asyncio.to_thread(ask)
