"""The accounts of a simulated world: cohorts, tastes, languages, devices and visit habits.

A user follows from the key of their life alone: either drawn from a preset's population, or one of
a fitted world's accounts, drawn from the posterior of their own impressions. A table of all
accounts was rejected, since it would have to be as long as the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from env.arrays.draws import BIRTH, normals, uniforms
from env.vocabulary import Floats, Ints, Keys, Profile, UserId
from env.world.creators import LANGUAGES, pick
from env.world.generated import MARKETS
from env.world.presets import Preset
from env.world.supply import EVERYWHERE
from env.world.world import World

_TRAIT_LANE = 0
_TASTE_LANE = 16


@dataclass(frozen=True)
class UserTraits:
    """Columns over n accounts."""

    cohort: Ints  # (n,)
    country: Ints  # (n,)
    market: Ints  # (n,) of the local items that they are offered, or `EVERYWHERE`
    language: Ints  # (n,)
    device: Ints  # (n,)
    lean: Floats  # (n,) log-odds of engagement, cohort and device included
    taste: Floats  # (n_dims, n) mean of the drifting interests
    return_class: Floats  # (n,) chance to return the next day at neutral satisfaction
    peaks: Floats  # (2, n) hours of the two peaks of their visits
    tenure_days: Floats  # (n,) since they registered; 0 for newcomers

    def take(self, index: Ints) -> "UserTraits":
        """Return some of the accounts, shape (m,)."""
        return UserTraits(*(getattr(self, field.name)[..., index] for field in fields(UserTraits)))


class UserSource(Protocol):
    """Draws the accounts of lives, and names the classes that a server can observe."""

    cohorts: tuple[str, ...]
    countries: tuple[str, ...]
    languages: tuple[str, ...]
    devices: tuple[str, ...]
    n_dims: int

    def draw(self, keys: Keys) -> UserTraits:
        """Return the accounts of these lives; each depends on its key alone."""


class DrawnUsers:
    """Users drawn from a preset's population."""

    def __init__(self, preset: Preset) -> None:
        """Prepare the shares.

        Raises:
            ValueError: the shares of the preset's cohorts or devices do not sum to 1.
        """
        population = preset.population
        self._preset = preset
        self.cohorts = tuple(population.cohorts)
        self.countries = tuple(market.country for market in MARKETS)
        self.languages = LANGUAGES
        self.devices = tuple(population.devices)
        self.n_dims = preset.uploads.n_dims
        cohorts = tuple(population.cohorts.values())
        self._cohort_shares = _cumulated("cohorts", [c.share for c in cohorts])
        self._device_shares = _cumulated("devices", list(population.devices.values()))
        self._device_leans = np.array([population.device_leans.get(d, 0.0) for d in self.devices])
        weights = np.array([market.weight for market in MARKETS])
        self._market_shares = np.cumsum(weights / weights.sum())
        self._daily_share = np.array([c.daily_share for c in cohorts])
        self._lean = np.array([c.lean for c in cohorts])
        self._peaks = np.array([c.peak_hours for c in cohorts]).T
        self._spoken = _spoken_languages()
        self._n_spoken = np.array([len(market.languages) for market in MARKETS])

    def draw(self, keys: Keys) -> UserTraits:
        """See `UserSource.draw`."""
        population, priors = self._preset.population, self._preset.priors
        cards = np.full(len(keys), BIRTH)
        u = uniforms(keys, cards, _TRAIT_LANE, 8)
        z = normals(keys, cards, _TASTE_LANE, self.n_dims + 1)
        cohort = pick(self._cohort_shares, u[0])
        market = pick(self._market_shares, u[1])
        device = pick(self._device_shares, u[3])
        is_daily = u[4] < self._daily_share[cohort]
        daily, other = self._preset.moods.return_classes
        tenure_days = -population.tenure_days * np.log1p(-u[6])
        return UserTraits(
            cohort=cohort,
            country=market,
            market=market,
            language=self._spoken[market, (u[2] * self._n_spoken[market]).astype(np.int64)],
            device=device,
            lean=self._lean[cohort] + self._device_leans[device] + priors.lean_sd * z[-1],
            taste=priors.taste_sd * z[:-1],
            return_class=np.where(is_daily, daily, other),
            peaks=self._peaks[:, cohort],
            tenure_days=np.where(u[5] < population.newcomers, 0.0, 1.0 + tenure_days),
        )


class FittedUsers:
    """The accounts of a world that was fitted to a log: each life is one of them."""

    def __init__(self, world: World, accounts: Sequence[tuple[UserId, Profile]]) -> None:
        """Draw each user from the posterior of their own impressions.

        Raises:
            ValueError: there are no accounts.
        """
        if not accounts:
            raise ValueError("expected at least one user of the world, got none")
        users = [world.user(user_id, profile) for user_id, profile in accounts]
        profiles = [profile for _, profile in accounts]
        self.n_dims = world.vectors.shape[1]
        self.languages = tuple(world.languages)
        self.cohorts = tuple(sorted({profile.cohort for profile in profiles}))
        self.countries = tuple(sorted({profile.country for profile in profiles}))
        self.devices = tuple(sorted({profile.device for profile in profiles}))
        n = len(accounts)
        self._users = UserTraits(
            cohort=np.array([self.cohorts.index(profile.cohort) for profile in profiles]),
            country=np.array([self.countries.index(profile.country) for profile in profiles]),
            market=np.full(n, EVERYWHERE),
            language=np.array([user.language for user in users]),
            device=np.array([self.devices.index(profile.device) for profile in profiles]),
            lean=np.array([user.lean for user in users]),
            taste=np.array([user.taste for user in users]).T,
            return_class=np.array([user.return_class for user in users]),
            peaks=np.array([user.peak_hours for user in users]).T,
            tenure_days=np.full(n, world.population.tenure_days),
        )

    def draw(self, keys: Keys) -> UserTraits:
        """See `UserSource.draw`."""
        u = uniforms(keys, np.full(len(keys), BIRTH), _TRAIT_LANE, 1)[0]
        return self._users.take((u * len(self._users.lean)).astype(np.int64))


def _cumulated(what: str, shares: list[float]) -> Floats:
    if not shares or min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ValueError(f"expected shares of {what} that sum to 1, got {shares}")
    return np.cumsum(shares)


def _spoken_languages() -> Ints:
    """Return codes of the languages of each market, shape (n_markets, 2); the last repeats."""
    codes = [[LANGUAGES.index(language) for language in m.languages] for m in MARKETS]
    return np.array([(row * 2)[:2] for row in codes])
