"""The users that the background learns from: a sample of those registered, read from the store."""

from collections.abc import Iterator

from env.users.state import UserState
from policies.collaborative.users import UserColumns
from serve.store.store import Store

MAX_USERS = 8_192
"""Users that are looked at, always the same ones; more would say little more about anybody else."""

_BATCH = 256
"""Users read in one view, so that no view is held for long."""


def read_users(store: Store, limit: int = MAX_USERS) -> UserColumns:
    """Return what is learned from the users registered now.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    return UserColumns.of(_states(store, limit))


def _states(store: Store, limit: int) -> Iterator[UserState]:
    with store.view() as view:
        keys = view.user_keys(limit)
    for first in range(0, len(keys), _BATCH):
        batch = keys[first : first + _BATCH]
        with store.view() as view:
            states = view.user_states(batch)
        yield from (states[key] for key in batch if key in states)
