"""Rankings of the full world: a weighted sum of columns, a random choice, a network.

    score = sum_j (w_j + v_j load) column_j,   load = 1 - .95^(cards of this session)

The columns are those that a server knows of a candidate. Large feeds rank by such sums with
searched weights, so they are the baseline of a network. Why these columns:
`docs/decisions/weight-search.md`.
"""

from typing import Any

import msgspec
import numpy as np

from env.columns.scales import MEAN_BAIT
from env.gym.vector import SwipeVectorEnv
from env.report.played_lives import Choose, EvaluationUsers, evaluation_rollouts
from env.vocabulary import Float32s, Floats, Ints
from env.world.moods import N_TOPICS
from env.world.observer import PERSONAL, USER_FACTS
from env.world.presets import Preset
from env.world.simulation import Simulation
from env.world.supply import ITEM_FACTS
from env.world.world import BAIT
from policies.explorers import draw, softmax
from policies.ranker.ranker import Ranker

COLUMNS = (
    "valid_play",
    "bait_guess",
    "baited_play",
    "seen_topic",
    "satiated",
    "log_duration",
    "long_view_rate",
    "like_rate",
    "match",
)

N_WEIGHTS = 2 * len(COLUMNS)
SATIATED_AT = 2.0
"""Recent cards of a topic from which one more is too much: (.9 * 2 + 1) * .35 is about 1."""

_LOAD_DECAY = 0.95
_POSITIONS = 50.0
_PERSONAL = ("valid_play", "seen_topic", "match")
_ITEM = ("log_duration", "long_view_rate", "like_rate", "bait_guess")


class WeightedRanking(msgspec.Struct, frozen=True, tag="weights"):
    """Shows the candidate with the highest score."""

    weights: tuple[float, ...]  # w, then v, in the order of `COLUMNS`
    is_informed: bool = False  # read the true bait and load: an upper bound, not a policy

    def open(self, seed: int) -> Choose:
        """Return the running policy, which draws nothing."""
        weights = np.array(self.weights)
        return lambda observation, swiping: scores(
            *columns(observation, swiping if self.is_informed else None), weights
        ).argmax(axis=1)


class RandomRanking(msgspec.Struct, frozen=True, tag="random"):
    """Shows a uniformly drawn candidate."""

    def open(self, seed: int) -> Choose:
        """Return the running policy."""
        rng = np.random.default_rng(seed)
        return lambda observation, swiping: rng.integers(
            observation["mask"].shape[1], size=len(observation["user"])
        )


class NetworkRanking(msgspec.Struct, frozen=True, tag="network"):
    """Draws from the softmax of a trained network's logits, as in serving."""

    ranker: bytes  # `Ranker.to_bytes()`

    def open(self, seed: int) -> Choose:
        """Return the running policy, with its own draws."""
        ranker, rng = Ranker.from_bytes(self.ranker), np.random.default_rng(seed)

        def choose(observation: Any, swiping: Simulation) -> Ints:
            rows = np.concatenate([observation["item"], observation["personal"]], axis=-1)
            logits = ranker.batch_scores(observation["user"], rows)
            return draw(softmax(logits), rng)

        return choose


def named_weights(**named: float) -> tuple[float, ...]:
    """Return weights with the named columns' w set and all others 0.

    >>> named_weights(bait_guess=-1.0)[:3]
    (0.0, -1.0, 0.0)
    """
    return tuple(named.get(name, 0.0) for name in COLUMNS) + (0.0,) * len(COLUMNS)


def columns(observation: Any, cheat: Simulation | None = None) -> tuple[list[Floats], Floats]:
    """Return `COLUMNS`, each shape (n, K), and the load, shape (n, 1).

    Args:
        cheat: the simulation that gives the true bait and load; None: they are estimated.
    """
    items, personal = observation["item"], observation["personal"]
    played, seen, match = (personal[..., PERSONAL.index(name)] for name in _PERSONAL)
    duration, long_rate, like_rate, bait = (items[..., _place(name)] for name in _ITEM)
    if cheat is None:
        cards = _POSITIONS * observation["user"][:, _position(items)]
        load = 1.0 - _LOAD_DECAY**cards
    else:
        moods = cheat.preset.moods
        bait = np.take(cheat.stock.columns[BAIT], cheat.candidates.rows) - MEAN_BAIT
        load = cheat.crowd.load * (1.0 - moods.load_decay) / moods.load_step
    found = [
        played,
        bait,
        played * bait,
        seen,
        seen > SATIATED_AT,
        duration,
        long_rate,
        like_rate,
        match,
    ]
    return found, load[:, None].astype(np.float32)


def scores(found: list[Floats], load: Floats, weights: Floats) -> Floats:
    """Return the scores of candidates, shape (n, K).

    Args:
        load: shape (n, 1).
        weights: shape (N_WEIGHTS,), or (N_WEIGHTS, n, 1) for weights that differ by user.
    """
    total: Floats = np.zeros(found[0].shape, dtype=np.float32)
    for column, w, v in zip(found, weights[: len(found)], weights[len(found) :], strict=True):
        if np.any(w) or np.any(v):
            total += column * (w + v * load).astype(np.float32)
    return total


def _place(name: str) -> int:
    return ITEM_FACTS.index(name) - len(ITEM_FACTS)


def _position(items: Float32s) -> int:
    n_dims: int = items.shape[-1] - len(ITEM_FACTS)
    return n_dims + N_TOPICS + USER_FACTS.index("position")


RIDGE = 10.0
EXPLORED = 0.3
N_FITS = 3


def tune_myopic(
    preset: Preset, learns: EvaluationUsers, judged: EvaluationUsers, n_turns: int, seed: int
) -> WeightedRanking:
    """Return the fit of a myopic bandit under which a card earns most.

    Args:
        judged: other simulated users, for the choice of a fit.
        n_turns: cards of each for each fit.
    """
    fits = fit_myopic(preset, learns, n_turns, seed)
    earned = [evaluation_rollouts(preset, fit.open(seed), judged).reward_a_card() for fit in fits]
    return fits[int(np.argmax(earned))]


def fit_myopic(
    preset: Preset, users: EvaluationUsers, n_turns: int, seed: int
) -> list[WeightedRanking]:
    """Return a myopic bandit's fits, first to last, each after n_turns cards of every user."""
    fits: list[WeightedRanking] = []
    log: list[tuple[Floats, Floats]] = []
    for k in range(N_FITS):
        log.append(_log(preset, users, fits[-1] if fits else None, n_turns, seed + k))
        rows, rewards = (np.concatenate(part) for part in zip(*log, strict=True))
        fits.append(
            WeightedRanking((*_regress(rows, rewards).tolist(), *named_weights()[len(COLUMNS) :]))
        )
    return fits


def _log(
    preset: Preset, users: EvaluationUsers, served: WeightedRanking | None, n_turns: int, seed: int
) -> tuple[Floats, Floats]:
    """Return columns of shown cards, shape (m, columns), and their rewards, (m,)."""
    env = SwipeVectorEnv(users.n_places, preset=preset, n_candidates=users.n_candidates, copy=False)
    observation, _ = env.reset(seed=users.first)
    rng, at = np.random.default_rng(seed), np.arange(users.n_places)
    choose = RandomRanking().open(seed) if served is None else served.open(seed)
    rows, rewards, was_over = [], [], np.zeros(users.n_places, dtype=np.bool_)
    for _ in range(n_turns):
        found, _ = columns(observation)
        explores = rng.random(len(at)) < EXPLORED
        shown = np.where(
            explores,
            rng.integers(users.n_candidates, size=len(at)),
            choose(observation, env.swiping),
        )
        row = np.stack([column[at, shown] for column in found], axis=1)
        observation, reward, terminated, truncated, _ = env.step(shown)
        rows.append(row[~was_over])
        rewards.append(reward[~was_over])
        was_over = terminated | truncated
    return np.concatenate(rows), np.concatenate(rewards)


def _regress(rows: Floats, rewards: Floats) -> Floats:
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    spread = np.maximum(centred.std(axis=0), 1e-9)
    design = centred / spread
    gram = design.T @ design + RIDGE * np.eye(len(spread))
    slopes = np.linalg.solve(gram, design.T @ (rewards - rewards.mean()))
    return np.asarray(slopes / spread)
