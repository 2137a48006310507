"""What an import keeps: there with its items and users or not at all, and naming nobody."""

import asyncio
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from histories import START_MS, config_of
from kuairands import N_ITEMS, N_USERS, write_kuairand
from waiting import DEADLINE_S

from env.vocabulary import Profile, UserId
from serve.config import Config
from serve.importers import kuairand
from serve.jobs.import_data import (
    N_GENERATED_PEOPLE,
    ImportCounts,
    import_kuairand,
    import_users,
    load_world,
)
from serve.processes.replica import FeedReplica
from serve.store.ledger import WritePath
from serve.store.open import open_store
from serve.store.store import write_now
from serve.wire.codec import ProblemError
from serve.wire.feed import FeedRequest

PLACES = {
    "while its world is staged": "numpy.savez_compressed",
    "after its world is staged": "serve.jobs.import_data.put_items",
    "in the transaction, after the items": "serve.jobs.import_data._put_user",
    "before the commit": "serve.jobs.imported_world.ImportedWorld.make_current",
}
KILLED = """
import os, signal, sys
from pathlib import Path
from unittest.mock import patch
from serve.config import Config, DataSettings
from serve.importers import kuairand
from serve.jobs.import_data import import_kuairand

data = kuairand.read(Path(sys.argv[2]))
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
with patch(sys.argv[3], die):
    import_kuairand(Config(data=DataSettings(sys.argv[1])), data, int(sys.argv[4]))
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path / "data")


def kill_at(place: str, config: Config, folder: Path) -> None:
    """Import in a process that is killed when it comes to a place."""
    words = [config.data.folder, str(folder), place, str(START_MS)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_an_import_that_is_killed_leaves_nothing_and_is_repeated(
    config: Config, tmp_path: Path, place: str
) -> None:
    folder = write_kuairand(tmp_path)
    kill_at(place, config, folder)

    with open_store(config, lambda: 0) as store:
        assert store.log.last_offset() == 0
    assert len(load_world(config, seed=1)[1]) == N_GENERATED_PEOPLE
    assert import_kuairand(config, kuairand.read(folder), START_MS).users == ImportCounts(
        new=N_USERS
    )
    assert len(load_world(config, seed=1)[1]) == N_USERS
    assert len(list(imports(config).iterdir())) == 1, "what the killed one left is gone"


def test_an_import_that_is_killed_after_its_commit_is_there_with_its_world(
    config: Config, tmp_path: Path
) -> None:
    folder = write_kuairand(tmp_path)
    kill_at("serve.jobs.imported_world.ImportedWorld.prune", config, folder)

    data = kuairand.read(folder)
    world, users = load_world(config, seed=1)
    assert users == data.users
    assert world.item_ids == tuple(item.item_id for item in data.items)
    assert len(world.model.items.ids) > 0
    again = import_kuairand(config, data, START_MS)
    assert (again.items, again.users) == (
        ImportCounts(unchanged=N_ITEMS),
        ImportCounts(unchanged=N_USERS),
    )


async def test_a_running_server_sees_all_of_an_import_at_once_and_refuses_nobody_meanwhile(
    config: Config, tmp_path: Path
) -> None:
    data = kuairand.read(write_kuairand(tmp_path))
    half_way, go_on = threading.Event(), threading.Event()

    def pause(n: int) -> None:
        if not half_way.is_set():
            half_way.set()
            assert go_on.wait(DEADLINE_S)

    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        importing = asyncio.create_task(
            asyncio.to_thread(import_kuairand, config, data, START_MS, pause)
        )
        assert await asyncio.to_thread(half_way.wait, 20.0)
        asking = [
            asyncio.create_task(replica.engine.feed(FeedRequest(user_id=f"newcomer {k}")))
            for k in range(5)
        ]
        for item in data.items:
            with pytest.raises(ProblemError, match="no item"):
                await replica.engine.shelf.get(item.item_id)
        go_on.set()
        await importing
        await asyncio.gather(*asking)
        page = await replica.engine.feed(FeedRequest(user_id="0"))
    finally:
        go_on.set()
        replica.close()
    assert {card.item_id for card in page.items} <= {item.item_id for item in data.items}
    assert len(page.items) == 10
    with open_store(config, lambda: 0) as store, store.view() as view:
        assert len(view.users()) == N_USERS + len(asking)


def test_who_is_deleted_is_named_nowhere_and_lives_in_the_world_no_more(tmp_path: Path) -> None:
    names = {f"somebody-{k}" for k in range(3)}
    config = config_of(tmp_path / "data")
    data = kuairand.read(write_kuairand(tmp_path))
    named = [
        (UserId(name), profile)
        for name, (_, profile) in zip(sorted(names), data.users, strict=False)
    ]
    data.users[:3] = named
    import_kuairand(config, data, START_MS)
    assert {user_id for user_id, _ in load_world(config, seed=1)[1]} >= names

    with open_store(config, lambda: 0) as store:
        ledger = WritePath(store)
        for name in names:
            work = partial(ledger.forget_user, user_id=UserId(name), at_ms=START_MS)
            assert write_now(store, work)

    world, users = load_world(config, seed=1)
    assert len(users) == N_USERS - 3
    assert not names & {user_id for user_id, _ in users}
    assert not names & set(world.model.users.ids)
    for path in Path(config.data.folder).rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [name for name in names if name.encode() in content], path


def test_the_files_of_a_world_know_users_by_number_only(config: Config, tmp_path: Path) -> None:
    data = kuairand.read(write_kuairand(tmp_path))
    for k, (_, profile) in enumerate(data.users):
        data.users[k] = UserId(f"user of the import {k}"), profile
    import_kuairand(config, data, START_MS)
    assert all(b"person of the import" not in content for content in kept(config).values())


def test_who_comes_back_by_a_second_import_lives_in_the_world_again(
    config: Config, tmp_path: Path
) -> None:
    data = kuairand.read(write_kuairand(tmp_path))
    import_kuairand(config, data, START_MS)
    before = load_world(config, seed=1)[0].user(*data.users[0])
    with open_store(config, lambda: 0) as store:
        ledger = WritePath(store)
        write_now(store, partial(ledger.forget_user, user_id=data.users[0][0], at_ms=START_MS))
    files = kept(config)

    assert import_kuairand(config, data, START_MS).users == ImportCounts(
        new=1, unchanged=N_USERS - 1
    )

    world, users = load_world(config, seed=1)
    assert users == data.users
    assert world.user(*data.users[0]).lean == before.lean
    assert kept(config) == files, "nothing was fitted again"


def test_a_world_whose_folder_was_removed_is_the_generated_one_until_it_is_imported_again(
    config: Config, tmp_path: Path
) -> None:
    data = kuairand.read(write_kuairand(tmp_path))
    import_kuairand(config, data, START_MS)
    shutil.rmtree(imports(config))
    assert len(load_world(config, seed=1)[1]) == N_GENERATED_PEOPLE
    import_kuairand(config, data, START_MS)
    assert load_world(config, seed=1)[1] == data.users


def test_a_user_who_moved_lives_in_the_world_as_they_are_now(
    config: Config, tmp_path: Path
) -> None:
    data = kuairand.read(write_kuairand(tmp_path))
    import_kuairand(config, data, START_MS)
    user_id, profile = data.users[0]
    moved = Profile(country="MY", registered_ms=profile.registered_ms)
    import_users(config, [(user_id, moved)], START_MS)
    assert load_world(config, seed=1)[1][0] == (user_id, moved)


def imports(config: Config) -> Path:
    return Path(config.data.folder) / "imports"


def kept(config: Config) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in imports(config).rglob("*") if path.is_file()}
