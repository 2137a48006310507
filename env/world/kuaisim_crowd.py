"""A batch of users who answer, leave and return by KuaiSim's equations.

Signals are drawn independently from the answer model's exact chances, less the slate's similarity.
KuaiSim has no watch time: `watch_s` is the threshold passed, 18 s for a long view and 7 s for a
valid play. Users leave only after a slate, and all return. Satisfaction, satiation and load are
updated but have no effect if the preset's rates of them are 0.
"""

import numpy as np

from env.arrays.draws import BIRTH, normals
from env.arrays.reals import Reals
from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Bools, Floats, Ints, Keys
from env.world.answers import Answer, chances
from env.world.crowd import Departure, UserBatch
from env.world.kuaisim import (
    SIGNALS,
    KuaiSimLaws,
    cool,
    next_day_chance,
    penalised,
    personal_bias,
    remember,
    return_days,
    reward_of,
    similarity,
    slate_reward,
)
from env.world.objective import Objective, RewardName
from env.world.population import UserSource
from env.world.presets import Preset
from env.world.supply import Stock
from env.world.world import terms_of

PERSONAL_LANE = 200


class KuaiSimCrowd(UserBatch):
    """A `UserBatch` under KuaiSim's equations."""

    def __init__(self, preset: Preset, laws: KuaiSimLaws, cast: UserSource, n: int) -> None:
        """Allocate n users; no life starts before `begin`."""
        rates, moods = preset.rates, preset.moods
        super().__init__(cast, rates, moods, preset.priors, preset.population, n)
        self._laws = laws
        self.temper, self.remembered, self.bias = np.zeros((3, n))
        self._similar: Floats = np.zeros((laws.slate, n))
        self._worth: Floats = np.zeros((len(SIGNALS), laws.slate, n))
        self._slot = 0

    def begin(self, index: Ints, keys: Keys) -> None:
        """See `UserBatch.begin`."""
        super().begin(index, keys)
        normal = normals(keys, np.full(len(keys), BIRTH), PERSONAL_LANE, 1)[0]
        self.bias[index] = personal_bias(self._laws, normal)
        self.temper[index], self.remembered[index] = self._laws.temper, 0.0

    def open_page(self, stock: Stock, rows: Ints) -> None:
        """Store the similarity within each slate; see `UserBatch.open_page`."""
        vectors = np.take(stock.vectors, rows.T, axis=1, mode="clip")
        self._similar = similarity(vectors, self._laws.encoding_dims)
        self._slot = 0

    def has_ended(self, index: Ints, horizon_days: int) -> Bools:
        """Return whether users had all their sessions, or reached the horizon, shape (m,)."""
        return (self.sessions[index] >= self._laws.sessions) | super().has_ended(
            index, horizon_days
        )

    def worth_of_return(self, gap_days: Floats, discount: Floats) -> Floats:
        """Return KuaiSim's retention reward: minus the days until the return, over 10."""
        return -gap_days / self._laws.return_days

    def _answer(
        self, log_odds: Reals, item: Floats, affinity_sds: Floats, u: Floats, normal: Floats
    ) -> tuple[Answer, tuple[Floats, Floats]]:
        laws, log_odds = self._laws, np.asarray(log_odds)
        scores = np.array(chances(self._rates, log_odds, terms_of(item), affinity_sds))
        chance = penalised(laws, scores, self._similar[self._slot])
        happened = 1.0 * (u < chance)
        self._worth[:, self._slot] = chance if laws.reward_of_scores else happened
        valid_play, long_view, *others = happened
        watch_s = np.maximum(LONG_VIEW_S * long_view, VALID_PLAY_S * valid_play)
        return Answer(valid_play, watch_s, *others), (valid_play, long_view)

    def _leave(self, leaving: Floats, u: Floats, active: Bools | None) -> Bools:
        """Return whether each user leaves; never before the last card of a slate."""
        self._slot += 1
        if self._slot < self._laws.slate:
            return np.zeros(self.n, dtype=np.bool_)
        reward = slate_reward(self._laws, self._worth)
        self._keep("remembered", remember(self._laws, self.remembered, reward), active)
        self._keep("temper", cool(self._laws, self.temper, reward), active)
        return self.temper < 1.0

    def _return(self, index: Ints, churns: Floats, returns: Floats) -> Departure:
        chance = next_day_chance(self._laws, self.remembered[index], self.bias[index])
        self.temper[index] = self._laws.temper
        gap = return_days(self._laws, chance, returns)
        return Departure(gap, np.zeros(len(index), dtype=np.bool_))


def crowd_of(preset: Preset, cast: UserSource, n_cards: int, n: int) -> UserBatch:
    """Return n users under the preset's equations, with pages of `n_cards`.

    Raises:
        ValueError: KuaiSim's constants are missing, or pages are not its slates.
    """
    if preset.laws == "swipe":
        return UserBatch(cast, preset.rates, preset.moods, preset.priors, preset.population, n)
    laws = _laws_of(preset)
    if n_cards != laws.slate:
        raise ValueError(
            f"KuaiSim's laws are of slates of {laws.slate} cards: expected "
            f'actions="page" or "weights" with page_size={laws.slate}, got {n_cards} a step'
        )
    return KuaiSimCrowd(preset, laws, cast, n)


def objective_of(preset: Preset, name: RewardName) -> Objective:
    """Return a reward by name, with the event weights of the preset's equations.

    Raises:
        ValueError: the name is unknown, or KuaiSim's constants are missing.
    """
    if preset.laws == "swipe":
        return Objective(name)
    return Objective(name, reward=reward_of(_laws_of(preset)))


def _laws_of(preset: Preset) -> KuaiSimLaws:
    if preset.kuaisim is None:
        raise ValueError(f'preset {preset.name}: laws="kuaisim" without its constants')
    return preset.kuaisim
