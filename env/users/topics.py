"""What one user's latest answers say about topics: a posterior under the user's own variances.

Signals of a user who means it agree within a topic and differ between topics. So both variances are
unknown here, with the crowd's prior, and the same like weighs more the more consistent the answers
are. Later answers about a topic displace earlier ones, so that it lets go as fast. Model, constants
and rejected alternatives: `docs/decisions/topic-posterior.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from env.vocabulary import Floats

MAX_ANSWERS = 48
"""Answers that are kept; the oldest of them weighs .09."""

CARD_DECAY = 0.95
"""A card: half of the weight is in the last 14."""

TOPIC_DECAY = 0.7
"""An answer about the same topic: half of the weight is in the last 2."""

MEAN_VARIANCE = 0.25
"""Prior variance of a user's mean signal."""

_NOISE = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
_BETWEEN = np.array([0.005, 0.02, 0.08, 0.3, 1.0])
TYPICAL_NOISE, NOISE_LOG_SD = 0.2, 1.0
"""The crowd's variance within a topic, and the spread of its logarithm between users."""

TYPICAL_BETWEEN, BETWEEN_LOG_SD = 0.4, 1.5
"""The same between the topics of a user."""


def _grid() -> tuple[Floats, Floats, Floats]:
    """Return variances within and between topics and the log of their prior, shape (g,) each."""
    noise, between = (part.ravel() for part in np.meshgrid(_NOISE, _BETWEEN))
    far = (np.log(noise / TYPICAL_NOISE) / NOISE_LOG_SD) ** 2
    far += (np.log(between / TYPICAL_BETWEEN) / BETWEEN_LOG_SD) ** 2
    return noise, between, -0.5 * far


GRID_NOISE, GRID_BETWEEN, GRID_LOG_PRIOR = _grid()


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A user's signal at one card of a topic."""

    key: int  # `env.records.item_key` of its item
    topic: str  # see `env.items.topics.topic_name`
    signal: float


Answers = tuple[Answer, ...]


def put_topic_answer(answers: Answers, answer: Answer, *, is_new: bool) -> Answers:
    """Return the answers with one more, or with the last one of its item corrected.

    Args:
        answers: oldest first, at most `MAX_ANSWERS`.
        is_new: whether nothing was said about this card before.
    """
    if is_new:
        return (*answers, answer)[-MAX_ANSWERS:]
    for k in range(len(answers) - 1, -1, -1):
        if answers[k].key == answer.key:
            return (*answers[:k], answer, *answers[k + 1 :])
    return answers  # it is older than those kept


LEAST_WEIGHT = 1e-6
"""Pairs of variances that are less likely are left out of probabilities."""


@dataclass(frozen=True, eq=False)
class TopicPosterior:
    """The posterior of a user's topic effects, beyond their mean signal; read-only.

    It is a mixture over g pairs of variances; given a pair, effects are normal.
    """

    names: tuple[str, ...]  # k topics that were answered, each once
    weights: Floats  # (g,) of the pairs, summing to 1
    means: Floats  # (g, k) of the effects
    variances: Floats  # (g, k) of the effects

    @property
    def mean(self) -> Floats:
        """The expected effect of each topic, shape (k,); that of any other topic is 0."""
        return np.asarray(np.einsum("g,gk->k", self.weights, self.means))

    @property
    def between(self) -> float:
        """The expected variance of effects between topics."""
        return float(np.einsum("g,g->", self.weights, GRID_BETWEEN))

    def chance_above(self, effect: float) -> Floats:
        """Return the probability that each topic's effect is above this one, shape (k,)."""
        likely = self.weights > LEAST_WEIGHT
        z = (self.means[likely] - effect) / np.sqrt(2.0 * self.variances[likely])
        above = np.array([[0.5 * math.erfc(-v) for v in row] for row in z.tolist()])
        return np.asarray(np.einsum("g,gk->k", self.weights[likely], above.reshape(z.shape)))


@lru_cache(maxsize=256)
def topic_posterior(answers: Answers) -> TopicPosterior:
    """Return the posterior of topic effects; the oldest answer comes first.

    With signals y = m + theta_k + e, m ~ N(0, MEAN_VARIANCE), theta_k ~ N(0, tau^2) and
    e ~ N(0, sigma^2), an answer's likelihood is raised to its weight, see `weights_of`.
    """
    known = [answer for answer in answers if answer.topic]
    names = tuple(dict.fromkeys(answer.topic for answer in known))
    place = np.array([names.index(answer.topic) for answer in known], dtype=np.int64)
    signal = np.array([answer.signal for answer in known])
    weight = weights_of([answer.topic for answer in known])
    n, total, squares = np.zeros((3, len(names)))
    np.add.at(n, place, weight)
    np.add.at(total, place, weight * signal)
    np.add.at(squares, place, weight * signal**2)
    mean: Floats = total / n
    return _posterior(names, n, mean, float(np.add.reduce(np.maximum(squares - n * mean**2, 0.0))))


def weights_of(topics: Sequence[str]) -> Floats:
    """Return the weight of each answer, shape (n,); the latest weighs 1.

    It is CARD_DECAY^(later cards) * TOPIC_DECAY^(later cards of its topic).
    """
    later: dict[str, int] = {}
    weights = np.empty(len(topics))
    for age, topic in enumerate(reversed(topics)):
        weights[-1 - age] = CARD_DECAY**age * TOPIC_DECAY ** later.get(topic, 0)
        later[topic] = later.get(topic, 0) + 1
    return weights


def _posterior(names: tuple[str, ...], n: Floats, mean: Floats, squares: float) -> TopicPosterior:
    """Return the posterior from each topic's weight and mean, (k,), and squares within topics."""
    noise, between = GRID_NOISE[:, None], GRID_BETWEEN[:, None]
    spread = between + noise / n  # of a topic's mean around the user's, (g, k)
    precision = 1.0 / MEAN_VARIANCE + np.add.reduce(1.0 / spread, axis=1)
    usual = np.add.reduce(mean / spread, axis=1) / precision  # (g,) the user's mean signal
    fit = np.add.reduce(np.log(noise / n) - np.log(spread) - mean**2 / spread, axis=1)
    log_weight = GRID_LOG_PRIOR + 0.5 * (
        fit
        + usual**2 * precision
        - np.log(precision)
        - np.add.reduce(n) * np.log(GRID_NOISE)
        - squares / GRID_NOISE
    )
    weights = np.exp(log_weight - log_weight.max())
    kept = between / spread  # share of a deviation that is the topic's
    return TopicPosterior(
        names,
        weights / np.add.reduce(weights),
        kept * (mean - usual[:, None]),
        kept * noise / n + kept**2 / precision[:, None],
    )
