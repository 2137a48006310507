"""Replicas come, are replaced and go while users swipe: nobody gets an error."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from live import Live, live
from waiting import DEADLINE_S

from env.world import generated
from serve.config import Config, DataSettings
from serve.jobs.import_data import import_items

PROGRAM = """
import sys
from pathlib import Path
import msgspec
from serve.config import load
from serve.processes.edge import switched

config = load(Path(sys.argv[1]))
with switched(config.server) as server:
    from serve.processes.ray_app import deploy, running

    with running(msgspec.structs.replace(config, server=server), listens=lambda: None):
        for line in sys.stdin:
            replicas, queue = map(int, line.split())
            server = msgspec.structs.replace(server, replicas=replicas, queue=queue)
            deploy(msgspec.structs.replace(config, server=server))
            print("deployed", flush=True)
"""
N_SWIPING = 4
STEPS = (("update the one there is", "1 127"), ("add a replica", "2 127"), ("remove one", "1 127"))


@dataclass
class Tally:
    """What was answered."""

    n_pages: int = 0
    failures: list[str] = field(default_factory=list)


def test_replicas_are_added_updated_and_removed_under_load_without_a_failed_request(
    tmp_path: Path,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    config = Config(data=DataSettings(str(tmp_path / "data")))
    import_items(config, generated.catalogue(1, 500, now_ms), now_ms)
    with live(tmp_path, program=PROGRAM) as server:
        tally = asyncio.run(swipe_through(server))
    assert tally.failures == []
    assert tally.n_pages > 20 * len(STEPS)


async def swipe_through(server: Live) -> Tally:
    """Let users swipe while each step is done, and a little longer."""
    tally = Tally()
    async with aiohttp.ClientSession() as session:
        users = [asyncio.create_task(swipe(server, session, tally, k)) for k in range(N_SWIPING)]
        for _, wanted in STEPS:
            n_before = tally.n_pages
            await asyncio.to_thread(command, server, wanted)
            async with asyncio.timeout(DEADLINE_S):
                while tally.n_pages < n_before + 20:  # noqa: ASYNC110  # whoever swipes tells nobody
                    await asyncio.sleep(0.05)
        for user in users:
            user.cancel()
        await asyncio.gather(*users, return_exceptions=True)
    return tally


def command(server: Live, wanted: str) -> None:
    """Have the server deploy with so many replicas and such a queue."""
    stdin, stdout = server.process.stdin, server.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(wanted + "\n")
    stdin.flush()
    while (line := stdout.readline()) != "deployed\n":
        assert line, "the server has ended"


async def swipe(server: Live, session: aiohttp.ClientSession, tally: Tally, who: int) -> None:
    """Ask for pages, as another user after some, until cancelled."""
    number = 0
    while True:
        body = {"user_id": f"{who}-{number // 20}", "size": 5}
        number += 1
        try:
            async with session.post(server.address + "/v1/feed", json=body) as answer:
                text = await answer.text()
        except aiohttp.ClientError as error:
            tally.failures.append(repr(error))
            continue
        if answer.status == 200:
            tally.n_pages += 1
        else:
            tally.failures.append(f"{answer.status}: {text}")
