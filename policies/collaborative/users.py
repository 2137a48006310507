"""Columns of many users to learn from: their devices, interests and recent tags.

They are read from users' states, so a forgotten user is in none of them. Rejected alternatives:
`docs/decisions/cohorts.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from env.arrays.vectors import padded
from env.columns.schema import CONTENT_DIM
from env.users.devices import device_keys
from env.users.interests import NO_INTEREST, read_interest, tally_columns
from env.users.state import UserState
from env.vocabulary import Float32s, Floats, Ints, Keys

MAX_NAMES = 64
"""Names of a user's apps, OS and model that are learned from: the first by their hash."""

LEAST_USERS = 5
"""Users who must share a name, a tag or a cohort, so that it is of nobody in particular."""


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """The names of n users' apps, systems and models, in the order of the users."""

    users: Ints  # (k,) number of each name's user, ascending
    names: Ints  # (k,) number of the name, an index of `keys`
    keys: Keys  # (m,) ascending
    n_users: int  # those who have any name

    @classmethod
    def of(cls, lists: Iterable[list[int]]) -> Self:
        """Return the lists of users; empty ones are left out."""
        kept = [sorted(keys)[:MAX_NAMES] for keys in lists if keys]
        users = np.repeat(np.arange(len(kept)), [len(keys) for keys in kept])
        flat = np.array([key for keys in kept for key in keys], dtype=np.uint64)
        keys, names = np.unique(flat, return_inverse=True)
        return cls(users, names, keys, len(kept))


@dataclass(frozen=True, slots=True, eq=False)
class Behaviours:
    """The interests of n users, and what they played of late."""

    interests: Float32s  # (n, d) lasting interests, without the prior of the registration
    evidence: Floats  # (n,) decayed count of answered cards
    plays: Floats  # (n,) decayed count of valid plays among them
    tag_users: Ints  # (k,) number of each tag's user
    tags: Ints  # (k,) number of the tag, an index of `tag_names`
    tag_shares: Floats  # (k,) share of the tag in the user's signals above 0
    tag_names: tuple[str, ...]  # ascending
    countries: tuple[str, ...]  # (n,)
    languages: tuple[str, ...]  # (n,)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    interest: Float32s
    evidence: float
    plays: float
    tags: dict[str, float]
    country: str
    language: str

    @classmethod
    def of(cls, state: UserState) -> "_Row":
        profile = state.profile
        return cls(
            padded(read_interest(state.long_sum, state.evidence), CONTENT_DIM),
            state.evidence,
            state.plays,
            _shares(state),
            profile.country.strip().upper(),
            profile.language,
        )


def _behaviours(rows: list[_Row]) -> Behaviours:
    names = sorted({name for row in rows for name in row.tags})
    number = {name: k for k, name in enumerate(names)}
    tags = [number[name] for row in rows for name in row.tags]
    shares = [share for row in rows for share in row.tags.values()]
    interests = [row.interest for row in rows] or [np.zeros((0, 0), dtype=np.float32)]
    return Behaviours(
        np.vstack(interests),
        np.array([row.evidence for row in rows], dtype=np.float64),
        np.array([row.plays for row in rows], dtype=np.float64),
        np.repeat(np.arange(len(rows)), [len(row.tags) for row in rows]),
        np.array(tags, dtype=np.int64),
        np.array(shares, dtype=np.float64),
        tuple(names),
        tuple(row.country for row in rows),
        tuple(row.language for row in rows),
    )


def _shares(state: UserState) -> dict[str, float]:
    """Return each recent tag's share of the user's signals above 0."""
    names, _, signals = tally_columns(state.tags, state.n_cards)
    liked = {n: s for n, s in zip(names, signals.tolist(), strict=True) if s > 0.0}
    total = sum(liked.values())
    return {name: signal / total for name, signal in liked.items()}


@dataclass(frozen=True, slots=True, eq=False)
class UserColumns:
    """Devices and behaviours of users, as their states have them."""

    devices: Devices
    behaviours: Behaviours

    @classmethod
    def of(cls, states: Iterable[UserState]) -> Self:
        """Return the columns of users; the order of the users is that of the states.

        The states are let go of one by one, so that a large crowd needs little memory. An interest
        in vectors of another length counts as no answer.
        """
        lists, rows = list[list[int]](), list[_Row]()
        for state in states:
            lists.append(device_keys(state.profile))
            if state.evidence > 0.0 and len(state.long_sum) == len(NO_INTEREST):
                rows.append(_Row.of(state))
        return cls(Devices.of(lists), _behaviours(rows))
