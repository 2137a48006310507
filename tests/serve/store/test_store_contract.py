"""What every store must do beside the log: SQLite, a real Redis, and a toy that only tests know."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from lines import feedback, page
from servers import at_once, kept_in, open_kind

from env.records import BlockRecord, FeedbackRecord, ItemRecord, PageRecord, Record, UserRecord
from env.users.state import blocked_creators
from env.vocabulary import CreatorId, Item, ItemId, PageId, Profile, UserId, UserKey
from serve.store.generations import (
    NOTHING,
    ActivationConflict,
    activate,
    activate_after,
    all_versions,
    begin_epoch,
    current_activation,
    current_version,
)
from serve.store.ledger import fold_states
from serve.store.store import Activation, ImportMark, RegisteredUser, Store, Transaction
from serve.store.totals import Total, Vectors, count

T = TypeVar("T")
ANN = UserId("ann")
Open = Callable[[], Store]


@pytest.fixture(params=["sqlite", "redis", "toy"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """What opens the same store, for several processes or after a restart."""
    with kept_in(request.param):
        yield lambda: open_kind(tmp_path, lambda: 0)


@pytest.fixture
def store(reopen: Open) -> Iterator[Store]:
    with reopen() as store:
        yield store


def write(store: Store, work: Callable[[Transaction], T], about: str = ANN) -> T:
    return store.write(work, durable=False, about=about).result()


def key_of(store: Store, user_id: str) -> UserKey:
    """Return a pseudonym on the shard of a caller's id."""
    shard = store.shard_of(user_id)
    return next(
        UserKey(f"{user_id}-{k}") for k in range(999) if store.shard_of(f"{user_id}-{k}") == shard
    )


def register(store: Store, user_id: UserId, profile: Profile) -> UserKey:
    user = key_of(store, user_id)

    def work(transaction: Transaction) -> None:
        transaction.add_user(user_id, user)
        record = UserRecord(user, 1, user_id, profile)
        transaction.append([record])
        fold_states(transaction, [record])

    write(store, work, user_id)
    return user


def put(store: Store, *items: Item) -> None:
    def work(transaction: Transaction) -> None:
        transaction.append([ItemRecord(item.item_id, 1, item) for item in items])
        transaction.put_items(items)

    write(store, work, "")


def remove(store: Store, item_id: ItemId) -> None:
    def work(transaction: Transaction) -> None:
        transaction.append([ItemRecord(item_id, 1)])
        transaction.remove_item(item_id)

    write(store, work, "")


def test_a_user_is_found_by_the_caller_s_id(reopen: Open) -> None:
    with reopen() as store:
        user = register(store, ANN, Profile(country="GB"))
    with reopen() as store, store.view(ANN) as view:
        found = view.user(ANN)
        assert isinstance(found, RegisteredUser)
        assert (found.user, found.state.profile) == (user, Profile(country="GB"))
        assert view.user("bob") is None
        assert view.users() == {user: (ANN, Profile(country="GB"))}
        assert view.user_states([user, UserKey("nobody")]) == {user: found.state}


def test_the_first_pseudonyms_are_a_sample_that_lasts(store: Store) -> None:
    users = sorted(register(store, UserId(f"u{k}"), Profile()) for k in range(9))
    with store.view() as view:
        assert view.user_keys(4) == users[:4]
        assert view.user_keys(100) == users


def test_who_is_forgotten_has_no_state_and_no_name_in_the_log(store: Store) -> None:
    user = register(store, ANN, Profile(country="GB", apps=("chess",), birth_year=1990))
    other = register(store, UserId("bob"), Profile(apps=("go",)))
    blocks = BlockRecord(user, 2, (CreatorId("c"),), ("tag",))
    write(store, lambda t: t.append([blocks]))

    def forget(transaction: Transaction) -> int:
        n = transaction.forget(user)
        transaction.remove_user(ANN)
        gone = UserRecord(user, 2)
        transaction.append([gone])
        fold_states(transaction, [gone])
        return n

    before = list(store.log.read())
    assert write(store, forget) == 2
    with store.view() as view:
        assert view.user(ANN) is None
        assert list(view.users()) == view.user_keys(9) == [other]
        assert view.user_states([user]) == {}
    after = list(store.log.read())
    assert [(a.offset, type(a.record)) for a in after[:-1]] == [
        (b.offset, type(b.record)) for b in before
    ]
    told = [line.record for line in after if getattr(line.record, "user", None) == user]
    assert b"ann" not in msgspec.msgpack.encode(told).replace(user.encode(), b"")
    assert b"chess" not in msgspec.msgpack.encode(told)
    (kept,) = [record for record in told if isinstance(record, UserRecord) and record.profile]
    assert kept.profile == Profile(country="GB")
    assert BlockRecord(user, 2) in told


def test_a_deletion_that_fails_deletes_nothing_of_what_is_committed_with_it(store: Store) -> None:
    user = register(store, ANN, Profile())
    blocks = BlockRecord(user, 2, (CreatorId("c"),), ("tag",))

    def fail(transaction: Transaction) -> None:
        transaction.forget(user)
        raise ValueError("for a test")

    with at_once(store):
        append = store.write(lambda t: t.append([blocks]), durable=False, about=ANN)
        failed = store.write(fail, durable=False, about=ANN)
    assert append.result() == [True]
    with pytest.raises(ValueError, match="for a test"):
        failed.result()
    assert blocks in {line.record for line in store.log.read()}


def test_what_is_committed_together_is_forgotten_together(store: Store) -> None:
    """Also what the deletion wrote itself, before it."""
    user = register(store, ANN, Profile())
    blocks = [BlockRecord(user, at_ms, (CreatorId("c"),), ("tag",)) for at_ms in (2, 3, 4)]

    def forget(transaction: Transaction) -> int:
        transaction.append([blocks[1]])
        n = transaction.forget(user)
        transaction.append([blocks[2]])
        return n

    with at_once(store):
        store.write(lambda t: t.append([blocks[0]]), durable=False, about=ANN)
        forgotten = store.write(forget, durable=False, about=ANN)
    assert forgotten.result() == 3, "the profile, and two blocks"
    told = [line.record for line in store.log.read() if isinstance(line.record, BlockRecord)]
    assert told == [BlockRecord(user, 2), BlockRecord(user, 3), blocks[2]]


def test_items_come_in_the_order_in_which_they_first_came(store: Store) -> None:
    first, second = Item(ItemId("z"), title="a"), Item(ItemId("a"), title="b")
    put(store, first, second)
    put(store, changed := Item(ItemId("z"), title="changed"))
    put(store, third := Item(ItemId("b")))
    remove(store, ItemId("a"))
    with store.view() as view:
        assert view.items() == [changed, third]
        assert view.item_ids() == {"z", "b"}
        assert view.find_items([ItemId("z"), ItemId("a")]) == {"z": changed}
        assert view.removed([ItemId("z"), ItemId("a")]) == {"a"}


def test_every_shard_knows_how_far_the_catalogue_has_come(store: Store) -> None:
    register(store, ANN, Profile())
    for n in range(3):
        put(store, Item(ItemId(f"i{n}")))
        places = {place(store, about) for about in ("", ANN, "bob", "cy", "di")}
        (line,) = list(store.item_lines(0, 100))[n:]
        assert places == {line.offset}
    lines = list(store.item_lines(0, 100))
    assert [getattr(line.record, "item_id", "") for line in lines] == ["i0", "i1", "i2"]
    assert list(store.item_lines(lines[0].offset, 1)) == lines[1:2]
    assert list(store.item_lines(lines[-1].offset, 9)) == []


def place(store: Store, about: str) -> int:
    with store.view(about) as view:
        seen = view.catalogue_offset()
    assert write(store, lambda t: t.catalogue_offset(), about) == seen
    return seen


def test_a_version_is_published_under_the_newest_epoch_only(reopen: Open) -> None:
    with reopen() as store:
        assert current_version(store) is None
        old = write(store, begin_epoch, "")
        write(store, lambda t: activate(t, Activation(1, old, 10, "a")), "")
        new = write(store, begin_epoch, "")
        with pytest.raises(ActivationConflict, match="another writer has"):
            write(store, lambda t: activate(t, Activation(2, old, 20, "b")), "")
        assert current_version(store) == Activation(1, old, 10, "a")
        write(store, lambda t: activate(t, Activation(2, new, 5, "c")), "")
    with reopen() as store, store.view() as view:
        assert current_activation(view, "policy") == Activation(2, new, 5, "c")
        assert view.last_version_number("policy") == 2
        assert view.activations_after("policy", old, 1, limit=9) == [Activation(2, new, 5, "c")]
        assert [v.version for v in view.activations_after("policy", 0, 0, limit=9)] == [2, 1]
        assert [v.version for v in all_versions(store)] == [2, 1], "by what they had learned"


def test_epochs_are_never_given_out_twice(reopen: Open) -> None:
    with reopen() as one, reopen() as other, ThreadPoolExecutor(8) as pool:
        stores = [(one, other)[k % 2] for k in range(40)]
        epochs = list(pool.map(lambda store: write(store, begin_epoch, ""), stores))
    assert sorted(epochs) == list(range(1, 41))


def test_a_ranker_is_activated_only_after_the_activation_that_is_known(reopen: Open) -> None:
    def activating(known: Activation, version: int) -> Callable[[Transaction], Activation]:
        return lambda t: activate_after(t, known, version, f"d{version}", "ranker")

    with reopen() as store:
        first = write(store, activating(NOTHING, 4), "")
        with pytest.raises(ActivationConflict):
            write(store, activating(NOTHING, 5), "")
        assert first == Activation(4, 1, 0, "d4")
        second = write(store, activating(first, 3), "")
    with reopen() as store, store.view() as view:
        assert current_activation(view, "ranker") == second == Activation(3, 2, 0, "d3")
        assert view.activations("ranker") == [second, first]
        assert view.newest_epoch("ranker") == 2


def test_what_is_current_of_one_name_says_nothing_of_another(store: Store) -> None:
    epoch = write(store, begin_epoch, "")
    write(store, lambda t: activate(t, Activation(7, epoch, 10, "a")), "")
    with store.view() as view:
        assert current_activation(view, "ranker") is None
        assert (view.newest_epoch("ranker"), view.last_version_number("ranker")) == (0, 0)
    write(store, lambda t: activate_after(t, NOTHING, 1, "b", "ranker"), "")
    assert current_version(store) == Activation(7, epoch, 10, "a")


def test_vectors_are_what_was_written_last(store: Store) -> None:
    with store.view() as view:
        assert view.vectors() == Vectors(0, 0)
    write(store, lambda t: t.set_vectors(Vectors(3, 64)), "")
    with store.view() as view:
        assert view.vectors() == Vectors(3, 64)


def theirs(record: Record, user: UserKey) -> Record:
    assert isinstance(record, PageRecord | FeedbackRecord)
    return msgspec.structs.replace(record, user=user)


def test_what_is_appended_once_is_counted_once(store: Store) -> None:
    user = key_of(store, ANN)
    records = [theirs(page(), user), theirs(feedback("e1"), user), theirs(feedback("e2"), user)]
    assert write(store, lambda t: t.append(records[:2])) == [True, True]
    assert write(store, lambda t: t.append(records)) == [False, False, True]
    with store.view() as view:
        assert view.totals() == count(records)
        assert view.totals()[Total("feedback_events", "dwell")] == 2


def test_a_page_is_found_by_the_beginning_of_its_id_also_before_the_commit(store: Store) -> None:
    user = key_of(store, ANN)
    ids = ["ab1", "ab2", "abc", "b"]
    pages = [msgspec.structs.replace(page(i), page_id=PageId(i), user=user) for i in ids]

    def work(transaction: Transaction) -> list[PageRecord | None]:
        transaction.append(pages[2:])
        return [transaction.find_page(user, beginning) for beginning in ("ab", "b", "c")]

    write(store, lambda t: t.append(pages[:2]))
    assert write(store, work) == [pages[0], pages[3], None]
    with store.view(ANN) as view:
        assert view.find_page(user, "abc") == pages[2]
        assert view.pages([PageId("abc")]) == {"abc": pages[2]}
        assert view.pages([PageId("a")]) == {}
    with store.view() as view:
        assert view.pages([PageId("b"), PageId("c"), PageId("abc")]) == {
            "b": pages[3],
            "abc": pages[2],
        }
        assert view.pages([]) == {}


def test_what_an_import_stages_is_kept_until_it_is_taken_away(reopen: Open) -> None:
    mark = ImportMark("run", 5)
    with reopen() as store:
        user = register(store, ANN, Profile())
        write(store, lambda t: t.set_import_mark(mark), "")
        write(store, lambda t: t.stage("run", {ANN: b"mine"}))
        write(store, lambda t: t.stage("old", {ANN: b"theirs"}))
        write(store, lambda t: t.put_imported_views({user: b"keys"}))
    with reopen() as store:
        with store.view() as view:
            assert view.import_mark() == mark
            assert sorted(view.staged_users()) == [("old", ANN), ("run", ANN)]
            assert view.staged("run", [ANN]) == [b"mine"]
            assert view.staged("none", [ANN]) == [None]
            assert view.imported_views([user]) == [b"keys"]
        assert store.log.count() == 1, "what is staged is no part of the log"
        write(store, lambda t: t.set_import_mark(mark._replace(is_committed=True)), "")
        write(store, lambda t: t.stage("old", {ANN: None}))
        write(store, lambda t: t.put_imported_views({user: b""}))
        with store.view() as view:
            assert view.import_mark() == ImportMark("run", 5, is_committed=True)
            assert view.staged_users() == [("run", ANN)]
            assert view.imported_views([user]) == [b""]
        write(store, lambda t: t.set_import_mark(None), "")
        with store.view() as view:
            assert view.import_mark() is None


def test_work_that_raises_is_undone_and_fails_alone(store: Store) -> None:
    user = key_of(store, ANN)

    def fail(transaction: Transaction) -> None:
        transaction.append([theirs(page(), user)])
        transaction.add_user(ANN, user)
        raise LookupError("in the middle")

    writings = [store.write(work, durable=True, about=ANN) for work in (fail, fail)]
    done = store.write(lambda t: t.append([theirs(page(), user)]), durable=True, about=ANN)
    for writing in writings:
        with pytest.raises(LookupError, match="in the middle"):
            writing.result()
    assert done.result() == [True]
    assert store.log.count() == 1
    with store.view() as view:
        assert view.users() == {}


def test_nothing_is_lost_where_two_processes_write_the_same_row(reopen: Open) -> None:
    """Each transaction reads a state, adds to it and writes it: none may overwrite another's."""
    n_threads, n_each = 6, 25
    with reopen() as one, reopen() as other:
        user = register(one, ANN, Profile())

        def add(store: Store, first: int) -> None:
            for k in range(first, first + n_each):
                block = BlockRecord(user, k, (CreatorId(f"c{k}"),))

                def work(transaction: Transaction, block: BlockRecord = block) -> None:
                    transaction.append([block])
                    fold_states(transaction, [block])

                write(store, work)

        threads = [
            threading.Thread(target=add, args=((one, other)[k % 2], k * n_each))
            for k in range(n_threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.view(ANN) as view:
            state = view.user_states([user])[user]
        assert len(blocked_creators(state)) == n_threads * n_each
        assert one.log.count() == n_threads * n_each + 1


def test_a_store_that_was_closed_says_so(reopen: Open) -> None:
    with reopen() as store:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        store.write(lambda t: t.totals(), durable=True)
    with pytest.raises(RuntimeError, match="closed"), store.view() as view:
        view.totals()
