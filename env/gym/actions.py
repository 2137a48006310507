"""Action spaces of the environments, and the cards that an action shows.

Every action of a space is legal, so learners that draw each card of a page by itself can train: a
repeated candidate is replaced by the next that is not on the page. An action outside of the space,
or of an item that may not be shown, raises before the state changes.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from env.columns.scales import MEAN_BAIT
from env.feedback import SIMULATED_EVENTS
from env.gym.observation import Screen
from env.vocabulary import Bools, Float32s, Floats, Ints
from env.world.answers import BAIT_IN_DISLIKE, COMMENT_IF_LIKED, DURATION_CENTRE, Rates
from env.world.settings import Settings
from env.world.simulation import Simulation
from env.world.supply import ITEM_FACTS

SIGNALS = (
    "watch_s",
    *SIMULATED_EVENTS,
)

N_SIGNALS = len(SIGNALS)
BASE = (1.0, 0.5, 0.5, 0.2, 0.1, 0.1, 0.1, -0.1)
TYPICAL = (19.0, 0.46, 0.33, 0.0185, 0.00255, 0.00096, 0.00107, 0.0005)


def predict(rates: Rates, affinity_sd: float, items: Float32s, personal: Float32s) -> list[Floats]:
    """Return a server's predictions of candidates, `SIGNALS` in order, each of shape (n, K).

    `items`, (n, K, n_dims + len(ITEM_FACTS)), and `personal`, (n, K, 4), are an observation's
    blocks; `affinity_sd` standardises a match. The server is assumed to know the rates on average.
    """
    facts = items[..., -len(ITEM_FACTS) :].astype(np.float64)
    log_duration, _, _, log_odds, _, long_rate, like_rate, bait_guess = np.moveaxis(facts, -1, 0)
    match, _, _, played = np.moveaxis(personal.astype(np.float64), -1, 0)
    relative = played * (1.0 + np.exp(-log_odds))
    like = np.minimum(
        like_rate * relative * np.exp(rates.like_affinity * match / affinity_sd), played
    )
    engaged_s = np.exp(rates.watch_mu + 0.5 * rates.watch_sd * rates.watch_sd)
    skipped_s = np.exp(rates.skip_mu)
    duration_s = np.exp(log_duration + DURATION_CENTRE)
    return [
        played * np.minimum(engaged_s, duration_s) + (1.0 - played) * skipped_s,
        played,
        np.minimum(long_rate * relative, played),
        like,
        rates.comment * (played + (COMMENT_IF_LIKED - 1.0) * like),
        rates.share * played,
        rates.follow * played + rates.follow_liked * like,
        rates.not_interested * np.exp(BAIT_IN_DISLIKE * (bait_guess + MEAN_BAIT)),
    ]


def rank(predicted: list[Floats], actions: Floats, mask: np.ndarray, n_cards: int) -> Ints:
    """Return the candidates of the highest scores, best first, shape (n, n_cards).

    `predicted` comes from `predict`; `actions`, (n, N_SIGNALS), are in [-1, 1]; `mask` is (n, K).
    """
    scores = np.where(mask, 0.0, -np.inf)
    multipliers = np.power(10.0, actions)
    for k, (signal, base, typical) in enumerate(zip(predicted, BASE, TYPICAL, strict=True)):
        scores = scores + (base / typical) * multipliers[:, k, None] * signal
    return np.argsort(-scores, axis=1, kind="stable")[:, :n_cards]


def action_space(settings: Settings, shape: tuple[int, ...] = ()) -> spaces.Space[Any]:
    """Return the space of one action, or of a batch of shape (n,)."""
    k = settings.n_candidates
    match settings.actions:
        case "next":
            return spaces.MultiDiscrete(np.full(shape, k)) if shape else spaces.Discrete(k)
        case "page":
            return spaces.MultiDiscrete(np.full((*shape, settings.page_size), k))
        case "weights":
            return spaces.Box(-1.0, 1.0, (*shape, N_SIGNALS), np.float32)


def cards_of(actions: Any, swiping: Simulation, screen: Screen) -> Ints:
    """Return the candidates that actions show, in order, shape (n, m).

    Raises:
        ValueError: an action has the wrong shape, is out of range or is masked. Actions of finished
            episodes are not checked.
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
    legal = np.where(swiping.over[:, None], np.arange(settings.n_cards), cards)
    return without_repeats(legal, swiping.candidates.mask > 0)


def without_repeats(pages: Ints, allowed: Bools) -> Ints:
    """Return pages on which no candidate stands twice; those without repeats stay as they are.

    A candidate that stands on the page before is replaced by the next one, in order of index and
    after the last the first, that is allowed and has no place on the page.

    Args:
        pages: candidates in order, shape (n, m).
        allowed: candidates that may take a place, shape (n, K), at least m of each user.

    >>> without_repeats(np.array([[1, 1, 2, 3]]), np.array([[True, True, True, True, False]]))
    array([[1, 0, 2, 3]])
    """
    whole, k = pages.copy(), allowed.shape[1]
    users = np.flatnonzero(has_repeats(whole))
    free = allowed[users]
    np.put_along_axis(free, whole[users], values=False, axis=1)
    for slot in range(1, whole.shape[1]):
        card = whole[users, slot]
        again = np.flatnonzero((whole[users, :slot] == card[:, None]).any(axis=1))
        following = (card[again, None] + np.arange(1, k)) % k
        first = np.take_along_axis(free[again], following, axis=1).argmax(axis=1)
        chosen = following[np.arange(len(again)), first]
        free[again, chosen] = False
        whole[users[again], slot] = chosen
    return whole


def has_repeats(pages: Ints) -> Bools:
    """Return whether pages of shape (n, m) repeat a candidate, shape (n,)."""
    in_order = np.sort(pages, axis=1)
    return np.asarray((in_order[:, 1:] == in_order[:, :-1]).any(axis=1))


def _ranked(weights: NDArray[Any], swiping: Simulation, screen: Screen) -> Ints:
    live = ~swiping.over[:, None]
    is_outside = ~(np.abs(weights) <= 1.0)
    if (is_outside & live).any():
        user = int(np.argmax((is_outside & live).any(axis=1)))
        raise ValueError(f"expected weights in [-1, 1], got {weights[user]} for user {user}")
    preset = swiping.preset
    predicted = predict(preset.rates, preset.priors.affinity_sd, screen.items, screen.personal)
    chosen = np.where(live, weights, 0.0).astype(np.float64)
    return rank(predicted, chosen, swiping.candidates.mask, swiping.settings.n_cards)


def _refuse(cards: Ints, swiping: Simulation) -> None:
    """Raise a `ValueError` if an unfinished episode's action is illegal, see `cards_of`."""
    k, live = swiping.settings.n_candidates, ~swiping.over
    user = _first(((cards < 0) | (cards >= k)).any(axis=1) & live)
    if user is not None:
        raise ValueError(
            f"expected candidates 0 to {k - 1}, got {cards[user].tolist()} for user {user}"
        )
    if swiping.settings.masked:
        inside = np.clip(cards, 0, k - 1)
        allowed = np.take_along_axis(swiping.candidates.mask, inside, axis=1) > 0
        user = _first(~allowed.all(axis=1) & live)
        if user is not None:
            raise ValueError(
                f"expected candidates whose mask is 1, got {cards[user].tolist()} for user "
                f"{user}: an item of another market may not be shown"
            )


def _first(is_wrong: Bools) -> int | None:
    return int(np.argmax(is_wrong)) if is_wrong.any() else None
