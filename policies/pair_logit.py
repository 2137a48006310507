"""Logistic regression of the chances in a table's cells, on its axes and their pairs.

Each kind of term has a Gaussian prior whose precision is learned from the table by the evidence
(MacKay, Bayesian Interpolation, 1992). Derivation and rejected alternatives:
`docs/decisions/fitted-model.md`.
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
        n: cards, any shape of two or more axes, some above 0.
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
        # A full step overshoots where a level of an axis has no hit.
        step *= min(1.0, LONGEST_STEP / max(np.abs(step).max(), LEAST_SHARE))
        weights += step
        effective = np.bincount(terms.kind, 1.0 - ridge * np.diag(spread))
        squares = np.bincount(terms.kind, weights**2)
        precision = np.clip(effective / np.maximum(squares, LEAST_SHARE), *PRECISIONS)
        if np.abs(step).max() < CLOSE:
            break
    return np.asarray(logistic(design @ weights)).reshape(n.shape)


class _Terms(NamedTuple):
    """Columns of the regression, of which the first is 1, and the kind of each."""

    design: Floats  # (n_cells, n_weights)  # (n_cells, n_weights)
    kind: Ints  # (n_weights,)  # (n_weights,)


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
    """Return orthogonal polynomials of degree 1 to `most` at n even points, shape (n, most)."""
    if n == 1:
        return np.zeros((1, 0))
    powers = np.vander(np.linspace(-1.0, 1.0, n), most + 1, increasing=True)
    orthogonal, _ = np.linalg.qr(powers)
    return np.asarray(orthogonal[:, 1:] * np.sqrt(n))
