"""Baseline policies over SwipeEnv's observations, for comparisons and pictures.

    uniform  any candidate
    myopic   the candidate with the highest predicted chance of a valid play
    mixed    myopic, minus costs of topics seen often and of apparent bait

All three read only the server's observations. `mixed` looks beyond the next card by construction.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from env.gym.rollouts import Chooser
from env.vocabulary import Floats, Ints
from env.world.observer import PERSONAL
from env.world.supply import ITEM_FACTS

ChooserName = Literal["uniform", "myopic", "mixed"]
SEEN_COST = 0.04
BAIT_COST = 0.3
_SEEN, _PLAYED = PERSONAL.index("seen_topic"), PERSONAL.index("valid_play")
_BAIT = ITEM_FACTS.index("bait_guess") - len(ITEM_FACTS)


def chooser(name: ChooserName, seed: int, n_cards: int = 1) -> Chooser:
    """Return a policy over dict observations, in the modes "next" (one card) and "page".

    Raises:
        ValueError: the name is unknown.
    """
    if name not in get_args(ChooserName):
        raise ValueError(f"expected a policy of {', '.join(get_args(ChooserName))}, got {name!r}")
    rng = np.random.default_rng(seed)

    score: dict[ChooserName, Callable[[Any], Floats]] = {
        "uniform": lambda observation: rng.random(observation["mask"].shape),
        "myopic": myopic_scores,
        "mixed": mixed_scores,
    }
    return lambda observation: best(score[name](observation), observation["mask"], n_cards)


def myopic_scores(observation: Any) -> Floats:
    """Return the predicted chance of a valid play, shape (n, K)."""
    return np.asarray(observation["personal"][..., _PLAYED], dtype=np.float64)


def mixed_scores(observation: Any) -> Floats:
    """Return the myopic scores minus costs of often-seen topics and of bait, shape (n, K)."""
    seen = observation["personal"][..., _SEEN].astype(np.float64)
    bait = observation["item"][..., _BAIT].astype(np.float64)
    return np.asarray(myopic_scores(observation) - SEEN_COST * seen - BAIT_COST * bait)


def best(scores: Floats, mask: NDArray[Any], n_cards: int) -> Ints:
    """Return the allowed candidates of the highest scores, best first.

    Scores and mask have shape (n, K); the result has (n,) for one card, else (n, n_cards).
    """
    allowed = np.where(mask > 0, scores, -np.inf)
    if n_cards == 1:
        return np.asarray(allowed.argmax(axis=1))
    return np.asarray(np.argsort(-allowed, axis=1, kind="stable")[:, :n_cards])
