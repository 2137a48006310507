"""Imports of people and histories: all of it or nothing, once, in every store, beside a server."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from histories import START_MS, catalogue, config_of, make_history, make_learner
from past import AT_MS, write_history
from redises import shared_url
from waiting import DEADLINE_S

from env.history import n_views
from env.records import HistoryRecord, PageRecord, Record, UserRecord
from env.users.fold import fold
from env.users.state import UserState, seen_keys
from env.vocabulary import ItemId, Profile, UserId, UserKey
from replay.log.sqlite.checkpoint import locked
from serve.config import Config, StoreSettings
from serve.errors import BadFile, JobError
from serve.importers.history import read
from serve.jobs.import_data import import_items
from serve.jobs.import_users import ImportedHistory, import_people, import_views
from serve.learn.fold import LearnerState
from serve.learn.settings import learning_args
from serve.store import staging
from serve.store.data_folder import open_data
from serve.store.ledger import WritePath
from serve.store.staging import (
    LOCK,
    ImportTakenOver,
    StagedUser,
    begin_import,
    commit_import,
    finish_import,
    stage_users,
)
from serve.store.store import Store, write_now
from serve.store.totals import Total

N_USERS, N_VIEWS = 9, 12
WHOLE = ImportedHistory(N_USERS * N_VIEWS, 0, N_USERS, N_USERS, 0)


@pytest.fixture(params=["sqlite", "redis", "toy"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Return settings of an installation with a catalogue, in every kind of store."""
    config = config_of(tmp_path / "data")
    config = msgspec.structs.replace(config, store=store_settings(request.param, tmp_path.name))
    import_items(config, catalogue(), AT_MS)
    return config


def store_settings(kind: str, name: str) -> StoreSettings:
    match kind:
        case "redis":
            return StoreSettings(shared_url(), f"past-{os.getpid()}-{name}", shards=3)
        case "toy":
            return StoreSettings(f"toy://{name}", kinds={"toy": "toy_store:TOY"})
        case _:
            return StoreSettings()


def import_file(config: Config, path: Path, now_ms: int = START_MS) -> ImportedHistory:
    return import_views(config, read(path, now_ms), now_ms, path.name)


@contextmanager
def opened(config: Config) -> Iterator[Store]:
    with open_data(config, now_ms=lambda: START_MS) as store:
        yield store


def records_of(config: Config) -> list[Record]:
    with opened(config) as store:
        return [line.record for line in store.log.read()]


def states_of(config: Config) -> dict[UserId, UserState]:
    with opened(config) as store, store.view() as view:
        people = view.users()
        states = view.user_states(people.keys())
        return {user_id: states[user] for user, (user_id, _) in people.items()}


def left_over(config: Config) -> tuple[object, list[object]]:
    with opened(config) as store, store.view() as view:
        return view.import_mark(), [*view.staged_users()]


def test_a_history_is_in_the_log_and_the_fold_of_the_log_is_the_live_state(
    config: Config, tmp_path: Path
) -> None:
    assert import_file(config, write_history(tmp_path / "h.csv", N_USERS, N_VIEWS)) == WHOLE
    states: dict[UserKey, UserState | None] = {}
    for record in records_of(config):
        if isinstance(record, UserRecord | HistoryRecord):
            states[record.user] = fold(states.get(record.user), record)
    with opened(config) as store, store.view() as view:
        live = view.user_states(list(view.users()))
        assert view.totals()[Total("imported_views")] == N_USERS * N_VIEWS
    assert live == states
    assert {state.n_cards for state in live.values()} == {N_VIEWS}
    assert {state.profile.registered_ms for state in live.values()} == {
        AT_MS + user for user in range(N_USERS)
    }, "who is unknown is registered, since the first view"
    assert left_over(config) == (None, [])


def test_a_second_import_changes_nothing_and_a_grown_file_adds_what_is_new(
    config: Config, tmp_path: Path
) -> None:
    path = write_history(tmp_path / "h.csv", N_USERS, N_VIEWS)
    import_file(config, path)
    before, states = records_of(config), states_of(config)
    again = ImportedHistory(0, N_USERS * N_VIEWS, N_USERS, 0, 0)
    assert import_file(config, path) == again
    assert import_file(config, path.rename(tmp_path / "other.csv")) == again
    assert (records_of(config), states_of(config)) == (before, states)
    grown = write_history(tmp_path / "h.csv", N_USERS + 1, N_VIEWS + 2)
    added = N_USERS * 2 + N_VIEWS + 2
    assert import_file(config, grown) == ImportedHistory(
        added, N_USERS * N_VIEWS, N_USERS + 1, 1, 0
    )
    new = [record for record in records_of(config) if isinstance(record, HistoryRecord)]
    assert sum(map(n_views, new)) == (N_USERS + 1) * (N_VIEWS + 2)


def test_a_view_that_stands_twice_in_a_file_counts_once(config: Config, tmp_path: Path) -> None:
    path = write_history(tmp_path / "h.csv", 1, 3)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, *rows[1:]]) + "\n")
    assert import_file(config, path) == ImportedHistory(3, 3, 1, 1, 0)


def test_a_long_history_is_several_records_and_one_state(config: Config, tmp_path: Path) -> None:
    import_file(config, write_history(tmp_path / "h.csv", 1, 2_300))
    records = [record for record in records_of(config) if isinstance(record, HistoryRecord)]
    assert [n_views(record) for record in records] == [1_000, 1_000, 300]
    (state,) = states_of(config).values()
    assert state.n_cards == 2_300


def test_an_unknown_item_counts_as_seen_and_a_removed_one_is_unknown(
    config: Config, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(f"user_id,item_id,at_ms,dwell_s\na,i0,{AT_MS},25\na,new,{AT_MS + 1},25\n")
    done = import_file(config, path)
    assert (done.views, done.unknown) == (2, 1)
    assert "1 of items that are not in the catalogue" in str(done)
    (state,) = states_of(config).values()
    assert (state.n_cards, len(seen_keys(state))) == (1, 2)


def test_a_completion_is_a_share_of_the_duration(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    rows = f"a,i0,{AT_MS},1,\na,i1,{AT_MS + 1},0.1,\na,i2,{AT_MS + 2},0.5,100\n"
    path.write_text(f"user_id,item_id,at_ms,completion,duration_s\n{rows}")
    import_file(config, path)
    (record,) = [r for r in records_of(config) if isinstance(r, HistoryRecord)]
    dwells = memoryview(record.dwells).cast("f").tolist()
    assert dwells == [30.0, 3.0, 50.0], "of the catalogue's 30 s where the file has none"
    bare = catalogue(1)[0]
    import_items(config, [msgspec.structs.replace(bare, duration_s=None)], START_MS)
    before = records_of(config)
    with pytest.raises(BadFile, match=r"line 2, column 'completion': expected duration_s beside"):
        import_file(config, path)
    assert records_of(config) == before


def test_people_are_registered_and_changed_and_their_history_keeps_them(
    config: Config, tmp_path: Path
) -> None:
    people = [(UserId(f"p{k}"), Profile(country="GB", cohort="keen")) for k in range(5)]
    first = import_people(config, people, START_MS)
    assert (first.new, first.changed, first.unchanged) == (5, 0, 0)
    again = import_people(config, people, START_MS + 9)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 5)
    import_file(config, write_history(tmp_path / "h.csv", N_USERS, N_VIEWS))
    moved = [(people[0][0], Profile(country="MY")), *people[1:]]
    third = import_people(config, moved, START_MS + 9)
    assert (third.new, third.changed, third.unchanged) == (0, 1, 4)
    states = states_of(config)
    assert states[UserId("p0")].profile == Profile(country="MY", registered_ms=START_MS)
    assert states[UserId("p0")].n_cards == N_VIEWS
    scenes = {r.scene.country for r in records_of(config) if isinstance(r, HistoryRecord)}
    assert scenes == {"GB", ""}, "as the profile said at the import"


def test_a_history_goes_with_its_user(config: Config, tmp_path: Path) -> None:
    path = write_history(tmp_path / "h.csv", N_USERS, N_VIEWS)
    import_file(config, path)
    with opened(config) as store:
        ledger = WritePath(store)
        work = partial(ledger.forget_user, user_id=UserId("p0"), at_ms=START_MS)
        assert write_now(store, work, about="p0")
        with store.view("p0") as view:
            assert view.user("p0") is None
    assert len(states_of(config)) == N_USERS - 1
    back = import_file(config, path)
    assert (back.views, back.new_users) == (N_VIEWS, 1), "as a stranger, of whom nothing is known"


def test_who_is_forgotten_while_an_import_is_finished_stays_forgotten(config: Config) -> None:
    with opened(config) as store:
        import_people(config, [(UserId("ann"), Profile())], START_MS)
        run = begin_import(store, START_MS)
        stage_users(store, run, [(UserId("ann"), StagedUser(Profile(country="GB")))], nothing)
        commit_import(store, run)
        ledger = WritePath(store)
        write_now(store, lambda t: ledger.forget_user(t, UserId("ann"), START_MS), about="ann")
        finish_import(store)
        with store.view("ann") as view:
            assert view.user("ann") is None


def test_a_user_of_whom_only_an_import_knows_can_be_forgotten(config: Config) -> None:
    with opened(config) as store:
        run = begin_import(store, START_MS)
        stage_users(store, run, [(UserId("ann"), StagedUser(Profile(country="GB")))], nothing)
        commit_import(store, run)
        forget = partial(WritePath(store).forget_user, user_id=UserId("ann"), at_ms=START_MS)
        assert write_now(store, forget, about="ann"), "there was something to forget"
        assert not write_now(store, forget, about="ann")
        finish_import(store)
    assert states_of(config) == {}
    assert not [r for r in records_of(config) if isinstance(r, UserRecord | HistoryRecord)]


def nothing(n: int) -> None:
    """Tell nobody."""


def test_a_user_who_changes_meanwhile_keeps_both(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a row is worked out, and before it is written, another process changes its user."""
    import_people(config, [(UserId("p0"), Profile(country="GB"))], START_MS)
    real = staging._work_out_all

    def work_out_all(*arguments: Any) -> list[Any]:
        moves = list(real(*arguments))
        with opened(config) as other:
            put = partial(
                WritePath(other).put_user,
                user_id=UserId("p0"),
                profile=Profile(country="MY", registered_ms=5),
                at_ms=START_MS,
            )
            write_now(other, put, about="p0")
        return moves

    monkeypatch.setattr(staging, "_work_out_all", work_out_all)
    import_file(config, write_history(tmp_path / "h.csv", 1, N_VIEWS))
    (state,) = states_of(config).values()
    assert (state.profile.country, state.n_cards) == ("MY", N_VIEWS)


def test_the_newest_import_wins_and_the_other_imports_nothing(config: Config) -> None:
    row = StagedUser(Profile(country="GB"))
    with opened(config) as one, opened(config) as other:
        slow = begin_import(one, START_MS)
        stage_users(one, slow, [(UserId("slow"), row)], nothing)
        fast = begin_import(other, START_MS)
        stage_users(one, slow, [(UserId("late"), row), (UserId("both"), row)], nothing)
        stage_users(other, fast, [(UserId("fast"), row), (UserId("both"), row)], nothing)
        with pytest.raises(ImportTakenOver, match="another import has begun"):
            commit_import(one, slow)
        commit_import(other, fast)
        assert finish_import(other).new == 2
    assert states_of(config).keys() == {"fast", "both"}
    with opened(config) as store:
        begin_import(store, START_MS)
        with store.view() as view:
            assert view.staged_users() == [], "what was left is dropped by the next one"


def test_one_import_at_a_time_runs_on_a_folder(config: Config, tmp_path: Path) -> None:
    with (
        locked(Path(config.data.folder) / LOCK, wait=False),
        pytest.raises(JobError, match="another import into"),
    ):
        import_people(config, [(UserId("a"), Profile())], START_MS)


CHILD = """
import os, signal, sys
from pathlib import Path
from serve.config import Config, DataSettings, StoreSettings
from serve.importers.history import read
from serve.jobs.import_users import import_views
from serve.store import staging

folder, url, name, file, point, calls, now_ms = sys.argv[1:]
real, left = getattr(staging, point), [int(calls)]

def die(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(staging, point, die)
staging.BATCH_USERS, staging.IN_FLIGHT = 2, 1
store = StoreSettings(url, name, shards=3) if url else StoreSettings()
config = Config(data=DataSettings(folder), store=store)
import_views(config, read(Path(file), int(now_ms)), int(now_ms), "h.csv")
"""
BEFORE = [("_begin", 0), ("_stage", 0), ("_stage", 1), ("_commit", 0)]
AFTER = [("_work_out_all", 0), ("_move", 0), ("_move", 1), ("_move", 2), ("_end", 0)]


@pytest.mark.parametrize(("point", "calls"), [*BEFORE, *AFTER])
def test_an_import_that_is_killed_is_all_there_or_not_at_all(
    config: Config, tmp_path: Path, point: str, calls: int
) -> None:
    if config.store.url.startswith("toy"):
        pytest.skip("the toy ends with its process")
    path = write_history(tmp_path / "h.csv", N_USERS, N_VIEWS)
    store = (config.store.url, config.store.name)
    arguments = [config.data.folder, *store, str(path), point, str(calls), str(START_MS)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    is_committed = (point, calls) in AFTER
    open_data(config, must_exist=False, now_ms=lambda: START_MS).close()  # as a server is started
    assert len(states_of(config)) == (N_USERS if is_committed else 0)
    again = import_file(config, path)
    assert (again.views, again.repeated) == (0, 108) if is_committed else (108, 0)
    assert {state.n_cards for state in states_of(config).values()} == {N_VIEWS}
    imported = [r for r in records_of(config) if isinstance(r, HistoryRecord)]
    assert sum(map(n_views, imported)) == N_USERS * N_VIEWS, "nothing twice"
    assert left_over(config) == (None, [])


# --- the learner ---


@pytest.fixture
def swiped(tmp_path: Path) -> Config:
    """Return a folder in which users swiped before and after a history was imported."""
    config = config_of(tmp_path / "data")
    make_history(config, rounds=range(2), publish=False)
    path = write_history(tmp_path / "h.csv", N_USERS, N_VIEWS)
    assert import_file(config, path, AT_MS + 10 * 86_400_000).new_users == 0
    make_history(config, rounds=range(2, 4), publish=False)
    return config


def test_a_history_teaches_the_policy_nothing_and_closes_no_card(swiped: Config) -> None:
    with opened(swiped) as store:
        lines = list(store.log.read())
    args = learning_args(swiped)
    mixed, plain = LearnerState(args), LearnerState(args)
    mixed.fold(lines)
    plain.fold([line for line in lines if not isinstance(line.record, HistoryRecord)])
    assert mixed.imported == N_USERS * N_VIEWS
    assert mixed.policy.to_bytes() == plain.policy.to_bytes()
    assert mixed.join.to_bytes() == plain.join.to_bytes()
    assert mixed.audiences.to_bytes() == plain.audiences.to_bytes()
    assert mixed.states.to_bytes() != plain.states.to_bytes()
    assert mixed.window is not None
    assert plain.window is not None
    assert mixed.window.n_folded == plain.window.n_folded + N_USERS * N_VIEWS


@pytest.mark.parametrize("batch", [1, 7, 1_000])
def test_a_fold_with_a_history_is_the_same_in_any_batches(swiped: Config, batch: int) -> None:
    with opened(swiped) as store:
        lines = list(store.log.read())
    whole, parts = (LearnerState(learning_args(swiped)) for _ in range(2))
    whole.fold(lines)
    for first in range(0, len(lines), batch):
        parts.fold(lines[first : first + batch])
    assert parts.parts() == whole.parts()


def test_a_learner_publishes_what_a_history_says_of_items(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    import_items(config, catalogue(), AT_MS)
    with opened(config) as store:
        learner = make_learner(config, store)
        while learner.step():
            pass
        assert learner.publish_if_due() is None, "of items alone there is nothing to say"
    import_file(config, write_history(tmp_path / "h.csv", N_USERS, N_VIEWS))
    with opened(config) as store:
        learner = make_learner(config, store)
        learner._publish_every_s = -1.0
        while learner.step():
            pass
        with store.view() as view:
            assert view.last_version_number("policy") == 1
        assert (
            learner.learning.states.to_bytes()
            != LearnerState(learning_args(config)).states.to_bytes()
        )
        assert learner.publish_if_due() is None, "and it says so once"


def test_imported_users_are_served_what_they_have_not_seen(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    import_items(config, catalogue(), AT_MS)
    import_file(config, write_history(tmp_path / "h.csv", 1, 20))
    (state,) = states_of(config).values()
    seen = set(seen_keys(state).tolist())
    make_history(config, n_users=1, rounds=range(1), publish=False)
    shown = [
        card.item_id
        for record in records_of(config)
        if isinstance(record, PageRecord)
        for card in record.cards
    ]
    assert len(seen) == len({(3 * k) % 30 for k in range(20)})
    assert len(shown) == 4
    assert not {ItemId(f"i{3 * k % 30}") for k in range(20)} & set(shown)
