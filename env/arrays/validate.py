"""Range checks for the constants of a simulated world, with messages that name the field."""

from collections.abc import Callable

import msgspec


def require_probabilities(owner: msgspec.Struct, *names: str) -> None:
    """Raise ValueError unless fields are in [0, 1], or tuples of such numbers."""
    _require(owner, names, "a probability in [0, 1]", lambda value: 0.0 <= value <= 1.0)


def require_open_probabilities(owner: msgspec.Struct, *names: str) -> None:
    """Raise ValueError unless fields are in (0, 1), or tuples of such numbers."""
    _require(owner, names, "a probability in (0, 1)", lambda value: 0.0 < value < 1.0)


def require_positive(owner: msgspec.Struct, *names: str) -> None:
    """Raise ValueError unless fields are positive, finite numbers, or tuples of them."""
    _require(owner, names, "a number above 0", lambda value: 0.0 < value < float("inf"))


def require_not_negative(owner: msgspec.Struct, *names: str) -> None:
    """Raise ValueError unless fields are finite numbers of 0 or more, or tuples of them."""
    _require(owner, names, "a number of 0 or more", lambda value: 0.0 <= value < float("inf"))


def _require(
    owner: msgspec.Struct, names: tuple[str, ...], what: str, is_fine: Callable[[float], bool]
) -> None:
    for name in names:
        held = getattr(owner, name)
        for value in held if isinstance(held, tuple) else (held,):
            if not is_fine(value):
                raise ValueError(f"expected {what} for {type(owner).__name__}.{name}, got {held}")
