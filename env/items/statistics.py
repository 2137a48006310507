"""What the log says about each item: counts, what it earns, how popular it is; a fold.

An item's reward is a Gaussian with a prior that all items share, so an item without evidence has
the prior's mean and spread and moves away from it as it is shown. It is what the item earned from
those it was shown to: an association, not the effect of showing it to anybody.

Popularity is a count of valid plays that halves every 24 h, kept by forward decay (Cormode,
Shkapenyuk, Srivastava and Xu, "Forward Decay: A Practical Time Decay Model for Streaming
Systems", ICDE 2009): an event at t weighs 2^((t - landmark) / half life) for good, so nothing is
aged by a clock, late events weigh what they should, and all items compare without rescaling. What
it is in a scene, `env.items.popularity` says.

Rejected: Beta posteriors (the reward is no coin), and decaying a row when it is read (the order
would depend on who reads when).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import msgspec
import numpy as np

from env.arrays.growing import grown, with_room
from env.items.catalogue import Catalogue
from env.items.popularity import PRIOR_PLAYS, Popular, Popularity, Segments
from env.reward import is_censored, is_long_view, is_valid_play
from env.vocabulary import Floats, Interaction, Ints, ItemId


class Places:
    """Which row of a fold belongs to which catalogue index; follows both as they grow."""

    def __init__(self) -> None:
        """Start with neither."""
        self._catalogue: Catalogue | None = None
        self._row_of = np.zeros(0, dtype=np.int64)
        self._n_placed = 0

    def of(self, catalogue: Catalogue, rows: Mapping[ItemId, int]) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none.

        Args:
            catalogue: that the indices are of; n is how many it has by now.
            rows: by item; new ones come last, and of a row that changes `move` was told.
        """
        if catalogue is not self._catalogue:
            self._catalogue, self._n_placed = catalogue, 0
            self._row_of = np.zeros(0, dtype=np.int64)
        n, n_known = len(catalogue.debuts), len(self._row_of)
        if n > n_known:
            new_ids = catalogue.ids[n_known:n]
            self._row_of = grown(self._row_of, n)
            self._row_of[n_known:] = [rows.get(item_id, -1) for item_id in new_ids]
        if n_known == 0:  # every row there is was asked for
            self._n_placed = len(rows)
        if self._n_placed == len(rows):
            return self._row_of
        for item_id, row in islice(rows.items(), self._n_placed, None):
            index = catalogue.index_of(item_id)
            if index is not None and index < n:  # else it is new next time
                self._row_of[index] = row
        self._n_placed = len(rows)
        return self._row_of

    def move(self, item_id: ItemId, row: int) -> None:
        """Learn that an item has another row."""
        index = None if self._catalogue is None else self._catalogue.index_of(item_id)
        if index is not None and index < len(self._row_of):
            self._row_of[index] = row


HALF_LIFE_MS = 24 * 3_600_000

_REBASE_HALF_LIVES = 64

_CAPACITY = 1024

_N_COLUMNS = 8

_IMPRESSIONS, _REWARDED, _VALID, _LONG, _LIKES, _SUM, _SQUARES, _POPULARITY = range(_N_COLUMNS)
"""Of each item; valid plays, long views and likes are kept in the state, and no page needs them."""


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is believed of rewards before there are any.

    Attributes:
        mean: of the items' mean rewards.
        mean_sd: how far off that may be, above 0.
        item_sd: spread of the items' mean rewards around it, above 0.
        noise_sd: spread of one item's rewards around its mean, above 0.
        noise_weight: interactions that `noise_sd` counts for, above 0.
    """

    mean: float = 0.5
    mean_sd: float = 0.2
    item_sd: float = 0.2
    noise_sd: float = 0.7
    noise_weight: float = 100.0


@dataclass(frozen=True)
class Aligned:
    """The item states as columns by catalogue index; later folds do not move it.

    Popularity is in valid plays as they weigh at the landmark, the same for all items: compare
    it as it is, or multiply by `scale` to have it as of now.
    """

    impressions: Floats  # (n,) counts
    rewarded: Floats  # (n,) counts of the impressions whose reward is known
    reward_mean: Floats  # (n,) posterior mean of the item's mean reward
    reward_sd: Floats  # (n,) posterior standard deviation of it
    best: Ints  # (m,) indices of all that was rewarded, the highest posterior mean - sd first
    popularity: Popularity
    landmark_ms: int
    unseen_mean: float
    """`reward_mean` of an item that nobody has seen; `unseen_sd` is its `reward_sd`."""
    unseen_sd: float

    def grown(self, n: int) -> "Aligned":
        """Return the same for n items, the further ones unseen."""
        return replace(
            self,
            impressions=_with_last(self.impressions, n, 0.0),
            rewarded=_with_last(self.rewarded, n, 0.0),
            reward_mean=_with_last(self.reward_mean, n, self.unseen_mean),
            reward_sd=_with_last(self.reward_sd, n, self.unseen_sd),
        )

    def scale(self, now_ms: int) -> float:
        """Return what turns popularity into valid plays as they weigh at this time."""
        return math.exp2(max(-1000.0, min(64.0, (self.landmark_ms - now_ms) / HALF_LIFE_MS)))


class ItemStates:
    """The states of all items that anybody ever saw."""

    def __init__(self, prior: Prior | None = None) -> None:
        """Start without evidence."""
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
        """Return how many items have a state."""
        return len(self._rows)

    def fold(self, interaction: Interaction, counted: bool = True) -> None:
        """Count a closed interaction.

        A censored one counts as an impression, and as a valid play if it already was one; its
        reward is not known.

        Args:
            interaction: in the order in which they closed.
            counted: False for one that is no evidence (`env.fair_start.evidence` and
                `env.fair_start.traffic` say which): it is an impression and nothing else.
        """
        self._aligned = None
        self._keep_time(interaction.closed_ms)
        row = self._row(interaction.item_id)
        dwell_s, duration_s = interaction.feedback.dwell_s, interaction.duration_s
        known = counted and not is_censored(interaction.feedback, duration_s)
        reward = interaction.reward if known else 0.0
        played = counted and is_valid_play(dwell_s, duration_s)
        weight = math.exp2((interaction.closed_ms - self._landmark_ms) / HALF_LIFE_MS) * played
        self._table[row] += (
            1.0,
            known,
            played,
            counted and is_long_view(dwell_s, duration_s),
            counted and interaction.feedback.like,
            reward,
            reward * reward,
            weight,
        )
        if played:
            self._segments.fold(interaction.scene, row, weight)

    def aligned(self, catalogue: Catalogue) -> Aligned:
        """Return the states by catalogue index; made anew only after a fold.

        An upload that nobody has seen yet adds a row of what is believed of all.
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
        """What `aligned` returned last, unless more was folded since; any thread may look."""
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
        """Return the states that `to_bytes` wrote.

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
        """Move the landmark by whole powers of two, so that weights neither overflow nor round."""
        self._clock_ms = max(self._clock_ms, closed_ms)
        since = (closed_ms - self._landmark_ms) // HALF_LIFE_MS
        if since < _REBASE_HALF_LIVES:
            return
        factor = math.exp2(-min(since, 1000))
        self._landmark_ms += since * HALF_LIFE_MS
        self._table[:, _POPULARITY] *= factor
        self._segments.fade(factor)

    def _row(self, item_id: ItemId) -> int:
        """Return the item's row; row 0 is that of all items without a state."""
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
        """Return the values of rows by catalogue index; without a state it is row 0's."""
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


def _with_last(column: Floats, n: int, value: float) -> Floats:
    longer = grown(column, n)
    longer[len(column) :] = value
    return longer


def posterior(n: Floats, total: Floats, squares: Floats, prior: Prior) -> tuple[Floats, Floats]:
    """Return posterior mean and sd of each item's mean reward; without evidence: the prior.

    The normal one-way random effects model (Gelman et al., "Bayesian Data Analysis", 3rd ed.,
    section 5.4) with item_sd given, the noise pooled within items, and the common mean at its
    posterior mean.

    Args:
        n: counts of rewards, by item.
        total: sums of them.
        squares: sums of their squares.
        prior: what all items share.
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
