"""The fitted answer model: parameters of items and users, with their posteriors.

    a + q = (common + cohort + personal taste) · vector + item effect
            + user's lean + cohort's lean + f(duration) + intercept

A world draws effects, leans and tastes from the posterior. Its means alone would make all users
alike and every new item average.

Derivation and rejected alternatives: `docs/decisions/world-fitting.md`.
"""

from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from env.columns.schema import VECTOR_DIM
from env.vocabulary import Float32s, Floats, Ints, ItemId, UserId
from env.world.answers import Rates, log_duration


class Priors(msgspec.Struct, frozen=True):
    """Standard deviations of the random effects, in log-odds."""

    effect_sd: float = 0.5  # between items, beyond taste and duration
    lean_sd: float = 0.5  # between users of a cohort
    taste_sd: float = 0.6  # between users, of the affinity to an item of unit vector
    affinity_sd: float = 0.6  # between impressions, of the whole affinity; standardises likes


class Cohorts(msgspec.Struct, frozen=True):
    """Differences of cohorts from the mean; a cohort that is missing has none."""

    names: tuple[str, ...]
    lean: Floats  # (n_cohorts,)
    taste: Floats  # (n_cohorts, VECTOR_DIM)


class FittedItems(msgspec.Struct, frozen=True):
    """Items with impressions: posterior of each effect, and the vector it was fitted with."""

    ids: tuple[ItemId, ...]
    effect: Floats  # (n_items,)
    effect_sd: Floats  # (n_items,)
    vectors: Float32s  # (n_items, VECTOR_DIM)


class FittedPeople(msgspec.Struct, frozen=True):
    """Users with impressions, as the rows from which their posteriors are computed."""

    ids: tuple[UserId, ...]
    starts: Ints  # (n_people + 1,) a user's rows are starts[k] to starts[k + 1]
    item: Ints  # (n_rows,) index into the fitted items
    weight: Floats  # (n_rows,) > 0: p (1 - p)
    response: Floats  # (n_rows,) working response, less its impersonal part


class ResponseModel(msgspec.Struct, frozen=True):
    """Parameters of the answer model; `fitting.fit` makes it from a log, `generated` without."""

    rates: Rates
    priors: Priors
    intercept: float
    duration: tuple[float, float, float]  # of ln duration, its square, an unknown one
    taste: Floats  # (VECTOR_DIM,) common to all
    cohorts: Cohorts
    items: FittedItems
    users: FittedPeople

    def to_bytes(self) -> bytes:
        """Return the model as msgpack: same model, same bytes."""
        return msgspec.msgpack.encode(self, enc_hook=_pack_array)

    @staticmethod
    def from_bytes(data: bytes) -> "ResponseModel":
        """Undo `to_bytes`.

        Raises:
            msgspec.ValidationError: the bytes are not a response model.
        """
        return msgspec.msgpack.decode(data, type=ResponseModel, dec_hook=_unpack_array)

    def appeal(self, duration_s: Floats) -> Floats:
        """Return the appeal of an item of this duration to all users, without its own effect."""
        length = log_duration(duration_s)
        linear, square, unknown = self.duration
        return self.intercept + linear * length + square * length**2 + unknown * (duration_s <= 0.0)


@dataclass(frozen=True)
class Posteriors:
    """Posteriors of a model's items and users, with the look-ups by id."""

    model: ResponseModel

    @cached_property
    def _item_index(self) -> dict[ItemId, int]:
        return {item_id: k for k, item_id in enumerate(self.model.items.ids)}

    @cached_property
    def _user_index(self) -> dict[UserId, int]:
        return {user_id: k for k, user_id in enumerate(self.model.users.ids)}

    def item_effect(self, item_id: ItemId) -> tuple[float, float]:
        """Return mean and standard deviation of an item's effect; the prior's for a new item."""
        k = self._item_index.get(item_id)
        if k is None:
            return 0.0, self.model.priors.effect_sd
        return float(self.model.items.effect[k]), float(self.model.items.effect_sd[k])

    def user_effect(self, user_id: UserId, cohort: str) -> tuple[Floats, Floats]:
        """Return the posterior of a user's (lean, taste), cohort and common taste included.

        Returns:
            The mean, shape (1 + VECTOR_DIM,), and a square matrix L with covariance L L': mean + L
            z with standard normal z is a draw.
        """
        precision = np.diag(self._prior_precision)
        pull = np.zeros(1 + VECTOR_DIM)
        k = self._user_index.get(user_id)
        if k is not None:
            users = self.model.users
            rows = slice(users.starts[k], users.starts[k + 1])
            x = with_constant(self.model.items.vectors[users.item[rows]])
            weighted = x.T * users.weight[rows]
            precision = precision + weighted @ x
            pull = weighted @ users.response[rows]
        factor = np.linalg.inv(np.linalg.cholesky(precision)).T
        return self._shared_effect(cohort) + factor @ (factor.T @ pull), factor

    @cached_property
    def _prior_precision(self) -> Floats:
        priors = self.model.priors
        sds = np.r_[priors.lean_sd, np.full(VECTOR_DIM, priors.taste_sd)]
        return np.asarray(1.0 / sds**2, dtype=np.float64)

    def _shared_effect(self, cohort: str) -> Floats:
        cohorts = self.model.cohorts
        shared: Floats = np.r_[0.0, self.model.taste]
        if cohort in cohorts.names:
            k = cohorts.names.index(cohort)
            shared = shared + np.r_[cohorts.lean[k], cohorts.taste[k]]
        return shared


def generated() -> ResponseModel:
    """Return the model of a world without an import.

    About .46 of its cards are valid plays and .33 long views, as in KuaiRand-Pure, and medium
    durations engage best.
    """
    none = np.zeros(0)
    return ResponseModel(
        rates=Rates(),
        priors=Priors(),
        intercept=0.0,
        duration=(0.1, -0.05, -0.1),
        taste=np.zeros(VECTOR_DIM),
        cohorts=Cohorts((), none, np.zeros((0, VECTOR_DIM))),
        items=FittedItems((), none, none, np.zeros((0, VECTOR_DIM), dtype=np.float32)),
        users=FittedPeople(
            (), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), none, none
        ),
    )


def with_constant(vectors: Float32s) -> Floats:
    """Return rows (1, vector): the design of a lean and a taste."""
    return np.column_stack([np.ones(len(vectors)), vectors.astype(np.float64)])


def _pack_array(value: object) -> object:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    raise NotImplementedError(f"cannot write {type(value).__name__} into a response model")


def _unpack_array(kind: type, value: object) -> object:
    """Return the array that was packed; msgspec turns a ValueError here into its own error."""
    dtype, shape, data = msgspec.convert(value, tuple[str, tuple[int, ...], bytes])
    if dtype not in ("<f8", "<f4", "<i8"):
        raise ValueError(f"expected an array of <f8, <f4 or <i8, got {dtype!r}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)
