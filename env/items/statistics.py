"""Item statistics: a fold that keeps each item's counts, reward posterior and popularity.

An item's mean reward has a Gaussian posterior with a prior that all items share. It is an
association with the users it was shown to, not a causal effect. Popularity is a count of valid
plays with a half-life of 24 h, kept by forward decay. Formulas and rejected alternatives:
`docs/decisions/item-statistics.md`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import msgspec
import numpy as np

from env.arrays.growing import grown, with_room
from env.history import past_views
from env.items.catalogue import Catalogue
from env.items.popularity import PRIOR_PLAYS, Popular, Popularity, Segments
from env.records import HistoryRecord
from env.reward import Reward, is_censored, is_long_view, is_valid_play
from env.vocabulary import Correction, Feedback, Floats, Interaction, Ints, ItemId, Scene


class Places:
    """Row of a fold by catalogue index."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._row_of = np.zeros(0, dtype=np.int64)
        self._n_placed = 0

    def of(self, catalogue: Catalogue, rows: Mapping[ItemId, int]) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none.

        In `rows` new items come last, and `move` was called for rows that changed.
        """
        if catalogue is not self._catalogue:
            self._catalogue, self._n_placed = catalogue, 0
            self._row_of = np.zeros(0, dtype=np.int64)
        n, n_known = len(catalogue.debuts), len(self._row_of)
        if n > n_known:
            new_ids = catalogue.ids[n_known:n]
            self._row_of = grown(self._row_of, n)
            self._row_of[n_known:] = [rows.get(item_id, -1) for item_id in new_ids]
        if n_known == 0:  # the lookup above covered every row
            self._n_placed = len(rows)
        if self._n_placed == len(rows):
            return self._row_of
        for item_id, row in islice(rows.items(), self._n_placed, None):
            index = catalogue.index_of(item_id)
            if index is not None and index < n:  # else the next call finds it as new
                self._row_of[index] = row
        self._n_placed = len(rows)
        return self._row_of

    def move(self, item_id: ItemId, row: int) -> None:
        """Note that an item has another row."""
        index = None if self._catalogue is None else self._catalogue.index_of(item_id)
        if index is not None and index < len(self._row_of):
            self._row_of[index] = row


HALF_LIFE_MS = 24 * 3_600_000
_REBASE_HALF_LIVES = 64
_CAPACITY = 1024
_N_COLUMNS = 8
_IMPRESSIONS, _REWARDED, _VALID, _LONG, _LIKES, _SUM, _SQUARES, _POPULARITY = range(_N_COLUMNS)
"""Columns of an item; pages do not use valid plays, long views and likes."""


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prior of the items' rewards."""

    mean: float = 0.5  # of the items' mean rewards
    mean_sd: float = 0.2  # standard deviation of `mean` itself, above 0
    item_sd: float = 0.2  # spread of the items' mean rewards around it, above 0
    noise_sd: float = 0.7  # spread of one item's rewards around its mean, above 0
    noise_weight: float = 100.0  # interactions that `noise_sd` counts for, above 0


@dataclass(frozen=True)
class Aligned:
    """The item statistics as columns by catalogue index; later folds do not change it.

    Popularity is in valid plays weighted as at the landmark, the same for all items: compare it as
    it is, or multiply by `scale` for the value now.
    """

    impressions: Floats  # (n,) counts
    rewarded: Floats  # (n,) counts of the impressions whose reward is known
    reward_mean: Floats  # (n,) posterior mean of the item's mean reward
    reward_sd: Floats  # (n,) posterior standard deviation of it
    best: Ints  # (m,) indices of all that was rewarded, the highest posterior mean - sd first
    popularity: Popularity
    landmark_ms: int
    unseen_mean: float
    """`reward_mean` of an item without impressions; `unseen_sd` is its `reward_sd`."""
    unseen_sd: float

    def grown(self, n: int) -> "Aligned":
        """Return the same for n items, the further ones without impressions."""
        return replace(
            self,
            impressions=_with_last(self.impressions, n, 0.0),
            rewarded=_with_last(self.rewarded, n, 0.0),
            reward_mean=_with_last(self.reward_mean, n, self.unseen_mean),
            reward_sd=_with_last(self.reward_sd, n, self.unseen_sd),
        )

    def scale(self, now_ms: int) -> float:
        """Return the factor from popularity to valid plays weighted as at this time."""
        return math.exp2(max(-1000.0, min(64.0, (self.landmark_ms - now_ms) / HALF_LIFE_MS)))


class ItemStates:
    """The statistics of all items that had an impression."""

    def __init__(self, prior: Prior | None = None) -> None:
        self._prior = prior or Prior()
        self._clock_ms = 0
        self._landmark_ms = 0
        self._rows: dict[ItemId, int] = {}
        self._table = np.zeros((_CAPACITY, _N_COLUMNS))
        self._segments = Segments()
        self._aligned: Aligned | None = None
        self._catalogue: Catalogue | None = None
        self._places = Places()
        self._row_of: Ints = np.zeros(0, dtype=np.int64)  # by catalogue index, -1 without a state

    def __len__(self) -> int:
        """Return the number of items with statistics."""
        return len(self._rows)

    def fold(self, interaction: Interaction, counted: bool = True) -> None:
        """Count a closed interaction, in the order in which they closed.

        A censored one counts as an impression, and as a valid play if it already was one; its
        reward is unknown. One with `counted` False is no evidence (see `env.fair_start.evidence`,
        `env.fair_start.traffic`) and counts as an impression only.
        """
        self._count(
            interaction.item_id,
            interaction.feedback,
            interaction.duration_s,
            reward=interaction.reward if counted else None,
            at_ms=interaction.closed_ms,
            scene=interaction.scene,
        )

    def fold_history(self, record: HistoryRecord, reward: Reward) -> None:
        """Count the views of an imported history, each at its own time.

        They are impressions like those of pages: of the same users, with the same reward, and
        fading like them. What is unknown of a view is not counted: its reward without a dwell, the
        hour of its scene, and all of an item that the catalogue did not know.
        """
        for view in past_views(record):
            if view.is_known:
                self._count(
                    view.card.item_id,
                    view.feedback,
                    view.card.duration_s,
                    reward=reward.of(view.feedback, view.card.duration_s),
                    at_ms=view.at_ms,
                    scene=record.scene,
                )

    def _count(
        self,
        item_id: ItemId,
        feedback: Feedback,
        duration_s: float,
        *,
        reward: float | None,
        at_ms: int,
        scene: Scene,
    ) -> None:
        """Count an impression; one without a reward is no evidence of anything else."""
        self._aligned = None
        self._keep_time(at_ms)
        row, counted = self._row(item_id), reward is not None
        known = counted and not is_censored(feedback, duration_s)
        earned = reward if known and reward is not None else 0.0
        played = counted and is_valid_play(feedback.dwell_s, duration_s)
        weight = math.exp2(max((at_ms - self._landmark_ms) / HALF_LIFE_MS, -1000.0)) * played
        self._table[row] += (
            1.0,
            known,
            played,
            counted and is_long_view(feedback.dwell_s, duration_s),
            counted and feedback.like,
            earned,
            earned * earned,
            weight,
        )
        if played:
            self._segments.fold(scene, row, weight)

    def correct(self, correction: Correction) -> None:
        """Count what has become known of an interaction that counts already, as evidence.

        A play that was reported late is as old as its page.
        """
        self._aligned = None
        before, after = correction.before, correction.after
        row = self._row(after.item_id)
        changed = _figures(after) - _figures(before)
        weight = math.exp2((after.scene.at_ms - self._landmark_ms) / HALF_LIFE_MS)
        self._table[row, _REWARDED:_POPULARITY] += changed
        self._table[row, _POPULARITY] += weight * changed[_VALID - _REWARDED]
        if changed[_VALID - _REWARDED] > 0.0:
            self._segments.fold(after.scene, row, weight)

    def aligned(self, catalogue: Catalogue) -> Aligned:
        """Return the statistics by catalogue index, computed anew only after a fold.

        An upload without impressions adds a row of prior values.
        """
        if self._aligned is None or catalogue is not self._catalogue:
            self._catalogue = catalogue
            self._row_of = self._places.of(catalogue, self._rows)
            self._aligned = self._align()
        elif len(catalogue.debuts) != len(self._row_of):
            n_known = len(self._row_of)
            self._row_of = self._places.of(catalogue, self._rows)
            is_new = (self._row_of[n_known:] < 0).all()
            self._aligned = self._aligned.grown(len(self._row_of)) if is_new else self._align()
        return self._aligned

    @property
    def last_aligned(self) -> Aligned | None:
        """Last result of `aligned`, None if more was folded since; safe on any thread."""
        return self._aligned

    def to_bytes(self) -> bytes:
        """Return the state; the same stream of interactions gives the same bytes."""
        table = self._table[: len(self._rows) + 1].astype("<f8").tobytes()
        stored = _Stored(
            self._prior,
            self._clock_ms,
            self._landmark_ms,
            tuple(self._rows),
            table,
            self._segments.to_stored(),
        )
        return msgspec.msgpack.encode(stored)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ItemStates":
        """Return the statistics that `to_bytes` wrote.

        Raises:
            msgspec.DecodeError: the bytes are no state.
            ValueError: columns that belong together have different lengths.
        """
        stored = msgspec.msgpack.decode(data, type=_Stored)
        table = np.frombuffer(stored.table, dtype="<f8").reshape(-1, _N_COLUMNS)
        if len(table) != len(stored.ids) + 1:
            raise ValueError(f"expected {len(stored.ids) + 1} item states, got {len(table)}")
        states = cls(stored.prior)
        states._clock_ms, states._landmark_ms = stored.clock_ms, stored.landmark_ms
        states._rows = {item_id: row for row, item_id in enumerate(stored.ids, start=1)}
        states._table = table.astype(np.float64)
        states._segments = Segments.from_stored(stored.segments)
        return states

    def _keep_time(self, closed_ms: int) -> None:
        """Move the landmark by whole half-lives, so that weights neither overflow nor round."""
        self._clock_ms = max(self._clock_ms, closed_ms)
        since = (closed_ms - self._landmark_ms) // HALF_LIFE_MS
        if since < _REBASE_HALF_LIVES:
            return
        factor = math.exp2(-min(since, 1000))
        self._landmark_ms += since * HALF_LIFE_MS
        self._table[:, _POPULARITY] *= factor
        self._segments.fade(factor)

    def _row(self, item_id: ItemId) -> int:
        """Return the item's row; row 0 stands for all items without statistics."""
        row = self._rows.setdefault(item_id, len(self._rows) + 1)
        if row == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        return row

    def _align(self) -> Aligned:
        table = self._table[: len(self._rows) + 1]
        n, total, squares = table[:, _REWARDED], table[:, _SUM], table[:, _SQUARES]
        mean, sd = posterior(n, total, squares, self._prior)
        means, sds, rewarded = self._by_index(mean), self._by_index(sd), self._by_index(n)
        surely = np.where(rewarded > 0.0, means - sds, -np.inf)
        return Aligned(
            impressions=self._by_index(table[:, _IMPRESSIONS]),
            rewarded=rewarded,
            reward_mean=means,
            reward_sd=sds,
            best=np.argsort(-surely)[: np.count_nonzero(rewarded)],
            popularity=Popularity(
                Popular.of(self._by_index(table[:, _POPULARITY])),
                PRIOR_PLAYS * math.exp2((self._clock_ms - self._landmark_ms) / HALF_LIFE_MS),
                self._segments.columns(),
                self._index_of_row(len(table)),
            ),
            landmark_ms=self._landmark_ms,
            unseen_mean=float(mean[0]),
            unseen_sd=float(sd[0]),
        )

    def _by_index(self, values: Floats) -> Floats:
        """Return row values by catalogue index, row 0's for items without statistics."""
        column: Floats = with_room(len(self._row_of))
        return np.take(np.ascontiguousarray(values), self._row_of, out=column, mode="clip")

    def _index_of_row(self, n_rows: int) -> Ints:
        index = np.full(n_rows, -1, dtype=np.int64)
        with_state = np.flatnonzero(self._row_of >= 0)
        index[self._row_of[with_state]] = with_state
        return index


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    prior: Prior
    clock_ms: int
    landmark_ms: int
    ids: tuple[ItemId, ...]
    table: bytes
    segments: dict[str, tuple[bytes, bytes]]


def _figures(counted: Interaction) -> Floats:
    """Return what an interaction adds to the columns from `_REWARDED` to `_SQUARES`."""
    dwell_s, duration_s = counted.feedback.dwell_s, counted.duration_s
    known = not is_censored(counted.feedback, duration_s)
    reward = counted.reward if known else 0.0
    played, long = is_valid_play(dwell_s, duration_s), is_long_view(dwell_s, duration_s)
    return np.array([known, played, long, counted.feedback.like, reward, reward * reward])


def _with_last(column: Floats, n: int, value: float) -> Floats:
    longer = grown(column, n)
    longer[len(column) :] = value
    return longer


def posterior(n: Floats, total: Floats, squares: Floats, prior: Prior) -> tuple[Floats, Floats]:
    """Return posterior mean and sd of each item's mean reward; the prior's without evidence.

    The normal one-way random effects model (Gelman et al., "Bayesian Data Analysis", 3rd ed.,
    section 5.4) with item_sd given, the noise pooled within items, and the common mean at its
    posterior mean. `n`, `total` and `squares` are counts, sums and sums of squares of rewards.
    """
    means = total / np.maximum(n, 1.0)
    within = float(np.maximum(squares - total * means, 0.0).sum())
    freedom = float(np.maximum(n - 1.0, 0.0).sum())
    noise_var = (prior.noise_weight * prior.noise_sd**2 + within) / (prior.noise_weight + freedom)
    item_var = prior.item_sd**2
    weights = n / (n * item_var + noise_var)
    common = (prior.mean / prior.mean_sd**2 + float(weights @ means)) / (
        1.0 / prior.mean_sd**2 + float(weights.sum())
    )
    precision = 1.0 / item_var + n / noise_var
    return (common / item_var + total / noise_var) / precision, 1.0 / np.sqrt(precision)
