"""The torch networks of training: the scorer, which is served, and the critic, which is not.

The scorer has the same tensors as `Ranker`. The critic has its own towers, so that its loss cannot
distort the embeddings that rank. Rejected alternatives: `docs/decisions/ranker-network.md`.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from policies.ranker.ranker import LIMIT, Ranker, RankerArgs
from policies.training.layout import Scaling

MASKED = -1e9
"""The logit of a candidate that may not be chosen."""

_HIDDEN_GAIN = math.sqrt(2.0)
_SCORE_GAIN = 0.01
"""Small, so that the first policy is nearly uniform."""

_LEAST_EMBEDDED = -1e3
"""Below any embedding, yet small enough for the critic where no candidate is left."""


class Tower(nn.Module):
    """Maps columns to embeddings."""

    def __init__(self, scaling: Scaling, hidden: int, embed: int) -> None:
        super().__init__()
        n = len(scaling.shift)
        self.register_buffer("shift", torch.tensor(scaling.shift, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scaling.scale, dtype=torch.float32))
        self.inner = _linear(n, hidden, _HIDDEN_GAIN)
        self.outer = _linear(hidden, embed, 1.0)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Return embeddings, shape (..., embed), of columns of shape (..., n)."""
        scaled = ((columns - self.shift) * self.scale).clamp(-LIMIT, LIMIT)
        return self.outer(torch.tanh(self.inner(scaled)))


class Head(nn.Module):
    """A hidden layer and an output layer."""

    def __init__(self, n: int, hidden: int, n_out: int, gain: float, *, bias: bool) -> None:
        super().__init__()
        self.inner = _linear(n, hidden, _HIDDEN_GAIN)
        self.outer = _linear(hidden, n_out, gain, bias=bias)


class Scorer(nn.Module):
    """Logits of candidates, see `Ranker`."""

    def __init__(self, args: RankerArgs, user: Scaling, item: Scaling) -> None:
        super().__init__()
        self.user = Tower(user, args.hidden, args.embed)
        self.item = Tower(item, args.hidden, args.embed)
        self.head = Head(3 * args.embed, args.hidden, 1, _SCORE_GAIN, bias=False)

    def forward(self, user: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, K).

        Args:
            user: shape (n, n_user).
            rows: shape (n, K, n_item), or (1, K, n_item) if all users have the same.
        """
        user_hidden, candidate = self.user(user), self.item(rows)
        of_user, of_item, of_both = self.head.inner.weight.chunk(3, dim=1)
        both = functional.linear(user_hidden[:, None] * candidate, of_both)
        by_user = functional.linear(user_hidden, of_user, self.head.inner.bias)[:, None]
        hidden = torch.tanh(both + functional.linear(candidate, of_item) + by_user)
        return self.head.outer(hidden)[..., 0]


def to_ranker(scorer: Scorer, args: RankerArgs) -> Ranker:
    """Return a scorer's current weights as a ranker.

    Raises:
        ValueError: a weight is not finite, or the scorer is of another shape.
    """
    weights = scorer.state_dict()
    return Ranker(args, {name: weight.cpu().numpy() for name, weight in weights.items()})


class CriticNetwork(nn.Module):
    """Values of a user with their candidates: of the objective, and of the returns alone."""

    def __init__(self, args: RankerArgs, user: Scaling, item: Scaling) -> None:
        super().__init__()
        self.user = Tower(user, args.hidden, args.embed)
        self.item = Tower(item, args.hidden, args.embed)
        self.head = Head(3 * args.embed, args.hidden, 2, 1.0, bias=True)

    def forward(
        self, user: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return both values, shape (n, 2).

        Args:
            user: shape (n, n_user).
            rows: shape (n, K, n_item), or (1, K, n_item) if all users have the same.
            mask: shape (n, K), the valid candidates; all if None.
        """
        user_hidden, candidate = self.user(user), self.item(rows)
        mean, greatest = _summary(candidate, mask)
        mean, greatest = mean.expand_as(user_hidden), greatest.expand_as(user_hidden)
        hidden = self.head.inner(torch.cat([user_hidden, mean, greatest], dim=-1))
        return self.head.outer(torch.tanh(hidden))


def _summary(
    candidate: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and maximum of each column over the valid candidates."""
    if mask is None:
        return candidate.mean(dim=1), candidate.amax(dim=1)
    allowed = mask[..., None]
    mean = (candidate * allowed).sum(dim=1) / allowed.sum(dim=1).clamp(min=1)
    return mean, candidate.masked_fill(~allowed, _LEAST_EMBEDDED).amax(dim=1)


def _linear(n: int, m: int, gain: float, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(n, m, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
