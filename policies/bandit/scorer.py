"""The kernel computes VW's predictions in numpy, and the scorer serves them with the posterior.

With `-q UA` a predicted cost is linear in weights at fixed indices, so a page costs two small sums.
Sums run in float64 by `np.einsum`, so a score has the same bits in every process. Derivation and
rejected alternatives: `docs/decisions/hybrid-bandit.md`.
"""

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from env.columns import schema
from env.columns.schema import N_ACTION, N_SHARED, action_index
from env.vocabulary import Bools, Context, Features, Float32s, Floats, Ints, Keys
from policies.bandit.item_effects import ExplorationBonus, ItemPosteriors
from policies.bandit.main_effects import MAIN_USER_COLUMNS, N_USER_COLUMNS, weights_from
from policies.explorers import AnyExplorer, explorer_args

# VW hashes a namespace by murmur3 (seed 0) of its name; a feature named by a number is that number
# further on; a pair is (first * FNV prime) xor second; the constant has a number of its own.
SHARED_HASH = 0xC1350D02
ACTION_HASH = 0x54DCF7CE
ITEM_HASH = 0x5491DFCA
PAIR_PRIME = 16_777_619
CONSTANT = 11_650_396

# An item's slot among the effects is where VW would have a weight for the feature `|I key`.

OWN_REWARDS = np.array(
    [
        action_index(column)
        for column in (schema.REWARD_MEAN, schema.REWARD_SD, schema.ITEM_EVIDENCE)
    ]
)
"""Action columns that VW does not see: with them it would learn the items' own effects too."""


@dataclass(frozen=True, slots=True)
class WeightLayout:
    """The index of each feature's weight among the 2^bits; two features may share one."""

    shared: Ints  # (N_SHARED,)
    action: Ints  # (n_action,), N_ACTION but for models of earlier schemas
    pairs: Ints  # (N_SHARED, n_action)
    constant: int
    mask: int  # 2^bits - 1

    def items(self, keys: Keys) -> Ints:
        """Return the slot of each item among the effects, shape of `keys`."""
        return ((keys + np.uint64(ITEM_HASH)) & np.uint64(self.mask)).astype(np.int64)


def make_layout(bits: int, n_action: int = N_ACTION) -> WeightLayout:
    """Return the layout of a model of 2^bits weights and n_action columns of a candidate.

    >>> make_layout(18).pairs.shape == (N_SHARED, N_ACTION)
    True
    """
    mask = (1 << bits) - 1
    shared = (SHARED_HASH + np.arange(N_SHARED, dtype=np.int64)) & mask
    action = (ACTION_HASH + np.arange(n_action, dtype=np.int64)) & mask
    pairs = (shared[:, None] * PAIR_PRIME ^ action[None, :]) & mask
    return WeightLayout(shared, action, pairs, CONSTANT & mask, mask)


def without_own_rewards(features: Features) -> Features:
    """Return the features as VW sees them: with 0, which is no feature, in `OWN_REWARDS`."""
    actions = features.actions.copy()
    actions[:, OWN_REWARDS] = 0.0
    return replace(features, actions=actions)


class Kernel:
    """A model's weights at one moment, gathered for scoring.

    Pure: the same features give the same scores, to the last bit.
    """

    def __init__(
        self,
        layout: WeightLayout,
        weights: Float32s,
        main: Floats | None = None,
        share: float = 1.0,
    ) -> None:
        """Copy the needed weights of a model.

        Args:
            weights: shape (2^bits,), VW's current weights.
            main: main effects of the columns, shape (N_USER_COLUMNS + n_action,); None: nothing.
            share: of VW's prediction that counts, in [0, 1].

        Raises:
            ValueError: the number of weights does not fit the layout.
        """
        if weights.shape != (layout.mask + 1,):
            raise ValueError(f"expected ({layout.mask + 1},) weights, got {weights.shape}")
        self.layout = layout
        self.weights = weights.copy()
        self.weights.flags.writeable = False
        self.main: Floats = _nothing(layout) if main is None else main.copy()
        self.main.flags.writeable = False
        self.share = share
        self._shared: Floats = share * weights[layout.shared].astype(np.float64)
        self._action: Floats = share * weights[layout.action].astype(np.float64)
        self._pairs: Floats = share * weights[layout.pairs].astype(np.float64)
        self._shared[MAIN_USER_COLUMNS] -= self.main[1:N_USER_COLUMNS]
        self._action -= self.main[N_USER_COLUMNS:]
        self._action[OWN_REWARDS] = 0.0
        self._pairs[:, OWN_REWARDS] = 0.0
        self._constant = share * float(weights[layout.constant]) - float(self.main[0])

    def predict(self, features: Features) -> Floats:
        """Return each candidate's predicted cost, shape (n,): VW's share less the main effects.

        A model of an earlier schema reads the columns that it knows, which come first.
        """
        shared = features.shared.astype(np.float64)
        actions = features.actions[:, : len(self._action)].astype(np.float64, order="C")
        slope = self._action + np.einsum("i,ij->j", shared, self._pairs)
        level = self._constant + np.einsum("i,i->", shared, self._shared)
        costs: Floats = np.einsum("ij,j->i", actions, slope) + level
        return costs


class _ScorerState(msgspec.Struct, frozen=True, array_like=True):
    """The part of a snapshot that a replica reads."""

    bonus: ExplorationBonus
    weights: bytes
    main: bytes
    share: float
    beliefs: bytes


class HybridBanditScorer:
    """A frozen version of a VowpalPolicy for replicas: it scores and explores without VW.

    It holds one copy of the weights and three columns of items, 4 MB at 18 bits.
    """

    def __init__(
        self,
        kernel: Kernel,
        explorer: AnyExplorer,
        version: int,
        beliefs: ItemPosteriors | None = None,
        bonus: ExplorationBonus | None = None,
    ) -> None:
        """Serve these weights with this explorer under this version.

        Args:
            beliefs: the items' posterior; None: no item was shown, so all are alike.
            bonus: the exploration bonus; None: none.
        """
        self._kernel = kernel
        self._explorer = explorer
        self._beliefs = beliefs or ItemPosteriors.unmet(kernel.layout.mask + 1)
        self._bonus = bonus or ExplorationBonus()
        self.version = version

    @property
    def name(self) -> str:
        """`vowpal@version`."""
        return f"vowpal@{self.version}"

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return each candidate's expected reward plus exploration bonus, shape (n,)."""
        expected, sd = self._judge(context.features)
        scores: Floats = expected + self._bonus.width_for(context.features.shared) * sd
        return scores

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        return self._judge(context.features)[0]

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)

    def exploring(self, explorer: AnyExplorer) -> "HybridBanditScorer":
        """Return this version with another explorer; the weights are shared."""
        return HybridBanditScorer(self._kernel, explorer, self.version, self._beliefs, self._bonus)

    def to_bytes(self) -> bytes:
        """Return everything that scores depend on: the part of a snapshot that a replica reads."""
        kernel = self._kernel
        weights, main = kernel.weights.astype("<f4").tobytes(), kernel.main.astype("<f8").tobytes()
        beliefs = self._beliefs.to_bytes()
        return msgspec.msgpack.encode(
            _ScorerState(self._bonus, weights, main, kernel.share, beliefs)
        )

    @classmethod
    def from_bytes(cls, data: bytes, explorer: AnyExplorer, version: int) -> "HybridBanditScorer":
        """Return the scorer that `to_bytes` wrote; its scores are the same to the last bit.

        Raises:
            ValueError: these are no bytes of a scorer, the number of weights is no power of two, a
                part has another length, or a number is not finite.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_ScorerState)
            if not 0.0 <= state.share <= 1.0:
                raise ValueError(f"expected a share of VW in [0, 1], got {state.share}")
            main = weights_from(state.main)
            layout, weights = _weights_from(state.weights, len(main) - N_USER_COLUMNS)
            kernel = Kernel(layout, weights, main, state.share)
            beliefs = ItemPosteriors.from_bytes(state.beliefs, kernel.layout.mask + 1)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"expected 4 * 2^bits bytes of weights and what is believed of items, got: {error}"
            ) from error
        return cls(kernel, explorer, version, beliefs, state.bonus)

    def _judge(self, features: Features) -> tuple[Floats, Floats]:
        """Return expected reward and sd of the own effect of each candidate, each (n,)."""
        mean, sd = self._beliefs.posterior(self._kernel.layout.items(features.keys))
        return mean - self._kernel.predict(features), sd


def _nothing(layout: WeightLayout) -> Floats:
    return np.zeros(N_USER_COLUMNS + len(layout.action))


def _weights_from(data: bytes, n_action: int) -> tuple[WeightLayout, Float32s]:
    n_weights = len(data) // 4
    if len(data) % 4 or n_weights < 2 or n_weights & (n_weights - 1):
        raise ValueError(f"expected 4 * 2^bits bytes of weights, got {len(data)}")
    weights = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError("expected finite weights; was the snapshot's part verified?")
    return make_layout(n_weights.bit_length() - 1, n_action), weights
