"""The fit of item factors to answers: alternating least squares for implicit feedback.

A play counts for an item, a skip against it, and an item that was never answered weakly against
it (Hu, Koren and Volinsky, ICDM 2008, with answered skips as explicit negatives). The result is a
pure function of the answers and the arguments. Figures and rejected alternatives:
`docs/decisions/collaborative.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from env.features.collaborative import Crowd, ItemFactors, targets_of
from env.vocabulary import Float32s, Ints
from policies.collaborative.answers import Answers

LEAST_SPREAD = 0.05
"""Least spread of tastes in any direction, as a share of the mean one."""

_BLOCK = 1 << 16
"""Answers that are looked at together, padding included: 8 MB of factors at 32 dimensions."""


class FitArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a fit besides the answers."""

    dims: int = 32  # of a factor, at least 1
    rounds: int = 6  # of users, then items
    unseen: float = 0.03  # weight of an item that a user has not answered, at least 0
    ridge: float = 3.0  # precision of each factor's prior, above 0
    items: int = 16_384  # the most answered ones get factors
    least: int = 2  # answers that an item must have
    # Least sd of matches between users and items, in sds of an answer's noise, at least 0. Below
    # it, factors are mostly the prior's and grow manyfold with the next thousand answers: a learner
    # that has scaled its steps to such numbers predicts nonsense once they have grown.
    least_match_sd: float = 0.1
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The answers of users, or to items, grouped by them."""

    order: Ints  # (n,) answers by group
    begins: Ints  # (n_groups + 1,)

    @classmethod
    def of(cls, groups: Ints, n_groups: int) -> "_Side":
        begins = np.zeros(n_groups + 1, dtype=np.int64)
        np.cumsum(np.bincount(groups, minlength=n_groups), out=begins[1:])
        return cls(np.argsort(groups, kind="stable"), begins)

    def blocks(self, n_answers: int) -> Iterator[tuple[Ints, Ints]]:
        """Yield groups (b,), and their answers (b, most of them), padded with n_answers.

        Groups of like size stand together, so that little is padded.
        """
        counts = np.diff(self.begins)
        by_size = np.argsort(counts, kind="stable")
        first = int(np.searchsorted(counts[by_size], 1))
        while first < len(by_size):
            last = _end_of_block(counts[by_size], first)
            groups = by_size[first:last]
            steps = np.arange(counts[groups[-1]])
            place = self.begins[groups][:, None] + steps
            is_there = steps < counts[groups][:, None]
            padded = self.order.take(place, mode="clip")
            yield groups, np.where(is_there, padded, n_answers)
            first = last


def _end_of_block(counts: Ints, first: int) -> int:
    """Return the end of the block of ascending counts that begins at `first`."""
    ends = np.arange(first + 1, len(counts) + 1)
    fits = (ends - first) * counts[first:] <= _BLOCK
    return first + max(int(np.count_nonzero(fits)), 1)


def fit(answers: Answers, args: FitArgs, version: int = 0) -> ItemFactors:
    """Return item factors, of no item while answers are too few to tell users apart.

    Equal answers and arguments give equal factors.

    Args:
        answers: none are needed.
        args: of the fit.
        version: number of the generation.
    """
    counts = np.bincount(answers.items, minlength=len(answers.keys))
    kept = _most_answered(counts, args)
    number = np.full(len(counts), -1)
    number[kept] = np.arange(len(kept))
    used = np.flatnonzero(number[answers.items] >= 0)
    users, items = answers.users[used], number[answers.items[used]]
    targets, weights = targets_of(answers.values[used])
    targets, weights = np.append(targets, np.float32(0)), np.append(weights, np.float32(0))
    by_user, by_item = _Side.of(users, answers.n_users), _Side.of(items, len(kept))
    users, items = np.append(users, answers.n_users), np.append(items, len(kept))
    factors = _first_factors(len(kept), args)
    tastes = np.zeros((answers.n_users + 1, args.dims), dtype=np.float32)
    for _ in range(args.rounds):
        tastes = _solved(by_user, factors, items, targets, weights, _prior(factors, args))
        factors = _solved(by_item, tastes, users, targets, weights, _prior(tastes, args))
    tastes = _solved(by_user, factors, items, targets, weights, _prior(factors, args))
    errors = targets - np.einsum("ij,ij->i", tastes[users], factors[items])
    noise = float(np.average(errors**2, weights=weights)) if len(used) else 1.0
    n_answers = np.diff(by_user.begins)
    crowd = _crowd(tastes[:-1], n_answers, factors, noise, args)
    if _match_sd(factors[:-1], crowd) < args.least_match_sd:
        kept, factors = kept[:0], factors[-1:]
    return ItemFactors.of(
        answers.keys[kept], counts[kept].astype(np.float64), factors[:-1], crowd, version
    )


def _crowd(
    tastes: Float32s, n_answers: Ints, factors: Float32s, noise: float, args: FitArgs
) -> Crowd:
    """Return the mean and spread of the users' tastes, those with many answers above all.

    Args:
        tastes: shape (n, dims).
        n_answers: of each, shape (n,).
        factors: of the items, shape (m + 1, dims).
        noise: variance of an answer about its expectation.
        args: of the fit.
    """
    weights = n_answers / max(n_answers.sum(), 1)
    mean = np.einsum("i,ij->j", weights, tastes.astype(np.float64))
    apart = tastes - mean
    spread = np.einsum("i,ij,ik->jk", weights, apart, apart)
    least = max(LEAST_SPREAD * float(np.trace(spread)) / args.dims, 1e-6)
    precision = noise * np.linalg.inv(spread + least * np.eye(args.dims))
    unseen = args.unseen * np.einsum("ij,ik->jk", factors, factors)
    typical = float(np.einsum("i,i->", weights, n_answers.astype(np.float64)))
    return Crowd(
        mean.astype(np.float32),
        precision.astype(np.float32),
        unseen.astype(np.float32),
        max(typical, 1.0),
    )


def _match_sd(factors: Float32s, crowd: Crowd) -> float:
    """Return the sd of matches over users and items, in sds of an answer's noise.

    Args:
        factors: shape (m, dims).
        crowd: of the users.
    """
    if not len(factors):
        return 0.0
    spread = np.linalg.inv(crowd.precision.astype(np.float64))
    return float(np.sqrt(np.einsum("ij,jk,ik->i", factors, spread, factors).mean()))


def _most_answered(counts: Ints, args: FitArgs) -> Ints:
    """Return the items that get factors, ascending."""
    order = np.argsort(-counts, kind="stable")[: args.items]
    return np.sort(order[counts[order] >= args.least])


def _first_factors(n: int, args: FitArgs) -> Float32s:
    """Return small random factors, the last row zero, shape (n + 1, dims)."""
    rng = np.random.default_rng(args.seed)
    factors = (0.1 * rng.standard_normal((n + 1, args.dims))).astype(np.float32)
    factors[-1] = 0.0
    return factors


def _prior(factors: Float32s, args: FitArgs) -> Float32s:
    """Return the precision that the prior and the unseen of the other side give, (dims, dims)."""
    seen = np.einsum("ij,ik->jk", factors, factors)
    prior = args.unseen * seen + args.ridge * np.eye(args.dims)
    return np.asarray(prior, dtype=np.float32)


def _solved(
    side: _Side,
    others: Float32s,
    of_other: Ints,
    targets: Float32s,
    weights: Float32s,
    prior: Float32s,
) -> Float32s:
    """Return the factors of one side given those of the other, the last row zero.

    Args:
        side: answers by group.
        others: shape (n_others + 1, dims), the last row zero.
        of_other: shape (n + 1,), the other side of each answer; the last is the zero row.
        targets: shape (n + 1,).
        weights: shape (n + 1,), the last 0.
        prior: shape (dims, dims).
    """
    solved = np.zeros((len(side.begins), others.shape[1]), dtype=np.float32)
    for groups, rows in side.blocks(len(targets) - 1):
        near = others.take(of_other[rows], axis=0)
        weighed = near * weights[rows][..., None]
        precision = weighed.transpose(0, 2, 1) @ near + prior
        pull = np.einsum("bld,bl->bd", weighed, targets[rows])
        solved[groups] = np.linalg.solve(precision, pull[..., None])[..., 0]
    return solved
