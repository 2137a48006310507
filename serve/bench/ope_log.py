"""Synthetic logs whose candidates are always the same, as dense arrays.

One decision a row, one candidate a column: the form in which the Open Bandit Pipeline takes its
data, so that both sides of a comparison begin with the same bytes. The reward model is given, with
an error of its own: what it costs to fit one is no part of an estimator.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from env.vocabulary import Floats, Ints
from policies.pmfs import draw, softmax
from replay.columns import Columns, Predictions
from replay.mips import Marginal, marginalise

Kind = Literal["mixed", "certain"]
N_DIMS = 8
ROWS_A_USER = 10
N_CLUSTERS = 5
_BLOCK = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class DenseLog:
    """n decisions among the same K candidates."""

    user: Ints  # (n,) codes of people
    action: Ints  # (n,) in [0, K)
    reward: Floats  # (n,) 0 or 1
    propensity: Floats  # (n,) of the action, in (0, 1]
    logging: Floats  # (n, K) pmf of the logging policy
    target: Floats  # (n, K) pmf of the target policy
    predicted: Floats  # (n, K) what a reward model says
    cluster: Ints  # (K,) of each candidate

    def columns(self) -> Columns:
        """Return what estimators read, checked."""
        return Columns(self.user, self.reward, self.propensity, self.chosen(self.target))

    def predictions(self) -> Predictions:
        """Return what the model says of the logged actions and of the target's, checked."""
        direct = np.einsum("ik,ik->i", self.target, self.predicted)
        return Predictions(self.chosen(self.predicted), direct)

    def marginal(self) -> Marginal:
        """Return how likely both policies were to choose something of the action's cluster."""
        return marginalise(self.action, self.cluster, self.logging, self.target)

    def chosen(self, table: Floats) -> Floats:
        """Return what a table, shape (n, K), holds of the logged actions, shape (n,)."""
        # Half the time of table[rows, action].
        n, n_actions = table.shape
        return np.asarray(table.reshape(-1).take(np.arange(n) * n_actions + self.action))

    def save(self, folder: Path) -> None:
        """Write each array to a file of its name in a folder that is there."""
        for name in self.__slots__:
            np.save(folder / f"{name}.npy", getattr(self, name))


def make_log(n: int, n_actions: int, kind: Kind, seed: int) -> DenseLog:
    """Return a log of n decisions of people who make `ROWS_A_USER` each.

    The reward is Bernoulli with log-odds linear in a context of `N_DIMS` numbers, half of which is
    the person's own. Logs are "mixed" (both policies soft, the target sharper and not quite of the
    same mind) or "certain" (a uniform log and a target that is sure, where replay is at home).

    Args:
        n: decisions.
        n_actions: K.
        kind: of the policies.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((2, n_actions, N_DIMS)) / np.sqrt(N_DIMS)
    error = 0.3 * rng.standard_normal(n_actions)
    logging, target, predicted = (np.empty((n, n_actions)) for _ in range(3))
    action, reward = np.empty(n, dtype=np.int64), np.empty(n)
    user = np.arange(n) // ROWS_A_USER
    own = rng.standard_normal((int(user[-1]) + 1, N_DIMS))
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        context = (own[user[rows]] + rng.standard_normal(own[user[rows]].shape)) / np.sqrt(2.0)
        log_odds = 2.0 * context @ effects[0].T - 0.5
        wanted = log_odds + context @ effects[1].T
        logging[rows], target[rows] = _policies(log_odds, wanted, kind)
        predicted[rows] = _logistic(0.8 * log_odds + error)
        action[rows] = draw(logging[rows], rng)
        truth = _logistic(log_odds)[np.arange(len(log_odds)), action[rows]]
        reward[rows] = rng.random(len(truth)) < truth
    propensity = logging[np.arange(n), action]
    cluster = np.arange(n_actions) % N_CLUSTERS
    return DenseLog(user, action, reward, propensity, logging, target, predicted, cluster)


def _policies(log_odds: Floats, wanted: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Return the pmfs of logging and target policy, each shape (m, K)."""
    match kind:
        case "mixed":
            return softmax(log_odds, 2.0, 0.2), softmax(wanted)
        case "certain":
            uniform = np.full_like(log_odds, 1.0 / log_odds.shape[1])
            return uniform, np.eye(log_odds.shape[1])[wanted.argmax(axis=1)]


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
