"""The sequential test of uploads: a Bayesian decision on the uplift of each.

`Verdicts` learns how uplifts vary between uploads and computes the posterior probability that an
upload exceeds the bar of its stage, on which it is promoted, tested further or demoted. Model,
frequentist caveat and rejected alternatives: `docs/decisions/rollout-tests.md`.
"""

import math
from enum import Enum

import msgspec

from env.fair_start.evidence import N_NODES, Evidence, Summary, add_uplift, move_uplift, summarise
from env.fair_start.settings import Pools

LOOK_EVERY = 10
"""Rewards between two test decisions on an upload, for every hundred that it had."""

_NOISE_SD = 0.7
_NOISE_WEIGHT = 100.0
_TAU_OF_NOISE = 0.17
_PRIOR_UPLOADS = 20.0
_PRIOR_OF_MU = 3.0
"""Small, as little is known beforehand of uploads relative to items that a policy chose."""

_LEAST_TAU = 0.25
"""Lower bound of tau relative to the prior: without variation there would be nothing to test."""

_REFRESH_EVERY = 256
_FADE_AT = 65_536.0
"""Rewards after which the histogram is halved, so that the average may drift."""

_FADE_UPLOADS_AT = 4_096.0


class RolloutDecision(Enum):
    """A test decision on an upload."""

    PROMOTE = "promote"
    WAIT = "wait"
    GIVE_UP = "give up"
    """It stays in its pool, but its remaining test impressions could hardly change that."""
    SEND_BACK = "send back"


class Posterior(msgspec.Struct, frozen=True):
    """Posterior of an upload's uplift."""

    mean: float
    sd: float
    chance: float


class Verdicts(msgspec.Struct, array_like=True, tag="verdicts/1"):
    """Statistics of uplift over all items and uploads, and the test that uses them."""

    trim: float  # see `Guards`
    # histogram of all uplifts, see `env.fair_start.evidence`
    nodes: list[float] = msgspec.field(default_factory=lambda: [0.0] * N_NODES)
    n_since: int = 0  # rewards since `centre` and `noise` were computed from it
    centre: float = 0.0  # trimmed mean of all uplifts
    noise: float = _NOISE_SD**2  # variance of one reward around it
    n_uploads: float = 0.0  # uploads behind `mu` and `tau`, with the sums over them
    sum_uplift: float = 0.0
    sum_squares: float = 0.0
    sum_error: float = 0.0

    @property
    def mu(self) -> float:
        """Mean uplift of uploads."""
        return self.sum_uplift / (self.n_uploads + _PRIOR_OF_MU)

    @property
    def tau(self) -> float:
        """Standard deviation of uplift between uploads."""
        prior = _TAU_OF_NOISE**2 * self.noise
        n, mu = self.n_uploads, self.mu
        about_mu = self.sum_squares - 2.0 * mu * self.sum_uplift + n * mu * mu
        estimate = (_PRIOR_UPLOADS * prior + about_mu - self.sum_error) / (_PRIOR_UPLOADS + n)
        return math.sqrt(max(estimate, _LEAST_TAU**2 * prior))

    def learn(self, uplift: float) -> None:
        """Count the uplift of any item, for the average."""
        add_uplift(self.nodes, uplift)
        self.n_since += 1
        if self.n_since >= _REFRESH_EVERY or self.n_since & (self.n_since - 1) == 0:
            self._refresh()

    def correct(self, before: float, after: float) -> None:
        """Replace a counted uplift of any item by another one."""
        move_uplift(self.nodes, before, after)

    def meet(self, evidence: Evidence) -> None:
        """Count an upload in the distribution of uplift between uploads."""
        summary = summarise(evidence.nodes, self.trim)
        uplift = summary.mean - self.centre
        self.n_uploads += 1.0
        self.sum_uplift += uplift
        self.sum_squares += uplift * uplift
        self.sum_error += self.noise / summary.n
        if self.n_uploads >= _FADE_UPLOADS_AT:
            self.n_uploads *= 0.5
            self.sum_uplift *= 0.5
            self.sum_squares *= 0.5
            self.sum_error *= 0.5

    def posterior(self, evidence: Evidence, bar: float) -> Posterior:
        """Return the posterior of an upload's uplift, and the probability that it exceeds a bar.

        The bar is in standard deviations between uploads, above their mean; without evidence this
        is the prior.
        """
        summary = summarise(evidence.nodes, self.trim) if evidence.nodes else Summary(0.0, 0.0, 0.0)
        mu, tau = self.mu, self.tau
        weight = summary.n / self.noise
        precision = 1.0 / tau**2 + weight
        mean = (mu / tau**2 + weight * (summary.mean - self.centre)) / precision
        z = (mean - mu - bar * tau) * math.sqrt(precision)
        return Posterior(mean, precision**-0.5, 0.5 * math.erfc(-z / math.sqrt(2.0)))

    def judge(
        self, evidence: Evidence, level: int, pools: Pools, *, tested: bool = True
    ) -> RolloutDecision:
        """Return the decision on an upload.

        Args:
            evidence: of the upload.
            level: highest level reached: its bar promotes, that of the level below demotes.
            pools: bars and probabilities.
            tested: whether the test impressions of its pool were delivered.
        """
        good = self.posterior(evidence, pools.bars[level]).chance
        if good > (pools.promote[level] if tested else max(pools.early, pools.promote[level])):
            return RolloutDecision.PROMOTE
        if self.posterior(evidence, pools.bars[max(level - 1, 0)]).chance < pools.demote:
            return RolloutDecision.SEND_BACK
        return RolloutDecision.WAIT if good >= pools.hopeless else RolloutDecision.GIVE_UP

    def _refresh(self) -> None:
        summary = summarise(self.nodes, self.trim)
        self.centre = summary.mean
        prior = _NOISE_WEIGHT * _NOISE_SD**2
        self.noise = (prior + summary.n * summary.variance) / (_NOISE_WEIGHT + summary.n)
        if self.n_since >= _REFRESH_EVERY:
            self.n_since = 0
        if summary.n >= _FADE_AT:
            self.nodes = [0.5 * weight for weight in self.nodes]
