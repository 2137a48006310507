"""The matched baseline: the reward expected of an ordinary item for this user and position.

It is a ridge regression on the user, the position and how well the card matches the user, never on
the item's identity, popularity or content. The reward beyond it is an item's uplift, so an upload
shown to easily pleased users is no better for it. Model, control column and rejected alternatives:
`docs/decisions/matched-baseline.md`.
"""

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from env.columns import schema
from env.columns.schema import ACTION_COLUMNS, SHARED_COLUMNS, Column
from env.vocabulary import Floats, Interaction

PERSON_COLUMNS = (
    schema.HOUR_SIN,
    schema.HOUR_COS,
    schema.POSITION,
    schema.EVIDENCE,
    schema.SWIPE_SPEED,
    schema.PLAY_RATE,
    schema.SESSION_PLAY_RATE,
)

MATCH_COLUMNS = (
    schema.LONG_MATCH,
    schema.SESSION_MATCH,
    schema.CREATOR_AFFINITY,
    schema.FOLLOWED,
    schema.TAG_AFFINITY,
    schema.SAME_COUNTRY,
    schema.SAME_LANGUAGE,
)

CONTROL_COLUMNS = (schema.REWARD_MEAN,)
N_COLUMNS = 1 + len(PERSON_COLUMNS) + len(MATCH_COLUMNS)
_N_FITTED = N_COLUMNS + len(CONTROL_COLUMNS)
_SOLVE_EVERY = 256
_RIDGE = 1.0
_RIDGE_OF_INTERCEPT = 0.01


def _layout(columns: Sequence[Column], chosen: Sequence[Column]) -> struct.Struct:
    return struct.Struct("<" + "".join("e" if column in chosen else "2x" for column in columns))


_PERSON = _layout(SHARED_COLUMNS, PERSON_COLUMNS)
_MATCH = _layout(ACTION_COLUMNS, MATCH_COLUMNS)
_CONTROL = _layout(ACTION_COLUMNS, CONTROL_COLUMNS)
_NO_CONTROL = (0.0,) * len(CONTROL_COLUMNS)
_NO_PERSON = (0.0,) * len(PERSON_COLUMNS)
_NO_MATCH = (0.0,) * len(MATCH_COLUMNS)


class MatchedBaseline:
    """The regression; a deterministic fold, unaffected by restarts."""

    def __init__(self) -> None:
        self._moments = np.zeros((_N_FITTED + 1, _N_FITTED + 1))  # of the columns and the reward
        self._weights = [0.0] * N_COLUMNS
        self._waiting: list[tuple[float, ...]] = []
        self._n = 0

    def __len__(self) -> int:
        """Return the number of interactions folded."""
        return self._n

    def expect(self, interaction: Interaction) -> float:
        """Return the reward expected of an ordinary item in this interaction's place."""
        columns = _columns(interaction)
        return sum(w * x for w, x in zip(self._weights, columns, strict=True))

    def fold(self, interaction: Interaction) -> None:
        """Learn from an interaction whose reward is known."""
        controls = _controls(interaction)
        self._waiting.append((*_columns(interaction), *controls, interaction.reward))
        self._n += 1
        if len(self._waiting) == _SOLVE_EVERY or self._n & (self._n - 1) == 0:
            self._solve()

    def correct(self, interaction: Interaction, difference: float) -> None:
        """Add to the reward of an interaction that was folded; its new reward is in it."""
        columns = np.array([*_columns(interaction), *_controls(interaction)])
        self._moments[:-1, -1] += difference * columns
        self._moments[-1, :-1] += difference * columns
        self._moments[-1, -1] += difference * (2.0 * interaction.reward - difference)

    def to_bytes(self) -> bytes:
        """Return the state; the same interactions give the same bytes."""
        waiting = np.array(self._waiting, dtype="<f8").tobytes()
        moments = self._moments.astype("<f8").tobytes()
        return msgspec.msgpack.encode(_Stored(self._n, moments, tuple(self._weights), waiting))

    @classmethod
    def from_bytes(cls, data: bytes) -> "MatchedBaseline":
        """Return the regression that `to_bytes` wrote.

        Raises:
            msgspec.DecodeError: the bytes are no state.
            ValueError: it has other columns.
        """
        stored = msgspec.msgpack.decode(data, type=_Stored)
        baseline = cls()
        baseline._n, baseline._weights = stored.n, list(stored.weights)
        baseline._moments = _read(stored.moments)
        baseline._waiting = [tuple(row) for row in _read(stored.waiting).tolist()]
        if len(stored.weights) != N_COLUMNS or len(baseline._moments) != _N_FITTED + 1:
            raise ValueError(
                f"expected a baseline of {N_COLUMNS} columns, got {len(stored.weights)}"
            )
        return baseline

    def _solve(self) -> None:
        # Not a BLAS product: its rounding depends on the number of threads.
        rows = np.array(self._waiting)
        self._moments += np.einsum("ni,nj->ij", rows, rows)
        self._waiting.clear()
        prior = np.full(_N_FITTED, _RIDGE)
        prior[0] = _RIDGE_OF_INTERCEPT
        precision = self._moments[:-1, :-1] + np.diag(prior)
        fitted = np.linalg.solve(precision, self._moments[:-1, -1])
        # An ordinary item has the average control values of all cards.
        usual = self._moments[0, N_COLUMNS:-1] / self._moments[0, 0]
        fitted[0] += float(np.sum(fitted[N_COLUMNS:] * usual))
        self._weights = fitted[:N_COLUMNS].tolist()


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="matched/2"):
    n: int
    moments: bytes
    weights: tuple[float, ...]
    waiting: bytes


def _columns(interaction: Interaction) -> tuple[float, ...]:
    """Return the intercept and the columns; columns missing from an interaction are 0."""
    shared, action = interaction.shared, interaction.action
    user = _PERSON.unpack(shared) if len(shared) == _PERSON.size else _NO_PERSON
    match = _MATCH.unpack(action) if len(action) == _MATCH.size else _NO_MATCH
    return (1.0, *user, *match)


def _controls(interaction: Interaction) -> tuple[float, ...]:
    """Return the control columns; 0 where missing from an interaction."""
    action = interaction.action
    return _CONTROL.unpack(action) if len(action) == _CONTROL.size else _NO_CONTROL


def _read(data: bytes) -> Floats:
    return np.frombuffer(data, dtype="<f8").reshape(-1, _N_FITTED + 1).astype(np.float64)
