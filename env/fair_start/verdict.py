"""Whether an upload is good enough for the next pool: a Bayesian sequential test of its uplift.

The uplift of an upload is the trimmed mean of its evidence less that of all uplifts. Between
uploads it is N(mu, tau^2); n impressions tell it with the variance v = s^2 / n, s^2 pooled over
all uplifts; so it is N((mu / tau^2 + d / v) / p, 1 / p) with p = 1 / tau^2 + 1 / v (Gelman et al.,
"Bayesian Data Analysis", 3rd ed., section 2.5). The test asks for the chance that it exceeds
mu + bar * tau. A posterior means the same however often it was looked at, so among the promoted
that part is above the bar that their chances said (Berger, "Statistical Decision Theory and
Bayesian Analysis", 2nd ed., 1985, section 7.7); but the part of the unworthy ones that ever are
promoted grows with the looks, as in any sequential test.

mu and tau^2 are estimated by moments from all uploads, each at its first `at_least` rewards, when
nothing was selected yet, with priors that weigh as much as `_PRIOR_OF_MU` and `_PRIOR_UPLOADS`.

Rejected: a fixed threshold on the mean (science has it pass what was lucky early), and the noise
of each upload's own rewards (estimated from 100 of them, it is itself what is lucky).
"""

import math
from enum import Enum

import msgspec

from env.fair_start.evidence import N_NODES, Evidence, Summary, add_uplift, summarise
from env.fair_start.settings import Pools

LOOK_EVERY = 10
"""Rewards of an upload between two looks at it, by every hundred that it had."""

_NOISE_SD = 0.7

_NOISE_WEIGHT = 100.0

_TAU_OF_NOISE = 0.17

_PRIOR_UPLOADS = 20.0

_PRIOR_OF_MU = 3.0
"""How uploads compare with what a policy chose to show is hardly known beforehand."""

_LEAST_TAU = 0.25
"""Of the prior tau: with no difference between uploads at all there would be nothing to test."""

_REFRESH_EVERY = 256

_FADE_AT = 65_536.0
"""Rewards after which all uplifts are halved, so that what is ordinary may change."""

_FADE_UPLOADS_AT = 4_096.0


class Verdict(Enum):
    """What becomes of an upload."""

    PROMOTE = "promote"
    WAIT = "wait"
    GIVE_UP = "give up"
    """It stays where it is, but what its test still owes could hardly change that."""
    SEND_BACK = "send back"


class Posterior(msgspec.Struct, frozen=True):
    """What is believed of an upload's uplift."""

    mean: float
    sd: float
    chance: float


class Verdicts(msgspec.Struct, array_like=True, tag="verdicts/1"):
    """What is known of uplifts in general, and the test that uses it.

    Attributes:
        trim: see `Guards`.
        nodes: histogram of all uplifts, `env.fair_start.evidence`.
        n_since: rewards since `centre` and `noise` were taken from it.
        centre: trimmed mean of all uplifts.
        noise: variance of one reward around it.
        n_uploads: that `mu` and `tau` come from, with the sums over them.
    """

    trim: float
    nodes: list[float] = msgspec.field(default_factory=lambda: [0.0] * N_NODES)
    n_since: int = 0
    centre: float = 0.0
    noise: float = _NOISE_SD**2
    n_uploads: float = 0.0
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
        """Count the uplift of any item, which tells what is ordinary."""
        add_uplift(self.nodes, uplift)
        self.n_since += 1
        if self.n_since >= _REFRESH_EVERY or self.n_since & (self.n_since - 1) == 0:
            self._refresh()

    def meet(self, evidence: Evidence) -> None:
        """Count an upload among those that tell how uploads differ."""
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
        """Return what is believed of an upload, and the chance that it exceeds a bar.

        Args:
            evidence: of the upload; none gives the prior.
            bar: in standard deviations between uploads, above their mean.
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
    ) -> Verdict:
        """Return what becomes of an upload that came as far as a level.

        Args:
            evidence: of the upload.
            level: whose bar it has to pass, and below which it must not have been.
            pools: bars and chances.
            tested: whether it had the impressions that it is owed there.
        """
        good = self.posterior(evidence, pools.bars[level]).chance
        if good > (pools.promote[level] if tested else max(pools.early, pools.promote[level])):
            return Verdict.PROMOTE
        if self.posterior(evidence, pools.bars[max(level - 1, 0)]).chance < pools.demote:
            return Verdict.SEND_BACK
        return Verdict.WAIT if good >= pools.hopeless else Verdict.GIVE_UP

    def _refresh(self) -> None:
        summary = summarise(self.nodes, self.trim)
        self.centre = summary.mean
        prior = _NOISE_WEIGHT * _NOISE_SD**2
        self.noise = (prior + summary.n * summary.variance) / (_NOISE_WEIGHT + summary.n)
        if self.n_since >= _REFRESH_EVERY:
            self.n_since = 0
        if summary.n >= _FADE_AT:
            self.nodes = [0.5 * weight for weight in self.nodes]
