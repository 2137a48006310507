"""Checks of estimator inputs; each error names the expected value, the actual one and its row."""

import numpy as np

from env.vocabulary import Bools, Floats, Ints


def require_shape(shape: tuple[int, ...], **columns: Floats | Ints) -> None:
    """Raise ValueError if a column has another shape, or the shape has no element."""
    if 0 in shape:
        raise ValueError(f"expected columns with at least one row, got shape {shape}")
    for name, column in columns.items():
        if column.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {column.shape}")


def require(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    """Raise ValueError with the first invalid element and its row.

    >>> require(np.array([True, False]), "propensity", "in (0, 1]", np.array([0.5, 0.0]))
    Traceback (most recent call last):
    ValueError: propensity must be in (0, 1], got 0.0 in row 1
    """
    if not holds.all():
        place = tuple(int(i) for i in np.argwhere(~holds)[0])
        where = f"row {place[0]}" + "".join(f", slot {slot}" for slot in place[1:])
        raise ValueError(f"{name} must be {expected}, got {got[place]} in {where}")


def require_propensities(propensity: Floats, target: Floats) -> None:
    """Raise ValueError unless propensities are in (0, 1] and target probabilities in [0, 1]."""
    in_range = (propensity > 0.0) & (propensity <= 1.0)
    require(in_range, "propensity", "in (0, 1]", propensity)
    in_range = (target >= 0.0) & (target <= 1.0 + 1e-9)
    require(in_range, "target probability", "in [0, 1]", target)
