"""The fold of the log is the live state: users, items, catalogue, and what a snapshot holds."""

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest
from crowds import Crowd, gathered, read_lines
from histories import START_MS, make_learner
from servers import open_file

from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.records import ItemRecord, LogLine, PageRecord, UserRecord
from env.users.fold import fold
from env.users.state import UserState, encode_state
from env.vocabulary import Item, ItemId, UserId, UserKey
from replay.join.join import Join
from serve.config import Config
from serve.learn.settings import open_snapshots
from serve.processes.replica import FeedReplica
from serve.store import totals
from serve.store.generations import current_version
from serve.store.open import open_store
from serve.store.sqlite import SqliteView
from serve.store.store import Store
from serve.store.totals import Total
from serve.wire.feed import FeedRequest
from serve.wire.items import ItemBody
from serve.wire.users import ProfileBody

COLUMNS = (
    "keys",
    "hashes",
    "blocks",
    "creators",
    "countries",
    "languages",
    "market_sets",
    "duplicates",
    "published_ms",
    "duration_s",
    "listed",
)


@dataclass(frozen=True)
class Lived:
    """A data folder after some life in it, its log, and the catalogue that the replica had."""

    config: Config
    lines: list[LogLine]
    catalogue: Catalogue
    forgotten: frozenset[UserKey]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("lived") / "data"
    with gathered(folder) as crowd, open_store(crowd.config, lambda: 0) as store:
        crowd.swipe(500)
        forgotten = asyncio.run(change_the_world(crowd, store))
        crowd.swipe(300)
        learner = make_learner(crowd.config, store)
        while learner.step():
            pass
        learner.publish_if_due(force=True)
        catalogue = crowd.replica.pipeline.catalogue
    return Lived(crowd.config, read_lines(crowd.config), catalogue, forgotten)


async def change_the_world(crowd: Crowd, store: Store) -> frozenset[UserKey]:
    """Forget some of the users, move others, and change, take down and upload items."""
    engine = crowd.replica.engine
    visitors = sorted({request.user_id for request, _ in crowd.direct.pages})
    with store.view() as view:
        users = [view.user(user_id) for user_id in visitors[:5]]
    for user_id in visitors[:5]:
        await engine.delete_user(UserId(user_id))
    for user_id in visitors[5:8]:
        await engine.put_user(UserId(user_id), ProfileBody(country="SG"))
    ids = crowd.replica.pipeline.catalogue.ids
    await engine.shelf.delete(ids[0])
    await engine.shelf.put(ids[1], ItemBody(title="Another title", listed=False))
    await engine.shelf.put(ItemId("upload"), ItemBody(title="New", tags=("new",), duration_s=9.0))
    await engine.shelf.delete(ids[2])
    await engine.shelf.put(ids[2], ItemBody(title="Back again"))
    return frozenset(user.user for user in users if user)


def test_the_state_of_every_user_is_the_fold_of_the_log_from_its_start(lived: Lived) -> None:
    states: dict[UserKey, UserState | None] = {}
    for line in lived.lines:
        user = getattr(line.record, "user", None)
        if user is not None:
            states[user] = fold(states.get(user), line.record)
    with open_file(lived.config) as store, store.database.reader() as connection:
        rows = dict(connection.execute("SELECT user, state FROM user_state"))
    folded = {user: encode_state(state) for user, state in states.items() if state is not None}
    assert rows == folded
    assert len(rows) > 20
    assert any(state.n_cards > 10 for state in states.values() if state)


def test_who_was_forgotten_has_no_state_and_no_name_and_their_pages_stay(lived: Lived) -> None:
    assert len(lived.forgotten) == 5
    with open_file(lived.config) as store, store.database.reader() as connection:
        known = {user for (user,) in connection.execute("SELECT user FROM users")}
        rows = {user for (user,) in connection.execute("SELECT user FROM user_state")}
    assert not lived.forgotten & (known | rows)
    users = [line.record for line in lived.lines if isinstance(line.record, UserRecord)]
    theirs = [record for record in users if record.user in lived.forgotten]
    assert {record.user_id for record in theirs} == {""}
    assert {record.user for record in theirs if record.profile is None} == lived.forgotten
    pages = [line.record for line in lived.lines if isinstance(line.record, PageRecord)]
    assert {page.user for page in pages} >= lived.forgotten
    assert len({page.user for page in pages} - known) == 5


def test_a_snapshot_s_item_states_and_join_are_the_fold_of_the_log_up_to_it(lived: Lived) -> None:
    with open_store(lived.config, lambda: 0) as store:
        version = current_version(store)
    assert version is not None
    assert version.offset == lived.lines[-1].offset
    join, states = Join(lived.config.reward), ItemStates()
    for line in lived.lines:
        for interaction in join.fold(line.record):
            states.fold(interaction)
    snapshot = open_snapshots(lived.config).load(version.version)
    assert len(states) > 50
    assert snapshot.parts["items"] == states.to_bytes()
    assert snapshot.parts["join"] == join.to_bytes()


def test_the_catalogue_is_the_fold_of_the_item_records(lived: Lived) -> None:
    folded = Catalogue()
    for line in lived.lines:
        if isinstance(line.record, ItemRecord):
            folded.apply(line.record, sequence=line.offset)
    assert_same(lived.catalogue, folded)
    assert np.count_nonzero(~folded.listed) == 2
    replica = FeedReplica(lived.config, now_ms=lambda: START_MS)
    try:
        assert_same(replica.pipeline.catalogue, folded)
    finally:
        replica.close()


def test_the_items_table_is_the_fold_of_the_item_records(lived: Lived) -> None:
    folded: dict[ItemId, Item] = {}
    last = 0
    for line in lived.lines:
        if isinstance(line.record, ItemRecord):
            last = line.offset
            if line.record.item is None:
                del folded[line.record.item_id]
            else:
                folded[line.record.item_id] = line.record.item
    with open_file(lived.config) as store, store.database.reader() as connection:
        view = SqliteView(connection)
        assert view.items() == list(folded.values())
        assert view.catalogue_offset() == last
        (n_found,) = connection.execute("SELECT count(*) FROM item_search").fetchone()
        assert n_found == len(folded) == 200
        assert [item.item_id for item in view.search("back again", 5)] == [lived.catalogue.ids[2]]


def test_the_totals_are_the_fold_of_the_log(lived: Lived) -> None:
    with open_store(lived.config, lambda: 0) as store, store.view() as view:
        rows = view.totals()
    assert rows == totals.count(line.record for line in lived.lines)
    assert rows[Total("user_changes", "forgotten")] == 5
    assert rows[Total("item_changes", "removed")] == 2
    assert rows[Total("cards", "vowpal")] > 100
    assert rows[Total("candidates_removed", "creator")] > 0


def test_a_replica_that_starts_anew_serves_the_version_that_was_published(lived: Lived) -> None:
    with open_store(lived.config, lambda: 0) as store:
        version = current_version(store)
    replica = FeedReplica(lived.config, now_ms=lambda: START_MS)
    try:
        served = replica.pipeline.served
        assert version is not None
        assert (served.version, served.offset) == (version.version, version.offset)
        users = [UserId(f"new-{k}") for k in range(20)]
        pages = [asyncio.run(replica.engine.feed(FeedRequest(who))) for who in users]
        policies = {card.policy for page in pages for card in page.items}
        assert policies == {"uniform@0", f"vowpal@{version.version}"}
    finally:
        replica.close()


def assert_same(catalogue: Catalogue, folded: Catalogue) -> None:
    assert catalogue.sequence == folded.sequence
    assert catalogue.ids == folded.ids
    indices = range(len(folded))
    assert [catalogue.item(i) for i in indices] == [folded.item(i) for i in indices]
    assert [catalogue.card(i) for i in indices] == [folded.card(i) for i in indices]
    for name in COLUMNS:
        assert np.array_equal(getattr(catalogue, name), getattr(folded, name)), name
