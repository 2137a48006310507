"""The Open Bandit Dataset's logs and the distributions of its two policies, each loaded once.

The distribution of Bernoulli Thompson Sampling is approximated by draws from its production priors,
as in obp: each draw takes a click rate per item from its Beta prior and shows the three largest,
left to right.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from env.vocabulary import Floats
from serve.importers.obd import (
    BEHAVIOURS,
    CAMPAIGNS,
    N_POSITIONS,
    Behaviour,
    Campaign,
    ObdLog,
    Prior,
    is_there,
    read_log,
    read_prior,
)

DRAWS = 100_000
"""Number of draws in the publication."""
SEED = 12_345

_BLOCK = 10_000


class ThompsonSampling:
    """Frequencies of each item at each position under Thompson Sampling."""

    def __init__(self, prior: Prior) -> None:
        # The published figures need the stream of this legacy generator.
        self._rng = np.random.RandomState(SEED)
        self._prior = prior
        self._counts = np.zeros((len(prior), N_POSITIONS))
        self._draws = 0

    def pmf(self, draws: int) -> Floats:
        """Return the frequencies after `draws` draws, shape (K, 3), continuing earlier draws.

        Raises:
            ValueError: more were drawn already.
        """
        if draws < self._draws:
            raise ValueError(f"expected at least {self._draws} draws, got {draws}")
        while self._draws < draws:
            n = min(_BLOCK, draws - self._draws)
            theta = self._rng.beta(self._prior.alpha, self._prior.beta, (n, len(self._prior)))
            ranking = np.argsort(theta, axis=1)[:, ::-1]
            for position in range(N_POSITIONS):
                counts = np.bincount(ranking[:, position], minlength=len(self._prior))
                self._counts[:, position] += counts
            self._draws += n
        return self._counts / self._draws


class ObdFolder:
    """A folder of the dataset; each file is read once, on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._priors: dict[Campaign, Prior] = {}
        self._logs: dict[tuple[Campaign, Behaviour], ObdLog] = {}
        self._sampling: dict[Campaign, ThompsonSampling] = {}
        self._pmfs: dict[tuple[Campaign, int], Floats] = {}

    def settings(self) -> Iterator[tuple[Campaign, Behaviour, Behaviour]]:
        """Yield campaign, behaviour and target of each setting with a log."""
        for campaign in CAMPAIGNS:
            for behaviour in BEHAVIOURS:
                if is_there(self.path, campaign, behaviour):
                    yield campaign, behaviour, "bts" if behaviour == "random" else "random"

    def prior(self, campaign: Campaign) -> Prior:
        """Return the priors of a campaign's items.

        Raises:
            BadFile: there are none.
        """
        if campaign not in self._priors:
            self._priors[campaign] = read_prior(self.path, campaign)
        return self._priors[campaign]

    def log(self, campaign: Campaign, behaviour: Behaviour) -> ObdLog:
        """Return the log of a campaign under a policy.

        Raises:
            BadFile: it is missing or invalid.
        """
        key = (campaign, behaviour)
        if key not in self._logs:
            n_items = len(self.prior(campaign))
            self._logs[key] = read_log(self.path, campaign, behaviour, n_items)
        return self._logs[key]

    def pmf(self, campaign: Campaign, policy: Behaviour, draws: int = DRAWS) -> Floats:
        """Return a policy's probability of each item at each position, shape (K, 3).

        Raises:
            BadFile: the priors are missing.
            ValueError: fewer draws than requested before.
        """
        prior = self.prior(campaign)
        if policy == "random":
            return np.full((len(prior), N_POSITIONS), 1.0 / len(prior))
        key = (campaign, draws)
        if key not in self._pmfs:
            sampling = self._sampling.setdefault(campaign, ThompsonSampling(prior))
            self._pmfs[key] = sampling.pmf(draws)
        return self._pmfs[key]
