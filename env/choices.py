"""Action spaces of the environments, and the cards that an action shows.

An illegal action raises before the state changes, so a caller that catches the error can choose
again.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from env.fusion import N_SIGNALS, predict, rank
from env.observation import Screen
from env.pages import PageSpace, has_repeats
from env.settings import Settings
from env.swiping import Swiping
from env.vocabulary import Bools, Ints


def action_space(settings: Settings, shape: tuple[int, ...] = ()) -> spaces.Space[Any]:
    """Return the space of one action, or of a batch of shape (n,)."""
    k = settings.n_candidates
    match settings.actions:
        case "next":
            return spaces.MultiDiscrete(np.full(shape, k)) if shape else spaces.Discrete(k)
        case "page":
            return PageSpace(k, (*shape, settings.page_size))
        case "weights":
            return spaces.Box(-1.0, 1.0, (*shape, N_SIGNALS), np.float32)


def cards_of(actions: Any, swiping: Swiping, screen: Screen) -> Ints:
    """Return the candidates that actions show, in order, shape (n, m).

    Raises:
        ValueError: an action has the wrong shape, is out of range, is masked or repeats a
            candidate. Actions of finished episodes are not checked.
    """
    n, settings = len(swiping.over), swiping.settings
    given = np.asarray(actions)
    shapes = {"next": (n,), "page": (n, settings.page_size), "weights": (n, N_SIGNALS)}
    if given.shape != shapes[settings.actions]:
        raise ValueError(
            f'expected actions of shape {shapes[settings.actions]} in mode "{settings.actions}", '
            f"got {given.shape}"
        )
    if settings.actions == "weights":
        return _ranked(given, swiping, screen)
    if given.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers as actions, got {given.dtype}")
    cards = given.astype(np.int64).reshape(n, settings.n_cards)
    _refuse(cards, swiping)
    return np.where(swiping.over[:, None], np.arange(settings.n_cards), cards)


def _ranked(weights: NDArray[Any], swiping: Swiping, screen: Screen) -> Ints:
    live = ~swiping.over[:, None]
    is_outside = ~(np.abs(weights) <= 1.0)
    if (is_outside & live).any():
        person = int(np.argmax((is_outside & live).any(axis=1)))
        raise ValueError(f"expected weights in [-1, 1], got {weights[person]} for user {person}")
    preset = swiping.preset
    predicted = predict(preset.rates, preset.priors.affinity_sd, screen.items, screen.personal)
    chosen = np.where(live, weights, 0.0).astype(np.float64)
    return rank(predicted, chosen, swiping.candidates.mask, swiping.settings.n_cards)


def _refuse(cards: Ints, swiping: Swiping) -> None:
    """Raise a `ValueError` if an unfinished episode's action is illegal, see `cards_of`."""
    k, live = swiping.settings.n_candidates, ~swiping.over
    person = _first(((cards < 0) | (cards >= k)).any(axis=1) & live)
    if person is not None:
        raise ValueError(
            f"expected candidates 0 to {k - 1}, got {cards[person].tolist()} for user {person}"
        )
    if cards.shape[1] > 1:
        person = _first(has_repeats(cards) & live)
        if person is not None:
            raise ValueError(
                f"expected {cards.shape[1]} different candidates on a page, "
                f"got {cards[person].tolist()} for user {person}"
            )
    if swiping.settings.masked:
        inside = np.clip(cards, 0, k - 1)
        allowed = np.take_along_axis(swiping.candidates.mask, inside, axis=1) > 0
        person = _first(~allowed.all(axis=1) & live)
        if person is not None:
            raise ValueError(
                f"expected candidates whose mask is 1, got {cards[person].tolist()} for user "
                f"{person}: an item of another market may not be shown"
            )


def _first(is_wrong: Bools) -> int | None:
    return int(np.argmax(is_wrong)) if is_wrong.any() else None
