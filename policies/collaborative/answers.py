"""The window of the last answers of all users, a bounded fold of closed and of imported ones.

It is the training data of the item factors: who answered which item, and how it was taken. The
learner folds it beside the policy and resumes it from its snapshot. Memory is that of the window,
17 bytes an answer. Rejected alternatives: `docs/decisions/collaborative.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from env.history import indices_of, past_views
from env.records import HistoryRecord, item_key
from env.users.answers import NO_INTERESTS, STEP, Interests, quantise_value, value_of
from env.vocabulary import Correction, Floats, Interaction, Ints, Keys


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="answers/1"):
    size: int
    n_folded: int
    users: bytes  # uint64, oldest first, as all of these
    items: bytes  # uint64
    values: bytes  # int8


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers in the order of the log, one of each user and item."""

    users: Ints  # (n,) number of each answer's user, from 0
    items: Ints  # (n,) number of its item, an index of `keys`
    values: Floats  # (n,) see `env.users.answers.value_of`
    keys: Keys  # (m,) ascending keys of the items
    n_users: int


class AnswerWindow:
    """The last `size` answers of the log."""

    def __init__(self, size: int, interests: Interests = NO_INTERESTS) -> None:
        """Start before the first answer.

        Args:
            size: answers kept, at least 1.
            interests: of signals, where they are not as shipped.

        Raises:
            ValueError: size is below 1.
        """
        if size < 1:
            raise ValueError(f"expected a window of at least 1 answer, got {size}")
        self.size = size
        self.n_folded = 0
        self._interests = interests
        self._users = np.zeros(size, dtype=np.uint64)
        self._items = np.zeros(size, dtype=np.uint64)
        self._values = np.zeros(size, dtype=np.int8)

    def __len__(self) -> int:
        """Return the number of answers in the window."""
        return min(self.n_folded, self.size)

    def fold(self, interactions: Iterable[Interaction]) -> None:
        """Add closed interactions; their dwell must be known."""
        for each in interactions:
            value = value_of(each.feedback, each.duration_s, self._interests)
            self.put(item_key(each.user), each.item_key, value)

    def correct(self, correction: Correction) -> None:
        """Add a changed answer anew: of a user and item the last one counts."""
        before, after = correction.before, correction.after
        old = quantise_value(value_of(before.feedback, before.duration_s, self._interests))
        new = quantise_value(value_of(after.feedback, after.duration_s, self._interests))
        if new != old or not correction.before.feedback.left:
            self.fold((after,))

    def fold_history(self, record: HistoryRecord) -> None:
        """Add the views of an imported history that say how a known item was taken."""
        user = item_key(record.user)
        keys = [item_key(card.item_id) for card in record.cards]
        for index, view in zip(indices_of(record).tolist(), past_views(record), strict=True):
            if view.is_known and len(view.reports) > 1:  # more than that it was on screen
                value = value_of(view.feedback, view.card.duration_s, self._interests)
                self.put(user, keys[index], value)

    def put(self, user: int, item: int, value: float) -> None:
        """Add an answer by the keys of its user and item."""
        place = self.n_folded % self.size
        self._users[place] = user
        self._items[place] = item
        self._values[place] = quantise_value(value)
        self.n_folded += 1

    def copy(self) -> "AnswerWindow":
        """Return a copy that further answers do not move."""
        other = AnswerWindow(self.size, self._interests)
        other.n_folded = self.n_folded
        other._users, other._items = self._users.copy(), self._items.copy()
        other._values = self._values.copy()
        return other

    def answers(self, per_user: int) -> Answers:
        """Return the last answer of each user to each item, at most `per_user` of each user."""
        order = self._order()
        users, items, values = self._users[order], self._items[order], self._values[order]
        last = _last_of_pairs(users, items)
        users, items, values = users[last], items[last], values[last]
        late = _is_late(users, per_user)
        keys, number = np.unique(items[late], return_inverse=True)
        ids, who = np.unique(users[late], return_inverse=True)
        return Answers(who, number, values[late].astype(np.float64) * STEP, keys, len(ids))

    def to_bytes(self) -> bytes:
        """Return the window; the same answers give the same bytes, however often interrupted."""
        order = self._order()
        return msgspec.msgpack.encode(
            _Stored(
                self.size,
                self.n_folded,
                self._users[order].astype("<u8").tobytes(),
                self._items[order].astype("<u8").tobytes(),
                self._values[order].tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, size: int, interests: Interests = NO_INTERESTS) -> Self:
        """Return the window that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no window of this size.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no window of answers: {error}") from error
        n = min(stored.n_folded, size)
        lengths = len(stored.users), len(stored.items), len(stored.values)
        if stored.size != size or lengths != (8 * n, 8 * n, n):
            raise ValueError(f"expected a window of {size} answers, got another")
        window = cls(size, interests)
        window.n_folded = stored.n_folded
        order = window._order()
        window._users[order] = np.frombuffer(stored.users, dtype="<u8")
        window._items[order] = np.frombuffer(stored.items, dtype="<u8")
        window._values[order] = np.frombuffer(stored.values, dtype="i1")
        return window

    def _order(self) -> Ints:
        """Return the places in use, oldest first."""
        n = len(self)
        return np.arange(self.n_folded - n, self.n_folded) % self.size


def _last_of_pairs(users: Keys, items: Keys) -> Ints:
    """Return the places, ascending, of the last answer of each user to each item."""
    order = np.lexsort((items, users))  # stable: equal pairs stay in the order of the log
    who, what = users[order], items[order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = (who[1:] != who[:-1]) | (what[1:] != what[:-1])
    return np.sort(order[is_last])


def _is_late(users: Keys, per_user: int) -> Ints:
    """Return the places, ascending, of each user's last `per_user` answers."""
    order = np.argsort(users, kind="stable")
    who = users[order]
    ends = np.searchsorted(who, who, side="right")
    return np.sort(order[ends - np.arange(len(who)) <= per_user])
