"""The load generator tells the truth about a server that stalls, and the benchmarks end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from serve.bench.open_loop import Generator, Load, LoadResult, _Sender
from serve.bench.swaps import SwapsSize, run_swaps

PAGE = b'{"items": [{"decision_id": "d", "policy": "vowpal@3"}]}'
MIXED = b'{"items": [{"decision_id": "d", "policy": "a@1"}, {"decision_id": "e", "policy": "a@2"}]}'
STALL_S = 0.5


@asynccontextmanager
async def answering(status: str, body: bytes, stalls: set[int]) -> AsyncIterator[str]:
    """Answer all alike, one request at a time; before some, stand still."""
    n_asked = 0
    line = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_asked
        while header := await reader.read(1 << 16):
            assert header.startswith(b"POST /v1/feed")
            async with line:
                n_asked += 1
                if n_asked in stalls:
                    await asyncio.sleep(STALL_S)
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def load(address: str, **more: Any) -> Load:
    settings: dict[str, Any] = {"seconds": 2.0, "rate": 50.0, "connections": 100} | more
    return Load(address, users=("ann", "bob"), report_every=0, **settings)


def late_of(answered: LoadResult) -> int:
    return int(np.sum(np.array(answered.latencies_s) > STALL_S / 2))


async def test_a_stall_is_late_for_all_who_were_due_in_it() -> None:
    """What waits for each answer before it asks again sees one late answer in a hundred."""
    async with answering("200 OK", PAGE, stalls={20}) as address:
        open_loop = await _Sender(load(address)).run()
    assert len(open_loop.latencies_s) == 100
    n_due, n_late = STALL_S * 50, late_of(open_loop)
    assert n_late >= n_due / 3
    async with answering("200 OK", PAGE, stalls={20}) as address:
        closed_loop = await _Sender(load(address, rate=0.0, connections=1)).run()
    assert 1 <= late_of(closed_loop) < n_late  # and what a busy machine adds in two seconds


@pytest.mark.parametrize(
    ("status", "body", "errors"),
    [
        ("200 OK", PAGE, {}),
        ("200 OK", b'{"items": []}', {"empty": 5}),
        ("200 OK", MIXED, {"mixed": 5}),
        ("429 Too Many Requests", b"{}", {"429": 5}),
    ],
)
async def test_what_is_no_page_is_an_error_of_its_kind(
    status: str, body: bytes, errors: dict[str, int]
) -> None:
    async with answering(status, body, stalls=set()) as address:
        answered = await _Sender(load(address, seconds=0.1)).run()
    assert answered.errors == errors
    assert len(answered.latencies_s) == (5 if status.startswith("200") else 0)


def test_nobody_there_is_an_error_too() -> None:
    with Generator() as generator:
        answered = generator.send(load("http://127.0.0.1:1", seconds=0.1))
    assert answered.errors == {"ClientConnectorError": 5}


def test_each_page_is_by_one_version_while_models_are_swapped_in() -> None:
    """The short one of `bench swaps`, without Ray."""
    size = SwapsSize(swaps=10, windows=2, per_s=5.0, items=300, users=50, redrawn=60, edge="bare")
    now_ms = time.time_ns() // 1_000_000
    result = run_swaps(size, seed=1, now_ms=now_ms, advance=lambda *_: None)
    assert result.errors == {}
    assert result.served >= 3
    assert result.mismatches == 0
    assert result.redrawn > 20
    assert result.told_apart > 0
