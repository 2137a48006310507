"""Imports of users and their histories: staged aside, committed in one step, then rolled forward.

A staged row is no part of the log. The commit is one row, the mark, so an import killed before it
has imported nothing, and one killed after it is finished by whoever opens the store next. Writes
are short, so a server goes on beside them. The steps on several shards, and why it is not one
transaction: `docs/decisions/history-import.md`.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from env.history import claimed, times_of, view_keys, without
from env.records import HistoryRecord, UserRecord
from env.users.fold import fold
from env.users.state import UserState
from env.vocabulary import Bools, Keys, Profile, Scene, UserId, UserKey
from replay.log.shards import scatter
from replay.log.sqlite.checkpoint import locked
from serve.errors import JobError
from serve.store.ledger import WritePath
from serve.store.store import ImportMark, RegisteredUser, Store, Transaction, write_now

LOCK = "import.lock"
"""File of the data folder whose lock a running import holds."""

BATCH_USERS = 32
IN_FLIGHT = 4
"""Writes that are queued while the next ones are worked out."""

Advance = Callable[[int], None]
"""Called with the number of users staged or finished since the last call."""


class StagedUser(msgspec.Struct, frozen=True, array_like=True, tag="staged/1"):
    """A user in an import."""

    profile: Profile | None = None  # None: it says nothing of it
    records: tuple[HistoryRecord, ...] = ()  # of nobody yet


class ImportOutcome(msgspec.Struct, frozen=True):
    """Counts of an import.

    Attributes:
        new: users registered by it.
        changed: users with another profile than before.
        unchanged: users with the profile of before.
        views: imported.
        repeated: views that had been imported before.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    views: int = 0
    repeated: int = 0

    def __add__(self, other: "ImportOutcome") -> "ImportOutcome":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return ImportOutcome(*(a + b for a, b in zip(mine, theirs, strict=True)))


class ImportTakenOver(JobError):  # noqa: N818  # it tells what happened, not a mistake
    """Another import has begun meanwhile; nothing of this one was imported."""


T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(StagedUser)


def begin_import(store: Store, at_ms: int) -> str:
    """Finish an import that was committed, drop any other, and return the new one's name.

    Args:
        at_ms: server time of the import.
    """
    mark = ImportMark(secrets.token_hex(8), at_ms)
    while not write_now(store, partial(_begin, mark=mark)):
        finish_import(store)
    with store.view() as view:
        left = [(run, user_id) for run, user_id in view.staged_users() if run != mark.run]
    for run in {run for run, _ in left}:
        theirs = [user_id for of, user_id in left if of == run]
        for some in _by_shard(store, theirs, 16 * BATCH_USERS):
            rows: dict[UserId, bytes | None] = dict.fromkeys(some)
            write_now(store, partial(_stage, run=run, rows=rows), about=some[0])
    return mark.run


def stage_users(
    store: Store, run: str, users: Iterable[tuple[UserId, StagedUser]], advance: Advance
) -> None:
    """Stage what an import says of users; readers of the store see nothing of it.

    Args:
        run: name of the import.
        users: each once.
        advance: told the progress.
    """
    waiting: deque[tuple[int, Future[None]]] = deque()
    for some in _batches(users, 4 * BATCH_USERS):
        shards = [store.shard_of(user_id) for user_id, _ in some]
        for part in scatter(some, shards).values():
            rows = {user_id: _encode(staged) for user_id, staged in part}
            work = partial(_stage, run=run, rows=rows)
            waiting.append((len(rows), store.write(work, durable=False, about=part[0][0])))
        while len(waiting) > IN_FLIGHT:
            _settle(waiting, advance)
    while waiting:
        _settle(waiting, advance)


def commit_import(store: Store, run: str) -> None:
    """Commit an import in one step; from here on it is finished, by this process or another.

    Raises:
        ImportTakenOver: another import has begun since.
    """
    write_now(store, partial(_commit, run=run))


def finish_import(store: Store, advance: Advance = lambda n: None) -> ImportOutcome:
    """Move the rows of a committed import into the log and the states; without one, do nothing.

    Several processes may do so at the same time: each row is moved once.

    Args:
        advance: told the progress.
    """
    mark, outcome = _read_mark(store), ImportOutcome()
    if mark is None or not mark.is_committed:
        return outcome
    with store.view() as view:
        left = sorted(user_id for run, user_id in view.staged_users() if run == mark.run)
    waiting: deque[tuple[int, Future[ImportOutcome]]] = deque()
    for some in _by_shard(store, left, BATCH_USERS):
        moves = list(_work_out_all(store, mark, some))
        keys = [move.user for move in moves]
        work = partial(_move, mark=mark, moves=moves)
        writing = store.write(work, durable=False, about=some[0], users=keys)
        waiting.append((len(some), writing))
        if len(waiting) > IN_FLIGHT:
            outcome += _settle(waiting, advance)
    while waiting:
        outcome += _settle(waiting, advance)
    write_now(store, partial(_end, mark=mark))
    return outcome


def recover_import(store: Store, folder: Path) -> None:
    """Finish an import that was committed and whose process is gone."""
    mark = _read_mark(store)
    if mark is None or not mark.is_committed:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=False) as is_ours:
        if is_ours:
            finish_import(store)


def _settle(waiting: deque[tuple[int, Future[T]]], advance: Advance) -> T:
    n, writing = waiting.popleft()
    result = writing.result()
    advance(n)
    return result


def _read_mark(store: Store) -> ImportMark | None:
    with store.view() as view:
        return view.import_mark()


def _begin(transaction: Transaction, mark: ImportMark) -> bool:
    before = transaction.import_mark()
    if before is not None and before.is_committed:
        return False
    transaction.set_import_mark(mark)
    return True


def _stage(transaction: Transaction, run: str, rows: Mapping[UserId, bytes | None]) -> None:
    transaction.stage(run, rows)


def _commit(transaction: Transaction, run: str) -> None:
    mark = transaction.import_mark()
    if mark is None or mark.run != run:
        raise ImportTakenOver("another import has begun meanwhile, nothing was imported: try again")
    transaction.set_import_mark(mark._replace(is_committed=True))


def _end(transaction: Transaction, mark: ImportMark) -> None:
    if transaction.import_mark() == mark:
        transaction.set_import_mark(None)


def _by_shard(store: Store, user_ids: Sequence[UserId], n: int) -> Iterator[Sequence[UserId]]:
    """Yield batches of at most n users of one shard each."""
    shards = [store.shard_of(user_id) for user_id in user_ids]
    for part in scatter(user_ids, shards).values():
        yield from _batches(part, n)


def _batches(things: Iterable[T], n: int) -> Iterator[list[T]]:
    left = iter(things)
    while batch := list(islice(left, n)):
        yield batch


# --- one user ---


@dataclass(frozen=True, slots=True)
class _Move:
    """The write of a staged row, given its user's state and imported views before it."""

    user_id: UserId
    user: UserKey
    before: RegisteredUser | None
    imported: bytes
    records: list[UserRecord | HistoryRecord]
    state: UserState
    imported_after: bytes
    outcome: ImportOutcome


def _work_out_all(store: Store, mark: ImportMark, user_ids: Sequence[UserId]) -> Iterator[_Move]:
    """Work out the rows of users of one shard outside of any transaction."""
    with store.view(user_ids[0]) as view:
        rows = view.staged(mark.run, user_ids)
        found = [view.user(user_id) for user_id in user_ids]
        keys = [user.user for user in found if user is not None]
        imported = dict(zip(keys, view.imported_views(keys), strict=True))
    for user_id, row, before in zip(user_ids, rows, found, strict=True):
        if row is not None:
            user = before.user if before else WritePath(store).new_user(user_id)
            known = imported.get(user, b"")
            yield _work_out(mark, user_id, user, _rows.decode(row), before, known)


def _move(transaction: Transaction, mark: ImportMark, moves: Sequence[_Move]) -> ImportOutcome:
    """Write what was worked out, anew for users who have changed since."""
    outcome = ImportOutcome()
    rows = transaction.staged(mark.run, [move.user_id for move in moves])
    imported = transaction.imported_views([move.user for move in moves])
    for planned, row, known in zip(moves, rows, imported, strict=True):
        if row is not None:  # else another process has moved it, or its user was forgotten
            move = _as_of_now(transaction, mark, planned, row, known)
            _write(transaction, mark, move)
            outcome += move.outcome
    return outcome


def _as_of_now(
    transaction: Transaction, mark: ImportMark, planned: _Move, row: bytes, known: bytes
) -> _Move:
    now = transaction.user(planned.user_id)
    if now == planned.before and known == planned.imported:
        return planned
    user = now.user if now else planned.user
    (known,) = transaction.imported_views([user])
    return _work_out(mark, planned.user_id, user, _rows.decode(row), now, known)


def _write(transaction: Transaction, mark: ImportMark, move: _Move) -> None:
    if move.before is None:
        transaction.add_user(move.user_id, move.user)
    if move.records:
        transaction.append(move.records)
        transaction.put_states({move.user: move.state})
    if move.imported_after != move.imported:
        transaction.put_imported_views({move.user: move.imported_after})
    transaction.stage(mark.run, {move.user_id: None})


def _work_out(
    mark: ImportMark,
    user_id: UserId,
    user: UserKey,
    staged: StagedUser,
    before: RegisteredUser | None,
    imported: bytes,
) -> _Move:
    """Return the records that a staged row adds for a user, and the fold of these."""
    profile = _profile(staged, before, mark.at_ms)
    state = None if before is None else before.state
    records: list[UserRecord | HistoryRecord] = []
    if before is None or profile != before.state.profile:
        records.append(UserRecord(user, mark.at_ms, user_id, profile))
    known: Keys = np.frombuffer(imported, dtype="<u8")
    n, fresh_views = 0, 0
    for record in staged.records:
        keys = view_keys(record)
        fresh = _fresh(keys, known)
        n, known = n + len(keys), np.concatenate([known, keys[fresh]])
        if fresh.any():
            records.append(claimed(without(record, fresh), user, mark.at_ms, _scene(profile)))
            fresh_views += int(fresh.sum())
    for added in records:
        state = fold(state, added)
    if state is None:
        raise RuntimeError(f"expected a state of {user}, who is registered")
    outcome = ImportOutcome(
        new=before is None,
        changed=before is not None and profile != before.state.profile,
        unchanged=before is not None and profile == before.state.profile,
        views=fresh_views,
        repeated=n - fresh_views,
    )
    after = known.astype("<u8").tobytes()
    return _Move(user_id, user, before, imported, records, state, after, outcome)


def _fresh(keys: Keys, known: Keys) -> Bools:
    """Return whether each view is neither known nor a repetition of an earlier one, shape (n,)."""
    fresh = np.zeros(len(keys), dtype=np.bool_)
    fresh[np.unique(keys, return_index=True)[1]] = True
    return fresh & ~np.isin(keys, known)


def _profile(staged: StagedUser, before: RegisteredUser | None, at_ms: int) -> Profile:
    """Return a user's profile after an import; a new user registered by the first view."""
    if before is not None and staged.profile is None:
        return before.state.profile
    profile = staged.profile or Profile()
    if profile.registered_ms:
        return profile
    if before is not None:
        return msgspec.structs.replace(profile, registered_ms=before.state.profile.registered_ms)
    first = min((int(times_of(record)[0]) for record in staged.records), default=at_ms)
    return msgspec.structs.replace(profile, registered_ms=min(first, at_ms))


def _scene(profile: Profile) -> Scene:
    """Return the scene of a history, as far as the user's profile says it."""
    return Scene(
        0,
        country=profile.country,
        language=profile.language,
        device=profile.device,
        cohort=profile.cohort,
        hour=-1,
    )
