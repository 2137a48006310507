"""Linear bandits with an intercept an item: LinUCB and Thompson sampling, to compare with.

Both know the exact posterior of `tests.studies.peers.linear`. LinUCB ranks by mean + width * sd
(Li, Chu, Langford and Schapire, WWW 2010). Thompson sampling shows a candidate with the probability
that it is the best under the posterior (Agrawal and Goyal, "Thompson Sampling for Contextual
Bandits with Linear Payoffs", ICML 2013, who widen the posterior likewise). Policies never sample
here, so that probability is computed, from each candidate's mean and sd as if they were
independent:

    p_i = integral of phi_i(y) prod_{j != i} Phi_j(y) dy

and handed to the explorer as a logarithm, so that on a page it is renormalised over what is left.

Rejected: drawing the weights (a propensity would be an average over draws, known to no more than
their number allows), and the joint law of the candidates (its integral has as many dimensions as
there are candidates; what they share, the error of common weights, is small by the time it counts).
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.arrays.reals import normal_tail
from env.columns.schema import DYNAMIC, N_SHARED, SHARED, STATIC
from env.records import unpack_halves
from env.vocabulary import Bools, Context, Float32s, Floats, Interaction, Ints, Keys
from policies.explorers import AnyExplorer, Greedy, Softmax, explorer_args

_CAPACITY = 256


class LinearPosterior:
    """The posterior; a deterministic fold of the rewards it is told of."""

    def __init__(self, prior_sds: Floats, item_sd: float, noise_sd: float) -> None:
        """Know nothing but the prior.

        Args:
            prior_sds: of the fixed columns' weights, shape (p,), above 0.
            item_sd: of the items' intercepts, above 0.
            noise_sd: of a reward around its expectation, above 0.
        """
        self._noise_var = noise_sd * noise_sd
        self._least = self._noise_var / (item_sd * item_sd)
        self._precision: Floats = np.diag(self._noise_var / (prior_sds * prior_sds))
        self._target: Floats = np.zeros(len(prior_sds))
        self._rows: dict[int, int] = {}
        self._sums: Floats = np.zeros((_CAPACITY, len(prior_sds)))  # of the columns, a row an item
        self._totals: Floats = np.zeros(_CAPACITY)  # of the rewards
        self._counts: Floats = np.zeros(_CAPACITY)
        self._solved: tuple[Floats, Floats] | None = None

    def fold(self, x: Floats, key: int, reward: float) -> None:
        """Learn a reward.

        Args:
            x: the fixed columns, shape (p,).
            key: of the item.
            reward: finite.
        """
        row = self._row(key)
        depth = self._least + self._counts[row]
        gap = x - self._sums[row] / depth
        weight = depth / (depth + 1.0)
        self._precision += weight * gap[:, None] * gap
        self._target += weight * (reward - self._totals[row] / depth) * gap
        self._sums[row] += x
        self._totals[row] += reward
        self._counts[row] += 1.0
        self._solved = None

    def moments(self, x: Floats, keys: Keys) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each candidate's expected reward, shape (n,).

        Args:
            x: the fixed columns, shape (n, p).
            keys: of the items, shape (n,); an unknown one has the prior's intercept.
        """
        beta, covariance = self._solution()
        rows = self._rows_of(keys)
        depth = self._least + self._counts[rows]
        gap = x - self._sums[rows] / depth[:, None]
        mean = gap @ beta + self._totals[rows] / depth
        variance = self._noise_var * (1.0 / depth + ((gap @ covariance) * gap).sum(axis=1))
        return np.asarray(mean), np.sqrt(variance)

    def _solution(self) -> tuple[Floats, Floats]:
        if self._solved is None:
            inverse: Floats = np.asarray(np.linalg.inv(self._precision), dtype=np.float64)
            self._solved = inverse @ self._target, inverse
        return self._solved

    def _rows_of(self, keys: Keys) -> Ints:
        return np.array([self._rows.get(key, 0) for key in keys.tolist()], dtype=np.int64)

    def _row(self, key: int) -> int:
        """Return the item's row; row 0 is that of all items without a reward."""
        row = self._rows.setdefault(key, len(self._rows) + 1)
        if row == len(self._counts):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        return row


MATCH = (
    "long_match",
    "session_match",
    "tag_affinity",
    "creator_affinity",
    "followed",
    "same_country",
    "same_language",
)
"""Columns of a candidate that are of user and item together."""

LEAST_CHANCE = 1e-30
_NODES = np.linspace(-6.0, 6.0, 17)


class LinearArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a linear bandit believes before it learns, and how wide it explores.

    Attributes:
        columns: of SHARED, STATIC and DYNAMIC, that rewards are linear in; a constant is added.
        width: standard deviations by which LinUCB is optimistic, or by which Thompson's posterior
            is widened; at least 0, and above 0 for Thompson.
        weight_sd: of the columns' weights, above 0.
        constant_sd: of the constant, above 0.
        item_sd: of the items' intercepts, above 0.
        noise_sd: of a reward around its expectation, above 0.
    """

    columns: tuple[str, ...] = (*MATCH, *STATIC)
    width: float = 1.0
    weight_sd: float = 0.3
    constant_sd: float = 1.0
    item_sd: float = 0.1
    noise_sd: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no prior.

        Raises:
            ValueError: a column is unknown, or a number is out of range.
        """
        unknown = sorted({*self.columns} - {*SHARED, *STATIC, *DYNAMIC})
        if unknown:
            raise ValueError(f"expected columns of env.columns.schema, got {', '.join(unknown)}")
        if not 0.0 <= self.width < np.inf:
            raise ValueError(f"width must be at least 0 and finite, got {self.width}")
        for name in ("weight_sd", "constant_sd", "item_sd", "noise_sd"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")


class _LinearPolicy:
    """What both linear bandits share: columns in, the posterior's moments out."""

    def __init__(self, args: LinearArgs, explorer: AnyExplorer) -> None:
        names = (*SHARED, *STATIC, *DYNAMIC)
        places = np.array([names.index(name) for name in args.columns], dtype=np.int64)
        self._shared: Ints = places[places < N_SHARED]
        self._action: Ints = places[places >= N_SHARED] - N_SHARED
        self._explorer = explorer
        sds = np.full(1 + len(places), args.weight_sd)
        sds[0] = args.constant_sd
        self._posterior = LinearPosterior(sds, args.item_sd, args.noise_sd)

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Learn from these interactions, in this order."""
        for interaction in interactions:
            shared = unpack_halves(interaction.shared)
            action = unpack_halves(interaction.action)
            x = self._columns(shared, action[None, :])[0]
            self._posterior.fold(x, interaction.item_key, interaction.reward)

    def _moments(self, context: Context) -> tuple[Floats, Floats]:
        features = context.features
        x = self._columns(features.shared, features.actions)
        return self._posterior.moments(x, features.keys)

    def _columns(self, shared: Float32s, actions: Float32s) -> Floats:
        """Return the constant, then shared, then candidates' columns, shape (n, p)."""
        n_shared = 1 + len(self._shared)
        x = np.ones((len(actions), n_shared + len(self._action)))
        x[:, 1:n_shared] = shared[self._shared]
        x[:, n_shared:] = actions[:, self._action]
        return x


class LinUcb(_LinearPolicy):
    """Ranks by an upper bound of the expected reward; a Learner."""

    name = "linucb@0"

    def __init__(self, args: LinearArgs | None = None, explorer: AnyExplorer | None = None) -> None:
        """Know nothing but the prior.

        Args:
            args: the default ones if None.
            explorer: greedy if None, as the algorithm has it.
        """
        args = args or LinearArgs()
        super().__init__(args, explorer or Greedy())
        self._width = args.width

    def score(self, context: Context) -> Floats:
        """Return mean + width * sd of each candidate, shape (n,)."""
        mean, sd = self._moments(context)
        return np.asarray(mean + self._width * sd)


class LinThompson(_LinearPolicy):
    """Shows a candidate as often as a Thompson sampler would; a Learner."""

    name = "lints@0"

    def __init__(self, args: LinearArgs | None = None) -> None:
        """Know nothing but the prior; the default arguments if None.

        Raises:
            ValueError: a width of 0.
        """
        args = args or LinearArgs()
        if args.width == 0.0:
            raise ValueError("width must be above 0 for Thompson sampling, got 0.0")
        super().__init__(args, Softmax(1.0))
        self._width = args.width

    def score(self, context: Context) -> Floats:
        """Return the logarithm of each candidate's chance to be the best, shape (n,)."""
        mean, sd = self._moments(context)
        return np.asarray(np.log(np.maximum(best_chances(mean, self._width * sd), LEAST_CHANCE)))


def best_chances(mean: Floats, sd: Floats) -> Floats:
    """Return the probability that each of independent normal variables is the greatest.

    The integral of this module by Simpson's rule between nodes of all variables together, so that
    wide and narrow ones are both resolved; within 1e-4, then scaled to sum to 1.
    A variable that lies 12 sds of its own and another's below that other one has 0.

    Args:
        mean: shape (n,).
        sd: shape (n,), above 0.

    >>> best_chances(np.array([0.0, 0.0]), np.array([1.0, 0.1])).round(3).tolist()
    [0.5, 0.5]
    """
    chances = np.zeros(len(mean))
    least = float((mean + _NODES[0] * sd).max())
    live = mean + _NODES[-1] * sd > least
    mean, sd = mean[live, None], sd[live, None]
    nodes = np.sort((mean + sd * _NODES).ravel())
    nodes = nodes[nodes >= least]
    y = np.empty(2 * len(nodes) - 1)
    y[::2], y[1::2] = nodes, 0.5 * (nodes[1:] + nodes[:-1])
    z = (y - mean) / sd  # (n, nodes and middles)
    logs = np.log(np.maximum(1.0 - normal_tail(z), LEAST_CHANCE))
    density = np.exp(logs.sum(axis=0) - logs - 0.5 * z * z) / sd
    raw = density @ _simpson(np.diff(nodes))
    chances[live] = raw / raw.sum()
    return chances


def _simpson(steps: Floats) -> Floats:
    """Return Simpson's weights of nodes these steps apart and the middles between them."""
    weights = np.zeros(2 * len(steps) + 1)
    weights[:-2:2] += steps / 6.0
    weights[1::2] = steps * (4.0 / 6.0)
    weights[2::2] += steps / 6.0
    return weights
