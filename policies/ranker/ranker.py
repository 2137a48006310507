"""The retention ranker as it is served: a two-tower network's forward pass in numpy.

One tower embeds the user, one each candidate, and a head scores them together. The scores are the
logits of the trained policy. Equations and rejected alternatives:
`docs/decisions/ranker-network.md`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from env.columns.schema import ACTION_WIDTHS, N_ACTION, N_SHARED
from env.vocabulary import Bools, Context, Float32s, Floats
from policies.explorers import AnyExplorer, Mixed, Softmax, Uniform, explorer_args
from policies.ranker.tensors import pack, read_verified, unpack, write_verified
from policies.snapshots import SnapshotCorruption

FORMAT_VERSION = 1
LIMIT = 10.0
"""Scaled columns are clipped to [-LIMIT, LIMIT]."""

ONE_THREAD = 200_000
"""OpenBLAS runs matrix products below 2^18 multiplications on one thread. The bits of a larger
product depend on the number of threads, and a logged page could not be recomputed."""

MOST_ROWS = 4096
"""Candidates that are scored at once, so that intermediate results fit into a core's cache."""


class RankerArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a network."""

    n_user: int  # columns of a user
    n_item: int  # columns of a candidate
    hidden: int = 64  # units of each hidden layer
    embed: int = 32  # length of an embedding

    def __post_init__(self) -> None:
        """Raise ValueError for a number that is not in 1 to 65,536."""
        for name, value in msgspec.structs.asdict(self).items():
            if not 1 <= value <= 65_536:
                raise ValueError(f"{name} must be from 1 to 65536, got {value}")


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metadata of a ranker's file."""

    format_version: int
    args: RankerArgs


_WORDS = "ranker"


def tensor_shapes(args: RankerArgs) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a network, by its name.

    >>> tensor_shapes(RankerArgs(3, 4))["head.inner.weight"]
    (64, 96)
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for tower, n in (("user", args.n_user), ("item", args.n_item)):
        shapes[f"{tower}.shift"] = shapes[f"{tower}.scale"] = (n,)
        shapes[f"{tower}.inner.weight"] = (args.hidden, n)
        shapes[f"{tower}.inner.bias"] = (args.hidden,)
        shapes[f"{tower}.outer.weight"] = (args.embed, args.hidden)
        shapes[f"{tower}.outer.bias"] = (args.embed,)
    shapes["head.inner.weight"] = (args.hidden, 3 * args.embed)
    shapes["head.inner.bias"] = (args.hidden,)
    shapes["head.outer.weight"] = (1, args.hidden)
    return shapes


class Ranker:
    """A trained network that scores candidates.

    Attributes:
        args: its shape.
        tensors: its weights by name, float32, see `tensor_shapes`; read-only.
    """

    def __init__(self, args: RankerArgs, tensors: Mapping[str, Float32s]) -> None:
        """Copy the network's weights.

        Raises:
            ValueError: a tensor is missing, unknown, of another type or shape, or not finite.
        """
        _require_tensors(tensor_shapes(args), tensors)
        self.args = args
        self.tensors = {name: _frozen(tensor) for name, tensor in tensors.items()}
        self._user, self._item = _Tower(self.tensors, "user"), _Tower(self.tensors, "item")
        inner, e = self.tensors["head.inner.weight"], args.embed
        self._of_user = np.ascontiguousarray(inner[:, :e].T)
        self._of_item = np.ascontiguousarray(inner[:, e : 2 * e].T)
        self._of_both = np.ascontiguousarray(inner[:, 2 * e :].T)
        self._bias = self.tensors["head.inner.bias"]
        self._outer = self.tensors["head.outer.weight"][0]
        widest = max(args.n_item, args.hidden, args.embed)
        self._rows = max(1, ONE_THREAD // (args.hidden * widest))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ranker":
        """Return the network that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no safetensors of a ranker, have a later format, or hold
                tensors that are not finite float32 of the announced shape.
        """
        packed = unpack(data)
        if _WORDS not in packed.words:
            raise ValueError(f"expected safetensors of a ranker, got {sorted(packed.tensors)}")
        try:
            words = msgspec.json.decode(packed.words[_WORDS], type=_Words)
        except msgspec.MsgspecError as error:
            raise ValueError(f"expected arguments of a ranker: {error}") from error
        if words.format_version != FORMAT_VERSION:
            raise ValueError(f"expected format {FORMAT_VERSION}, got {words.format_version}")
        return cls(words.args, packed.tensors)

    def to_bytes(self) -> bytes:
        """Return the network as safetensors, with its shape in the metadata."""
        words = msgspec.json.encode(_Words(FORMAT_VERSION, self.args)).decode()
        return pack(self.tensors, {_WORDS: words})

    @classmethod
    def from_file(cls, path: Path) -> "Ranker":
        """Return the network in a file that its manifest verifies.

        Raises:
            FileNotFoundError: the file or its manifest is missing.
            SnapshotCorruption: the file differs from its manifest, or holds no ranker.
        """
        try:
            return cls.from_bytes(read_verified(path))
        except ValueError as error:
            raise SnapshotCorruption(f"{path}: {error}") from error

    def to_file(self, path: Path, made: Mapping[str, Any] | None = None) -> None:
        """Write a file and its manifest, see `write_verified`."""
        write_verified(path, self.to_bytes(), made)

    def scores(self, user: Float32s, items: Float32s) -> Floats:
        """Return each candidate's logit, shape (K,), finite for finite columns.

        Args:
            user: shape (n_user,).
            items: shape (K, n_item). A ranker of an earlier feature schema is given the feed's
                columns and reads those that it knows.

        Raises:
            ValueError: a shape is another one.
        """
        items = self._known(items)
        self._require_shapes(user.shape, items.shape)
        user_hidden = self._user.embed(user[None, :])
        of_item = self._of_item + self._of_both * user_hidden.T
        of_user = user_hidden @ self._of_user + self._bias
        scores = np.empty(len(items))
        for first in range(0, len(items), self._rows):
            part = slice(first, first + self._rows)
            hidden = self._item.embed(items[part]) @ of_item
            hidden += of_user
            np.tanh(hidden, out=hidden)
            scores[part] = hidden @ self._outer
        return scores

    def batch_scores(self, user: Float32s, items: Float32s) -> Floats:
        """Return the logits of n users' candidates, shape (n, K): those of `scores` up to rounding.

        Args:
            user: shape (n, n_user).
            items: shape (n, K, n_item).

        Raises:
            ValueError: a shape is another one.
        """
        if user.ndim != 2 or items.ndim != 3 or len(user) != len(items):
            raise ValueError(
                f"expected users of shape (n, {self.args.n_user}) and candidates of shape "
                f"(n, K, {self.args.n_item}), got {user.shape} and {items.shape}"
            )
        items = self._known(items)
        self._require_shapes(user.shape[1:], items.shape[1:])
        n, k = items.shape[:2]
        scores = np.empty((n, k))
        at_once = max(1, MOST_ROWS // max(1, k))
        for first in range(0, n, at_once):
            part = slice(first, first + at_once)
            scores[part] = self._score_users(user[part], items[part])
        return scores

    def _score_users(self, user: Float32s, items: Float32s) -> Float32s:
        n, k, n_item = items.shape
        user_hidden = self._user.embed(user)
        candidate = self._item.embed(items.reshape(n * k, n_item))
        hidden = candidate @ self._of_item
        both = candidate.reshape(n, k, self.args.embed)
        both *= user_hidden[:, None]
        hidden += candidate @ self._of_both
        by_user = hidden.reshape(n, k, self.args.hidden)
        by_user += (user_hidden @ self._of_user + self._bias)[:, None]
        np.tanh(hidden, out=hidden)
        scores: Float32s = (hidden @ self._outer).reshape(n, k)
        return scores

    def _known(self, items: Float32s) -> Float32s:
        """Return the candidates' columns without those that came after this ranker's schema."""
        is_of_feed = items.shape[-1] == N_ACTION and self.args.n_item in ACTION_WIDTHS
        return items[..., : self.args.n_item] if is_of_feed else items

    def _require_shapes(self, user: tuple[int, ...], items: tuple[int, ...]) -> None:
        args = self.args
        if user != (args.n_user,) or len(items) != 2 or items[1] != args.n_item:
            raise ValueError(
                f"expected a user of shape ({args.n_user},) and candidates of shape "
                f"(K, {args.n_item}), got {user} and {items}"
            )


class _Tower:
    """One side of the network, from columns to embeddings."""

    def __init__(self, tensors: Mapping[str, Float32s], name: str) -> None:
        self._shift, self._scale = tensors[f"{name}.shift"], tensors[f"{name}.scale"]
        self._inner = np.ascontiguousarray(tensors[f"{name}.inner.weight"].T)
        self._outer = np.ascontiguousarray(tensors[f"{name}.outer.weight"].T)
        self._inner_bias = tensors[f"{name}.inner.bias"]
        self._outer_bias = tensors[f"{name}.outer.bias"]

    def embed(self, columns: Float32s) -> Float32s:
        """Return embeddings, shape (n, embed), of columns of shape (n, n_columns)."""
        scaled = columns - self._shift
        scaled *= self._scale
        np.maximum(scaled, np.float32(-LIMIT), out=scaled)
        np.minimum(scaled, np.float32(LIMIT), out=scaled)
        hidden = scaled @ self._inner
        hidden += self._inner_bias
        np.tanh(hidden, out=hidden)
        embeddings: Float32s = np.matmul(hidden, self._outer)
        embeddings += self._outer_bias
        return embeddings


def _frozen(tensor: Float32s) -> Float32s:
    copy = np.array(tensor, order="C")
    copy.flags.writeable = False
    return copy


def _require_tensors(
    shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Float32s]
) -> None:
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise ValueError(f"tensors are missing: {', '.join(missing)}")
    if unknown := sorted(tensors.keys() - shapes.keys()):
        raise ValueError(f"tensors that no ranker has: {', '.join(unknown)}")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise ValueError(
                f"{name}: expected float32 of shape {shape}, got {tensor.dtype} of {tensor.shape}"
            )
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
        if name.endswith(".scale") and not (tensor > 0.0).all():
            raise ValueError(f"{name}: expected numbers above 0, got {tensor.min()}")


class RetentionPolicy:
    """Draws candidates as a network trained for retention does; a Policy.

    Attributes:
        name: `retention@N`, N the generation of the ranker.
    """

    def __init__(
        self,
        ranker: Ranker,
        temperature: float = 1.0,
        floor: float = 0.0,
        name: str = "retention@0",
    ) -> None:
        """Serve a ranker.

        Args:
            ranker: of the feed's columns: N_SHARED of a user and N_ACTION of a candidate, or fewer
                of an earlier schema.
            temperature: of the softmax, above 0; 1 is the trained policy.
            floor: share of uniform over the mask, in [0, 1), besides that of the page.

        Raises:
            ValueError: the ranker has other columns, or a number is out of range.
        """
        columns = (ranker.args.n_user, ranker.args.n_item)
        if not ranks_feeds(*columns):
            raise ValueError(
                f"expected a ranker of the feed's {N_SHARED} columns of a user and {N_ACTION} of "
                f"a candidate, got {columns}"
            )
        self.name = name
        self._ranker = ranker
        self._explorer = _explorer(temperature, floor)

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return each candidate's logit, shape (n,)."""
        features = context.features
        return self._ranker.scores(features.shared, features.actions)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the softmax over the mask, mixed with the floor."""
        return self._explorer.pmf(scores, mask)

    def pmf(self, context: Context, mask: Bools) -> Floats:
        """Return the pmf of one card over the mask, shape (n,)."""
        return self.explore(self.score(context), mask)


def ranks_feeds(n_user: int, n_item: int) -> bool:
    """Return whether these are the numbers of columns of a feed, of this or an earlier schema."""
    return n_user == N_SHARED and n_item in ACTION_WIDTHS


def _explorer(temperature: float, floor: float) -> AnyExplorer:
    if not 0.0 <= floor < 1.0:
        raise ValueError(f"floor must be in [0, 1), got {floor}")
    softmax = Softmax(temperature)
    return Mixed((softmax, Uniform()), (1.0 - floor, floor)) if floor else softmax
