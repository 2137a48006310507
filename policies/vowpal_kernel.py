"""Scores a page from Vowpal Wabbit's weights alone: what VW itself would predict, in numpy.

With `-q UA` a predicted cost is linear in weights that stand at fixed places: one a shared column,
one an action column, one a pair of both, one constant, and one an item. So the pairs are gathered
once a model, and a page of any length costs two small sums. The indices are VW's own hashes of
`|U 0:x 1:x ..`, `|A 0:x 1:x ..` and `|I key`, so numbers and text mean the same model.

Sums run in float64 and by `np.einsum`, not BLAS: a BLAS product depends on how many threads the
process was given and on how many rows come with a row, while here a candidate's score is the same
bits alone, in any company, and in the process that folds the log again to verify propensities.
VW adds in float32, so it differs from this kernel by its own rounding (see the test).

Rejected: `Workspace.predict_one` (240 us for 100 cached examples, and 32 KB for each of them), a
compiled loop (a compiler at run time to save some 30 us).
"""

from dataclasses import dataclass

import numpy as np

from env.features import N_ACTION, N_SHARED
from env.vocabulary import Bools, Context, Features, Float32s, Floats, Ints, Keys
from policies.explorers import AnyExplorer, explorer_args

# VW hashes a namespace by murmur3 (seed 0) of its name; a feature named by a number is that number
# further on; a pair is (first * FNV prime) xor second; the constant has a number of its own.
SHARED_HASH = 0xC1350D02
ACTION_HASH = 0x54DCF7CE
ITEM_HASH = 0x5491DFCA
PAIR_PRIME = 16_777_619
CONSTANT = 11_650_396


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each feature's weight stands among the 2^bits; two features may share a place."""

    shared: Ints  # (N_SHARED,)
    action: Ints  # (N_ACTION,)
    pairs: Ints  # (N_SHARED, N_ACTION)
    constant: int
    mask: int  # 2^bits - 1

    def items(self, keys: Keys) -> Ints:
        """Return the place of each item's own weight, shape of `keys`."""
        return ((keys + np.uint64(ITEM_HASH)) & np.uint64(self.mask)).astype(np.int64)


def make_layout(bits: int) -> Layout:
    """Return the layout of a model of 2^bits weights.

    >>> make_layout(18).pairs.shape == (N_SHARED, N_ACTION)
    True
    """
    mask = (1 << bits) - 1
    shared = (SHARED_HASH + np.arange(N_SHARED, dtype=np.int64)) & mask
    action = (ACTION_HASH + np.arange(N_ACTION, dtype=np.int64)) & mask
    pairs = (shared[:, None] * PAIR_PRIME ^ action[None, :]) & mask
    return Layout(shared, action, pairs, CONSTANT & mask, mask)


def predict_one(layout: Layout, weights: Float32s, features: Features) -> float:
    """Return the predicted cost of a page's one candidate, without gathering all pairs for good.

    For a look at weights that move with every interaction: 40 us, where making a Kernel of 2^18
    weights takes 800. For more than one page or candidate of the same weights, make a Kernel.

    Args:
        layout: of the model.
        weights: shape (2^bits,), a view of VW's current weights.
        features: of one candidate.
    """
    shared, action = features.shared.astype(np.float64), features.actions[0].astype(np.float64)
    slope = weights[layout.action] + np.einsum("i,ij->j", shared, weights[layout.pairs])
    level = weights[layout.constant] + np.einsum("i,i->", shared, weights[layout.shared])
    own = weights[layout.items(features.keys[:1])[0]]
    return float(np.einsum("i,i->", action, slope) + level + own)


class Kernel:
    """A model's weights as they were when it was made, gathered for scoring.

    Pure: same features, same scores, to the last bit.
    """

    def __init__(self, layout: Layout, weights: Float32s) -> None:
        """Copy what is needed of a model.

        Args:
            layout: of the model.
            weights: shape (2^bits,), VW's current weights.

        Raises:
            ValueError: the weights are not as many as the layout addresses.
        """
        if weights.shape != (layout.mask + 1,):
            raise ValueError(f"expected ({layout.mask + 1},) weights, got {weights.shape}")
        self._layout = layout
        self.weights = weights.copy()
        self.weights.flags.writeable = False
        self._shared: Floats = weights[layout.shared].astype(np.float64)
        self._action: Floats = weights[layout.action].astype(np.float64)
        self._pairs: Floats = weights[layout.pairs].astype(np.float64)
        self._constant = float(weights[layout.constant])

    def predict(self, features: Features) -> Floats:
        """Return VW's predicted cost of each candidate, shape (n,)."""
        shared = features.shared.astype(np.float64)
        actions = features.actions.astype(np.float64, order="C")
        slope = self._action + np.einsum("i,ij->j", shared, self._pairs)
        level = self._constant + np.einsum("i,i->", shared, self._shared)
        own = self.weights[self._layout.items(features.keys)].astype(np.float64)
        costs: Floats = np.einsum("ij,j->i", actions, slope) + level + own
        return costs


class VowpalScorer:
    """A frozen version of a VowpalPolicy: scores and explores, holds no VW, learns nothing.

    What a feed replica keeps: one copy of the weights, 1 MB at 18 bits.
    """

    def __init__(self, kernel: Kernel, explorer: AnyExplorer, version: int) -> None:
        """Serve these weights with this explorer under this version."""
        self._kernel = kernel
        self._explorer = explorer
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
        """Return the expected reward of each candidate, shape (n,)."""
        return -self._kernel.predict(context.features)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)

    def to_bytes(self) -> bytes:
        """Return the weights as little-endian float32: the part of a snapshot a replica reads."""
        return self._kernel.weights.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, explorer: AnyExplorer, version: int) -> "VowpalScorer":
        """Undo `to_bytes`; the scores are the same to the last bit.

        Raises:
            ValueError: not a power of two of weights, or one that is not finite.
        """
        n_weights = len(data) // 4
        if len(data) % 4 or n_weights < 2 or n_weights & (n_weights - 1):
            raise ValueError(f"expected 4 * 2^bits bytes of weights, got {len(data)}")
        weights = np.frombuffer(data, dtype="<f4").astype(np.float32)
        if not np.isfinite(weights).all():
            raise ValueError("expected finite weights; was the snapshot's part verified?")
        return cls(Kernel(make_layout(n_weights.bit_length() - 1), weights), explorer, version)
