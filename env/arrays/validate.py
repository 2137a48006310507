"""Refuses constants of a world that are out of range, with a sentence that names them."""

from collections.abc import Callable

import msgspec


def require_probabilities(owner: msgspec.Struct, *names: str) -> None:
    """Raise unless fields are probabilities, or tuples of them.

    Raises:
        ValueError: one is outside [0, 1].
    """
    _require(owner, names, "a probability in [0, 1]", lambda value: 0.0 <= value <= 1.0)


def require_open_probabilities(owner: msgspec.Struct, *names: str) -> None:
    """Raise unless fields are probabilities above 0 and below 1, or tuples of them.

    Raises:
        ValueError: one is outside (0, 1).
    """
    _require(owner, names, "a probability in (0, 1)", lambda value: 0.0 < value < 1.0)


def require_positive(owner: msgspec.Struct, *names: str) -> None:
    """Raise unless fields are positive numbers.

    Raises:
        ValueError: one is 0 or less, or no number.
    """
    _require(owner, names, "a number above 0", lambda value: 0.0 < value < float("inf"))


def require_not_negative(owner: msgspec.Struct, *names: str) -> None:
    """Raise unless fields are 0 or more.

    Raises:
        ValueError: one is negative, or no number.
    """
    _require(owner, names, "a number of 0 or more", lambda value: 0.0 <= value < float("inf"))


def _require(
    owner: msgspec.Struct, names: tuple[str, ...], what: str, is_fine: Callable[[float], bool]
) -> None:
    for name in names:
        held = getattr(owner, name)
        for value in held if isinstance(held, tuple) else (held,):
            if not is_fine(value):
                raise ValueError(f"expected {what} for {type(owner).__name__}.{name}, got {held}")
