"""The layout maps an environment's observation to one user and K candidate rows.

    dict    user (n, U), item (n, K, F), personal (n, K, P), mask (n, K)
    flat    user | items (K * F) | personal (K * P), one row a user, no mask
    fixed   user (n, U) alone: the candidates are always the same K one-hot rows

A candidate's row is its columns of `item` followed by those of `personal`. Rejected alternatives:
`docs/decisions/ranker-network.md`.
"""

from typing import Any

import msgspec
import numpy as np

from env.vocabulary import Bools, Float32s

LEAST_SD = 1e-3
"""Columns that vary less are not scaled up to vary by 1."""

_LEAST_KNOWN_SD = 0.1
_STILL_SD = 1e-6
_NOTHING = 1e-6


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Columns' shifts and the factors that follow."""

    shift: tuple[float, ...]  # one a column
    scale: tuple[float, ...]  # one a column, above 0

    def __post_init__(self) -> None:
        """Raise ValueError if the lengths differ or a number is out of range."""
        if len(self.shift) != len(self.scale):
            raise ValueError(f"expected {len(self.shift)} scales, got {len(self.scale)}")
        if not np.isfinite(self.shift).all():
            raise ValueError(f"shift must be finite, got {self.shift}")
        if not all(0.0 < scale < np.inf for scale in self.scale):
            raise ValueError(f"scale must be above 0 and finite, got {self.scale}")

    @classmethod
    def none(cls, n: int) -> "Scaling":
        """Return the scaling that leaves n columns unchanged.

        >>> Scaling.none(2)
        Scaling(shift=(0.0, 0.0), scale=(1.0, 1.0))
        """
        return cls((0.0,) * n, (1.0,) * n)

    @classmethod
    def of(cls, rows: Float32s) -> "Scaling":
        """Return the scaling of a sample (m, n) to mean 0 and, from an sd of LEAST_SD on, sd 1.

        >>> Scaling.of(np.array([[0, 5], [4, 5]], np.float32))
        Scaling(shift=(2.0, 5.0), scale=(0.5, 1.0))
        """
        mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        scale = 1.0 / np.where(sd >= LEAST_SD, sd, 1.0)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))

    @classmethod
    def of_columns(cls, rows: Float32s, *, of_feed: bool) -> "Scaling":
        """Return the scaling of a sample, the feed's by `of_known`, the world's own by `of`."""
        return cls.of_known(rows) if of_feed else cls.of(rows)

    @classmethod
    def of_known(cls, rows: Float32s) -> "Scaling":
        """Return the scaling of a sample (m, n) of feed columns, constant ones to almost 0.

        The network learns nothing from a constant column and keeps its initial weights, so a feed
        in which the column varies would be ranked at random. A column that seldom varies is not
        scaled up, since it varies by about 1 when it does.

        >>> Scaling.of_known(np.array([[0, 5], [4, 5]], np.float32))
        Scaling(shift=(2.0, 5.0), scale=(0.5, 1e-06))
        """
        mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        scale = np.where(sd > _STILL_SD, 1.0 / np.maximum(sd, _LEAST_KNOWN_SD), _NOTHING)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))


class ObservationLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of an observation."""

    n_user: int  # columns of a user
    n_candidates: int  # K
    n_item: int  # columns of `item`; K in a fixed layout
    n_personal: int = 0  # columns of `personal`
    is_fixed: bool = False  # whether the observation omits the candidates

    def __post_init__(self) -> None:
        """Raise ValueError without a user, candidate or column."""
        if min(self.n_user, self.n_candidates, self.n_item) < 1 or self.n_personal < 0:
            raise ValueError(f"expected at least one column, candidate and user, got {self}")
        if self.is_fixed and (self.n_item, self.n_personal) != (self.n_candidates, 0):
            raise ValueError(f"expected one-hot rows of {self.n_candidates} columns, got {self}")

    @classmethod
    def fixed(cls, n_user: int, n_candidates: int) -> "ObservationLayout":
        """Return the layout of a world that always offers the same candidates."""
        return cls(n_user, n_candidates, n_candidates, is_fixed=True)

    @classmethod
    def of(cls, space: Any) -> "ObservationLayout":
        """Return the layout of one user's observation in the form `dict`, a Dict of Boxes."""
        (n_user,), (k, n_item) = space["user"].shape, space["item"].shape
        n_personal = space["personal"].shape[1] if "personal" in space.keys() else 0  # noqa: SIM118
        return cls(n_user, k, n_item, n_personal)

    @property
    def n_row(self) -> int:
        """Number of columns of a candidate's row."""
        return self.n_item + self.n_personal

    @property
    def n_flat(self) -> int:
        """Number of columns of a user's flat observation."""
        return self.n_user + (0 if self.is_fixed else self.n_candidates * self.n_row)

    def cut(self, flat: Any) -> tuple[Any, list[Any]]:
        """Return the users and the blocks of the candidates, views of flat observations.

        Args:
            flat: array or tensor of shape (n, n_flat).

        Returns:
            Users (n, n_user), and blocks (n, K, columns); no blocks in a fixed layout.

        Raises:
            ValueError: the width is another one.
        """
        if flat.shape[-1] != self.n_flat:
            raise ValueError(
                f"expected observations of {self.n_flat} columns, got {flat.shape[-1]}: {self}"
            )
        user, first, blocks = flat[:, : self.n_user], self.n_user, []
        for width in () if self.is_fixed else (self.n_item, self.n_personal):
            last = first + self.n_candidates * width
            if width:
                blocks.append(flat[:, first:last].reshape(len(flat), self.n_candidates, width))
            first = last
        return user, blocks

    def arrays(self, observation: dict[str, Any] | Float32s) -> tuple[Float32s, Float32s, Bools]:
        """Return users (n, n_user), rows (n, K, n_row) and mask (n, K) of n users' observation."""
        if isinstance(observation, dict):
            user, mask = observation["user"], observation["mask"].astype(np.bool_)
            blocks = [observation["item"]]
            if self.n_personal:
                blocks.append(observation["personal"])
        else:
            user, blocks = self.cut(observation)
            mask = np.ones((len(user), self.n_candidates), dtype=np.bool_)
        if not blocks:
            one_hot = np.eye(self.n_candidates, dtype=np.float32)
            return user, np.broadcast_to(one_hot, (len(user), *one_hot.shape)), mask
        rows = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=-1)
        return user, rows, mask
