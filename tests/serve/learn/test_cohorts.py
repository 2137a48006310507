"""Cohorts and coordinates of devices: learned from served users, published, listed, erased."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from histories import START_MS, config_of, make_learner
from servers import ask
from typer.testing import CliRunner

from env.columns.schema import APPS, N_APPS, index_of
from env.records import FeedbackKind, PageRecord, UserRecord, unpack_halves
from env.users.devices import device_keys
from env.users.state import UserState
from env.vocabulary import CreatorId, Float32s, Item, ItemId, UserId, UserKey
from policies.collaborative.users import LEAST_USERS
from policies.snapshots import SnapshotCorruption
from serve.commands.main import app
from serve.config import Arm, CollaborativeSettings, Config, Experiment, FeedSettings
from serve.jobs.import_data import import_items
from serve.jobs.verify import verify_log
from serve.learn.collaborative import (
    APPS_PART,
    COHORTS_PART,
    PART,
    CollaborativeTrainer,
    Generation,
    open_generations,
    read_generation,
)
from serve.processes.replica import FeedReplica
from serve.store.generations import activate
from serve.store.open import open_store
from serve.store.store import Activation, write_now
from serve.wire.cohorts import CohortsResponse
from serve.wire.feed import CardBody, Event, FeedbackRequest, FeedRequest, SceneBody
from serve.wire.users import ProfileBody

TASTES = (("cooking", "garden"), ("football", "running"), ("guitar", "piano"), ("chess", "coding"))
OTHER_TAGS = ("news", "travel")
N_USERS = 48
N_PAGES = 5
PAGE_MS = 120_000
COUNTRIES = ("GB", "TH", "BR", "JP")


def taste_of(user: int) -> int:
    return user % len(TASTES)


def profile_of(user: int) -> ProfileBody:
    """Users of a taste have apps of a genre, and everybody the same four others."""
    rng = np.random.default_rng(user)
    genre = taste_of(user)
    own = rng.choice(40, 20, replace=False)
    return ProfileBody(
        country=COUNTRIES[genre],
        apps=(*(f"genre {genre} app {k}" for k in own), "chat", "maps", "mail", "bank"),
        os=f"Android {12 + user // 4 % 3}",
        device="phone",
        device_model=f"Model {user // 4 % 5}",
    )


def settings_of(folder: Path) -> Config:
    uniform = Experiment("one", (Arm("all", "uniform"),))
    return msgspec.structs.replace(
        config_of(folder, uniform),
        feed=FeedSettings(candidates=40, eps=0.1),
        collaborative=CollaborativeSettings(dims=4, every_s=0.1, least_answers=1, answers=10_000),
    )


def films() -> list[Item]:
    """Half of the films have a tag of a taste and one of anybody's."""
    tags = [tag for taste in TASTES for tag in taste]
    return [
        Item(
            item_id=ItemId(f"i{k}"),
            creator=CreatorId(f"c{k}"),
            title=f"Film {k}",
            tags=(tags[k % len(tags)], OTHER_TAGS[k // len(tags) % 2]),
            duration_s=30.0,
            published_ms=START_MS - 1_000 * k,
        )
        for k in range(160)
    ]


def answers(user: int, card: CardBody, at_ms: int) -> list[Event]:
    liked = bool(set(TASTES[taste_of(user)]) & set(card.item.tags))
    told: list[tuple[FeedbackKind, float | None]] = [
        ("impression", None),
        ("dwell", 25.0 if liked else 1.0),
        ("leave", None),
    ]
    return [
        Event(f"{kind}-{card.slot}", card.decision_id, kind, at_ms + 100 * i, value)
        for i, (kind, value) in enumerate(told)
    ]


async def swipe(replica: FeedReplica, user: int, k: int) -> None:
    at_ms = START_MS + (k * N_USERS + user) * PAGE_MS
    request = FeedRequest(user_id=UserId(f"p{user}"), size=8, scene=SceneBody(at_ms=at_ms))
    page = await replica.engine.feed(request)
    events = [e for card in page.items for e in answers(user, card, at_ms + 9_000 * card.slot)]
    await replica.engine.feedback(FeedbackRequest(tuple(events)))


async def live(replica: FeedReplica, pages: range) -> None:
    for k in pages:
        for user in range(N_USERS):
            if k == 0:
                await replica.engine.put_user(UserId(f"p{user}"), profile_of(user))
            await swipe(replica, user, k)


def train(config: Config) -> int:
    """Learn what the log says, and publish a generation; return its log offset."""
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        while learner.step():
            pass
        trainer = CollaborativeTrainer(
            store, open_generations(config), config.collaborative, monotonic_s=lambda: 0.0
        )
        assert trainer.offer(learner.learning)
        activation = trainer.train()
        assert activation is not None
        return activation.offset


def generation(config: Config) -> Generation:
    with open_store(config, lambda: 0) as store:
        return read_generation(config, store)


def user_states(config: Config) -> dict[int, UserState]:
    with open_store(config, lambda: 0) as store, store.view() as view:
        users = view.users()
        return {
            int(users[key][0][1:]): state for key, state in view.user_states(list(users)).items()
        }


@contextmanager
def replica_of(config: Config) -> Iterator[FeedReplica]:
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        yield replica
    finally:
        replica.close()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings_of(tmp_path_factory.mktemp("lived") / "data")
    import_items(config, films(), START_MS)
    with replica_of(config) as replica:
        asyncio.run(live(replica, range(N_PAGES)))
    train(config)
    return config


@pytest.fixture
def config(lived: Config, tmp_path: Path) -> Config:
    shutil.copytree(lived.data.folder, tmp_path / "data")
    return settings_of(tmp_path / "data")


# --- cohorts ---


def test_planted_tastes_of_served_users_become_cohorts_named_by_their_tags(config: Config) -> None:
    cohorts = generation(config).cohorts
    found = {user: cohorts.of(state) for user, state in user_states(config).items()}
    pure = 0
    for taste, tags in enumerate(TASTES):
        names = Counter(
            cohort.name for user, cohort in found.items() if cohort and taste_of(user) == taste
        )
        (name, n), *_ = names.most_common(1)
        assert sorted(name.split(", ")) == sorted(tags)
        pure += n
    assert pure >= 0.9 * N_USERS
    for cohort in cohorts.cohorts:
        (country,) = cohort.countries
        assert set(cohort.name.split(", ")) == set(TASTES[COUNTRIES.index(country)])


async def test_the_command_and_the_server_list_the_current_cohorts(config: Config) -> None:
    run = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    listed = run.invoke(app, ["cohorts", "--json", "--data", config.data.folder])
    assert listed.exit_code == 0, listed.output
    with replica_of(config) as replica:
        answer = await ask(replica.app, "GET", "/v1/cohorts")
    assert answer.status == 200
    assert json.loads(answer.body) == json.loads(listed.stdout)
    told = msgspec.json.decode(answer.body, type=CohortsResponse)
    assert (told.generation, told.users, told.unassigned) == (1, N_USERS, 0)
    assert told.cohorts == generation(config).cohorts.cohorts
    table = run.invoke(app, ["cohorts", "--data", config.data.folder])
    assert f"{N_USERS} users in cohorts, 0 not known well enough" in table.stdout
    assert all(cohort.name in table.stdout for cohort in told.cohorts)


def test_before_anything_is_learned_there_are_no_cohorts(tmp_path: Path) -> None:
    config = settings_of(tmp_path / "data")
    import_items(config, films(), START_MS)
    run = CliRunner()
    listed = run.invoke(app, ["cohorts", "--json", "--data", config.data.folder])
    expected = CohortsResponse(0, 0, 0, ())
    assert msgspec.json.decode(listed.stdout, type=CohortsResponse) == expected
    assert "no cohorts yet" in run.invoke(app, ["cohorts", "--data", config.data.folder]).stdout


def test_the_next_generation_keeps_cohorts_and_directions(config: Config) -> None:
    before, profiles = generation(config), [profile_of(u).profile() for u in range(N_USERS)]
    with replica_of(config) as replica:
        asyncio.run(live(replica, range(N_PAGES, N_PAGES + 2)))
    train(config)
    after = generation(config)
    assert after.version == before.version + 1
    assert {c.cohort: c.name for c in after.cohorts.cohorts} == {
        c.cohort: c.name for c in before.cohorts.cohorts
    }
    for profile in profiles:
        assert np.dot(before.apps.read(profile), after.apps.read(profile)) > 0.95


# --- devices ---


def test_pages_log_the_coordinates_of_the_current_generation_and_are_drawn_again(
    config: Config,
) -> None:
    with open_store(config, lambda: 0) as store:
        offset = store.log.last_offset()
    with replica_of(config) as replica:
        asyncio.run(live(replica, range(N_PAGES, N_PAGES + 1)))
    space, states = generation(config).apps, user_states(config)
    at = slice(index_of(APPS[0]), index_of(APPS[0]) + N_APPS)
    logged = dict[UserKey, Float32s]()
    with open_store(config, lambda: 0) as store:
        for line in store.log.read(offset):
            if isinstance(line.record, PageRecord):
                logged[line.record.user] = unpack_halves(line.record.shared)[at]
        with store.view() as view:
            users = {key: int(user_id[1:]) for key, (user_id, _) in view.users().items()}
    assert len(logged) == N_USERS
    for key, columns in logged.items():
        expected = space.read(states[users[key]].profile)
        assert columns.tolist() == pytest.approx(expected, abs=2**-11)
        assert np.linalg.norm(columns) == pytest.approx(1.0, abs=1e-2)
    places = {users[key]: columns for key, columns in logged.items()}
    for user, place in places.items():
        assert abs(np.dot(place, places[(user + 1) % N_USERS])) < 0.2, "users of another genre"
        assert np.dot(place, places[(user + 4) % N_USERS]) > 0.8, "users of the same"
    assert verify_log(config).is_clean


def test_who_is_forgotten_is_in_no_later_generation(config: Config) -> None:
    """The users of one model are just enough to be learned from, until one of them is forgotten."""
    model = ProfileBody(device_model="Rare One")
    (key,) = device_keys(model.profile())
    owners = [UserId(f"p{user}") for user in range(LEAST_USERS)]

    async def own(replica: FeedReplica) -> None:
        for owner in owners:
            await replica.engine.put_user(owner, model)
        await swipe(replica, 0, N_PAGES)

    async def forget(replica: FeedReplica) -> None:
        await replica.engine.delete_user(owners[0])
        await swipe(replica, 1, N_PAGES)

    with replica_of(config) as replica:
        asyncio.run(own(replica))
    train(config)
    assert key in generation(config).apps.keys
    with replica_of(config) as replica:
        asyncio.run(forget(replica))
    train(config)
    assert key not in generation(config).apps.keys
    assert generation(config).cohorts.cohorts
    assert sum(cohort.users for cohort in generation(config).cohorts.cohorts) == N_USERS - 1
    with open_store(config, lambda: 0) as store:
        first = next(
            line.record
            for line in store.log.read()
            if isinstance(line.record, UserRecord) and line.record.profile is not None
        )
    assert "Rare One" not in str(first)


def test_a_generation_of_item_factors_alone_is_read_and_learned_on(config: Config) -> None:
    generations = open_generations(config)
    factors = generation(config).factors
    with open_store(config, lambda: 0) as store:
        manifest = msgspec.structs.replace(generations.manifest(1), version=2)
        written = generations.publish(manifest, {PART: factors.to_bytes()})
        activation = Activation(2, manifest.epoch, sum(manifest.offsets), written.digest)
        write_now(store, lambda t: activate(t, activation, "collaborative"))
    older = generation(config)
    assert (older.version, len(older.apps), len(older.cohorts)) == (2, 0, 0)
    assert older.factors.to_bytes() == factors.to_bytes()
    with replica_of(config) as replica:
        asyncio.run(live(replica, range(N_PAGES, N_PAGES + 1)))
    train(config)
    assert len(generation(config).cohorts) == len(TASTES)


@pytest.mark.parametrize("part", [APPS_PART, COHORTS_PART])
def test_a_damaged_part_is_refused_and_training_begins_anew(config: Config, part: str) -> None:
    (Path(config.data.folder) / "collaborative" / f"v{1:012d}" / part).write_bytes(b"damaged")
    with pytest.raises(SnapshotCorruption):
        generation(config)
    with replica_of(config) as replica:
        assert replica.pipeline.learned.version == 0
        asyncio.run(live(replica, range(N_PAGES, N_PAGES + 1)))
    train(config)
    assert len(generation(config).cohorts) == len(TASTES)
