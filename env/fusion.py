"""Ranking by a weighted sum of predicted responses, with the weights as the action.

    score = sum_k base_k 10^(a_k) predicted_k / typical_k,   a in [-1, 1]^8

Large feeds rank this way, with weights set by reinforcement learning (Cai et al., "Reinforcing User
Retention in a Billion Scale Short Video Recommender System", WWW 2023). The predictions are a
server's, made from item statistics and beliefs, never from the world's probabilities.
"""

import numpy as np

from env.answers import BAIT_IN_DISLIKE, COMMENT_IF_LIKED, DURATION_CENTRE, Rates
from env.bait import MEAN_BAIT
from env.supply import ITEM_FACTS
from env.vocabulary import Float32s, Floats, Ints

SIGNALS = (
    "watch_s",
    "valid_play",
    "long_view",
    "like",
    "comment",
    "share",
    "follow",
    "not_interested",
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
