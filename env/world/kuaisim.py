"""KuaiSim's equations of answers, exits and returns, for comparing methods in its setting.

Zhao et al., "KuaiSim: A Comprehensive Simulator for Recommender Systems", NeurIPS 2023 Datasets and
Benchmarks. The constants, and details that the paper leaves open, follow its public code, and that
of GFN4Retention for the variant of that name. Two parts that were not published are replaced.

Equations, replacements and known properties: `docs/decisions/world-kuaisim.md`.
"""

import msgspec
import numpy as np
from msgspec.structs import replace

from env.arrays.reals import sum_rows
from env.arrays.validate import require_not_negative, require_positive, require_probabilities
from env.feedback import SIMULATED_EVENTS
from env.reward import Reward
from env.vocabulary import Floats

SIGNALS = SIMULATED_EVENTS
"""KuaiSim's is_click, long_view, is_like, is_comment, is_forward, is_follow, is_hate."""

PURE_WEIGHTS = {
    "valid_play": 0.851,
    "long_view": 0.497,
    "like": 0.0188,
    "comment": 0.00255,
    "share": 0.00096,
    "follow": 0.00108,
    "not_interested": -0.00049,
}
"""Positives for each negative in KuaiRand-Pure, with a minus for dislikes."""

TINY = 1e-30
LEAST_CHANCE, MOST_CHANCE = 0.001, 0.999


class KuaiSimLaws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the equations; the defaults are the setting across sessions."""

    weights: dict[str, float] = msgspec.field(default_factory=lambda: dict(PURE_WEIGHTS))
    slate: int = 6  # cards of a request
    correlation: float = 0.2  # rho, subtracted from each score per unit of similarity
    encoding_dims: int = 64  # size of KuaiSim's item encoding, by which its code divides a cosine
    temper: float = 5.0  # patience at the start of a session; below 1 the user leaves
    temper_loss: float = 1.0  # subtracted from it by a slate without reward
    temper_gain: float = 0.0  # given back of the loss per unit of a slate's reward
    sessions: int = 6  # of an episode
    return_base: float = 0.4  # b0, chance to return the next day without reward and bias
    return_slope: float = 0.1  # phi, added to it per unit of reward
    reward_decay: float = 0.0  # weight of the earlier reward in R; 0: the last slate alone counts
    reward_offset: float = 0.0  # subtracted from R
    reward_of_scores: bool = False  # compute the reward from scores instead of drawn events
    personal_sd: float = 0.579  # sqrt((1 + 1 / 192) / 3), of a PyTorch-initialised linear layer
    personal_scale: float | None = None  # None: normal bias; else this times s(normal)
    return_days: int = 10  # the longest gap

    def __post_init__(self) -> None:
        """Refuse invalid constants.

        Raises:
            ValueError: signals and weights do not match, or a size or share is out of range.
        """
        if set(self.weights) != set(SIGNALS):
            raise ValueError(f"expected a weight for each of {SIGNALS}, got {tuple(self.weights)}")
        require_positive(self, "slate", "encoding_dims", "sessions", "return_days", "temper_loss")
        require_probabilities(self, "correlation", "return_base", "reward_decay")
        require_not_negative(self, "temper_gain", "personal_sd")
        if self.temper < 1.0:
            raise ValueError(f"expected a temper of at least 1, or nobody stays, got {self.temper}")


def cross_session() -> KuaiSimLaws:
    """Return the setting across sessions: T0 = 5 and a loss of 1 a slate, so 5 requests a session.

    KuaiSim's code leaves out the penalty of similarity, which its scripts set; here it applies.
    """
    return KuaiSimLaws()


def whole_session() -> KuaiSimLaws:
    """Return the setting of one session, as in the scripts behind KuaiSim's table.

    T0 = 20 as in the scripts (the code's default is 10; only 20 gives the table's depths of 14 to
    15 requests), and only clicks are rewarded.
    """
    clicks = {name: 1.0 if name == "valid_play" else 0.0 for name in SIGNALS}
    return KuaiSimLaws(weights=clicks, temper=20.0, temper_loss=2.0, temper_gain=1.0, sessions=1)


def gfn4retention() -> KuaiSimLaws:
    """Return the variant of GFN4Retention's code, where the reward of all slates moves the return.

    Liu et al., "Modeling User Retention through Generative Flow Networks", KDD 2024.
    `log_scale_weights` describes its weight of a dislike.
    """
    return KuaiSimLaws(
        weights=log_scale_weights(PURE_WEIGHTS),
        return_slope=0.4,
        reward_decay=0.7,
        reward_offset=0.01,
        reward_of_scores=True,
        personal_scale=0.1,
    )


def log_scale_weights(weights: dict[str, float]) -> dict[str, float]:
    """Return softmax(1 - ln(w + .001)) over the signals, as in GFN4Retention's code.

    It is proportional to 1 / (w + .001), so the rarest signal weighs most; a dislike's small
    negative weight becomes the largest of all, and positive.

    >>> {k: round(w, 3) for k, w in log_scale_weights({"a": 0.099, "b": 0.003}).items()}
    {'a': 0.038, 'b': 0.962}
    """
    inverse = {name: 1.0 / (weight + 0.001) for name, weight in weights.items()}
    total = sum(inverse.values())
    return {name: value / total for name, value in inverse.items()}


def reward_of(laws: KuaiSimLaws) -> Reward:
    """Return the reward of a card whose sum over a slate is `slate_reward`."""
    shares = {name: weight / laws.slate for name, weight in laws.weights.items()}
    return replace(Reward(product_click=0.0), **shares)


def similarity(vectors: Floats, encoding_dims: int) -> Floats:
    """Return each card's similarity to its slate, itself included, shape (m, n).

    `vectors` has shape (n_dims, m, n); zeros give similarity 0.
    """
    unit = vectors / np.sqrt(np.maximum(sum_rows(vectors * vectors), TINY))
    centre = sum_rows(unit.swapaxes(0, 1))
    return np.asarray(sum_rows(unit * centre[:, None]) / (vectors.shape[1] * encoding_dims))


def penalised(laws: KuaiSimLaws, scores: Floats, similar: Floats) -> Floats:
    """Return the chances of the signals in a slate, (7, m, n): max(score - rho c, 0)."""
    return np.asarray(np.maximum(scores - laws.correlation * similar, 0.0))


def slate_reward(laws: KuaiSimLaws, events: Floats) -> Floats:
    """Return the mean over a slate's cards of sum_b w_b y_b, (n,), of events of shape (7, m, n)."""
    weights = np.array([laws.weights[name] for name in SIGNALS])[:, None, None]
    return np.asarray(sum_rows(sum_rows(events * weights)) / events.shape[1])


def cool(laws: KuaiSimLaws, temper: Floats, reward: Floats) -> Floats:
    """Return temper after a slate: T + clip(gain r - loss, -loss, 0); below 1 the user leaves."""
    change = laws.temper_gain * reward - laws.temper_loss
    return np.asarray(temper + np.clip(change, -laws.temper_loss, 0.0))


def remember(laws: KuaiSimLaws, remembered: Floats, reward: Floats) -> Floats:
    """Return R, the reward that moves the return, after a slate: a R + (1 - a) r."""
    return np.asarray(laws.reward_decay * remembered + (1.0 - laws.reward_decay) * reward)


def personal_bias(laws: KuaiSimLaws, normal: Floats) -> Floats:
    """Return users' personal biases of the chance to return, from standard normal numbers."""
    drawn = laws.personal_sd * normal
    if laws.personal_scale is None:
        return drawn
    return laws.personal_scale / (1.0 + np.exp(-drawn))


def next_day_chance(laws: KuaiSimLaws, remembered: Floats, bias: Floats) -> Floats:
    """Return P = clip(b0 + phi (R - offset) + bias, .001, .999)."""
    chance = laws.return_base + laws.return_slope * (remembered - laws.reward_offset) + bias
    return np.asarray(np.clip(chance, LEAST_CHANCE, MOST_CHANCE))


def return_day_chances(laws: KuaiSimLaws, chance: Floats) -> Floats:
    """Return the chance of a return after 1, 2, .. days, shape (return_days, n).

    Proportional to P (1 - P)^(d - 1): all users return within `return_days`.
    """
    days = np.arange(laws.return_days)[:, None]
    shares = chance * (1.0 - chance) ** days
    return np.asarray(shares / sum_rows(shares))


def return_days(laws: KuaiSimLaws, chance: Floats, uniform: Floats) -> Floats:
    """Draw days until the return by inversion: whole numbers in [1, return_days], shape (n,)."""
    stay = 1.0 - chance
    within = 1.0 - stay**laws.return_days
    days = np.floor(np.log1p(-uniform * within) / np.log(stay))
    return np.asarray(np.clip(1.0 + days, 1.0, laws.return_days))
