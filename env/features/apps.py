"""Learned coordinates of users' devices: which apps, models and systems go together.

Users of like devices have like coordinates, and unrelated ones are at right angles, however many
apps each has. They are learned from all profiles in the background (`policies.collaborative.apps`)
and are the columns `app0` and following. Derivation and rejected alternatives:
`docs/decisions/cohorts.md`.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import msgspec
import numpy as np

from env.columns.schema import N_APPS
from env.users.devices import device_keys
from env.vocabulary import Float32s, Floats, Keys, Profile

LEAST_LENGTH = 0.2
"""Share of a list that the coordinates must explain for unit length; below, they are shorter."""


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="apps/1"):
    keys: bytes  # uint64
    weights: bytes  # float32
    coordinates: bytes  # float32, N_APPS a key


@dataclass(frozen=True, slots=True, eq=False)
class AppSpace:
    """The coordinates of one generation; any number of threads may read them.

    Attributes:
        keys: shape (m,), ascending `env.users.devices.device_keys` of the names that are known.
        weights: shape (m,), how much a name says: ln(users / users who have it), above 0.
        coordinates: shape (m, N_APPS), those of each name, times its weight.
    """

    keys: Keys
    weights: Floats
    coordinates: Float32s
    _rows: dict[int, int] = field(repr=False)
    _table: Float32s = field(repr=False)  # (m, N_APPS + 1), the last column the squared weights

    @classmethod
    def of(cls, keys: Keys, weights: Floats, coordinates: Float32s) -> Self:
        """Return the coordinates of these names.

        Raises:
            ValueError: the shapes do not fit, keys are not ascending, or a number is not finite.
        """
        m = len(keys)
        if weights.shape != (m,) or coordinates.shape != (m, N_APPS):
            raise ValueError(
                f"expected ({m},) weights and ({m}, {N_APPS}) coordinates, got {weights.shape} and "
                f"{coordinates.shape}"
            )
        if np.any(keys[1:] <= keys[:-1]):
            raise ValueError("expected ascending and distinct keys")
        if not (np.isfinite(weights).all() and np.isfinite(coordinates).all()):
            raise ValueError("expected finite weights and coordinates")
        table = np.concatenate([coordinates, weights[:, None] ** 2], axis=1).astype(np.float32)
        rows = {key: row for row, key in enumerate(keys.tolist())}
        return cls(keys, weights, coordinates, rows, table)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the coordinates that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no coordinates.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no coordinates of apps: {error}") from error
        return cls.of(
            np.frombuffer(stored.keys, dtype="<u8").astype(np.uint64),
            np.frombuffer(stored.weights, dtype="<f4").astype(np.float64),
            np.frombuffer(stored.coordinates, dtype="<f4").astype(np.float32).reshape(-1, N_APPS),
        )

    def to_bytes(self) -> bytes:
        """Return the coordinates as bytes; equal ones give equal bytes."""
        return msgspec.msgpack.encode(
            _Stored(
                self.keys.astype("<u8").tobytes(),
                self.weights.astype("<f4").tobytes(),
                self.coordinates.astype("<f4").tobytes(),
            )
        )

    def __len__(self) -> int:
        """Return the number of names that are known."""
        return len(self.keys)

    def read(self, profile: Profile) -> list[float]:
        """Return the coordinates of a user's device, N_APPS numbers of length 1 at most.

        They are the projection of the list's weights, at unit length, on the directions learned,
        brought to unit length again. A name that is not known changes nothing, and a list of such
        names is all 0.
        """
        if not self._rows:
            return _NOWHERE
        rows = [row for key in device_keys(profile) if (row := self._rows.get(key)) is not None]
        if not rows:
            return _NOWHERE
        *summed, squares = self._table.take(rows, axis=0).sum(axis=0).tolist()
        length = math.sqrt(math.fsum(each * each for each in summed))
        scale = 1.0 / max(length, LEAST_LENGTH * math.sqrt(squares))
        return [each * scale for each in summed]


_NOWHERE = [0.0] * N_APPS

NO_APPS = AppSpace.of(
    np.zeros(0, dtype=np.uint64), np.zeros(0), np.zeros((0, N_APPS), dtype=np.float32)
)
"""The coordinates before the first generation: all users are at 0."""
