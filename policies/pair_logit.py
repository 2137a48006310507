"""Chances in the cells of a table, fitted by logistic regression on its axes and their pairs.

    log-odds = b + sum_j f_j(x_j) + sum_(j < k) f_jk(x_j, x_k)

The last axis is a choice and enters by place; the others are columns in which things are smooth,
and enter as polynomials, the first as a line. Each kind of term (an axis or a pair, and a degree)
has a Gaussian prior of mean 0 whose precision is learned from the table itself, by the evidence
(MacKay, Bayesian Interpolation, 1992): precision = (number of effective weights) / (sum of their
squares), where a term that the table does not call for has no effective weight and goes to 0. So
cells that saw a dozen cards are told by all that are like them in what matters.

What hangs on three axes at once is missed unless log-odds add it up. Rejected: shares of the cells
(MiniSwipe's exits need ten times the cards for the same error), one ridge for all terms (right for
exits or for moves, twice the error in the other).
"""

from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from env.reals import logistic
from env.vocabulary import Floats, Ints

MOST_DEGREE = 3
N_ROUNDS = 30
CLOSE = 1e-3
LONGEST_STEP = 3.0
PRECISIONS = (1e-2, 1e4)
LEAST_SHARE = 1e-6


def pair_chances(hits: Floats, n: Floats) -> Floats:
    """Return the chance of a hit in each cell.

    Args:
        hits: in [0, n], shape of n.
        n: cards, any shape of two axes or more; some above 0.
    """
    terms = _terms(n.shape)
    design, total, hit = terms.design, n.ravel(), hits.ravel()
    share = np.clip(hit.sum() / total.sum(), LEAST_SHARE, 1.0 - LEAST_SHARE)
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(share / (1.0 - share))
    precision = np.ones(terms.kind.max() + 1)
    for _ in range(N_ROUNDS):
        ridge = precision[terms.kind]
        ridge[0] = LEAST_SHARE
        chance = np.asarray(logistic(design @ weights))
        gradient = design.T @ (hit - total * chance) - ridge * weights
        curvature = (design * (total * chance * (1.0 - chance))[:, None]).T @ design
        spread = np.linalg.inv(curvature + np.diag(ridge))
        step = spread @ gradient
        # Where a place has no hit at all a full step overshoots.
        step *= min(1.0, LONGEST_STEP / max(np.abs(step).max(), LEAST_SHARE))
        weights += step
        effective = np.bincount(terms.kind, 1.0 - ridge * np.diag(spread))
        squares = np.bincount(terms.kind, weights**2)
        precision = np.clip(effective / np.maximum(squares, LEAST_SHARE), *PRECISIONS)
        if np.abs(step).max() < CLOSE:
            break
    return np.asarray(logistic(design @ weights)).reshape(n.shape)


class _Terms(NamedTuple):
    """Columns of the regression.

    Attributes:
        design: shape (n_cells, n_weights); the first is 1.
        kind: of each, shape (n_weights,).
    """

    design: Floats
    kind: Ints


@cache
def _terms(shape: tuple[int, ...]) -> _Terms:
    places = np.indices(shape).reshape(len(shape), -1)
    axes = [_powers(shape[0], 1)[places[0]]]
    for n, place in zip(shape[1:-1], places[1:-1], strict=True):
        axes.append(_powers(n, min(MOST_DEGREE, n - 1))[place])
    axes.append(np.eye(shape[-1])[places[-1]])
    degrees = [list(range(axis.shape[1])) for axis in axes[:-1]] + [[0] * shape[-1]]
    columns: list[Floats] = [np.ones((places.shape[1], 1))]
    kinds: list[tuple[int, ...]] = [()]
    for j, axis in enumerate(axes):
        columns.append(axis)
        kinds += [(j, degree) for degree in degrees[j]]
    for j, k in combinations(range(len(axes)), 2):
        products = axes[j][:, :, None] * axes[k][:, None, :]
        columns.append(products.reshape(len(products), -1))
        kinds += [(j, k, max(one, other)) for one in degrees[j] for other in degrees[k]]
    number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    return _Terms(np.concatenate(columns, axis=1), np.array([number[kind] for kind in kinds]))


def _powers(n: int, most: int) -> Floats:
    """Return orthogonal polynomials of degree 1 to `most` at n even places, shape (n, most)."""
    if n == 1:
        return np.zeros((1, 0))
    powers = np.vander(np.linspace(-1.0, 1.0, n), most + 1, increasing=True)
    orthogonal, _ = np.linalg.qr(powers)
    return np.asarray(orthogonal[:, 1:] * np.sqrt(n))
