"""A batch of n simulated users as columns: the vectorised form of `Viewer`.

It calls the functions of `env.world.answers`, `env.world.moods` and `env.world.returns` with
arrays, where a `Viewer` calls them with numbers. Draws depend only on a life's key and card number,
and sums have a fixed order, so a user lives the same life to the last bit in a batch of any size.

Details: `docs/decisions/world-batches.md`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from env.arrays.draws import BIRTH, normals, uniforms
from env.arrays.reals import Reals, is_below, sum_rows
from env.vocabulary import Bools, Floats, Ints, Keys
from env.world.answers import N_UNIFORMS, Answer, Rates, answer, evening_scene, utility
from env.world.moods import (
    BASE_SATISFACTION,
    N_TOPICS,
    StateDynamics,
    churn_chance,
    exit_chance,
    rest,
    return_chance,
    satiate,
    satisfy,
    tire,
)
from env.world.objective import plays
from env.world.population import UserSource, UserTraits
from env.world.presets import Population
from env.world.responses import Priors
from env.world.returns import days_away, drift_interests, gap_days, visit_hour
from env.world.supply import Stock
from env.world.world import APPEAL, BAIT, CAP_S, LANGUAGE, TOPIC, terms_of

ANSWER_LANE, MOOD_LANE, PARTING_LANE, WANDER_LANE = 0, 6, 8, 16
N_ANSWER_UNIFORMS = N_UNIFORMS + 3  # leaves; is asked; which star


class CardOutcome(NamedTuple):
    """The card shown to each of n users, and its effects."""

    answer: Answer
    item: Floats  # (N_COLUMNS, n) as `World.columns`
    vectors: Floats  # (n_dims, n)
    topic: Ints  # (n,)
    same_language: Floats  # (n,) 0 or 1
    played: tuple[Floats, Floats]  # (n,) 0 or 1: a valid play, a long view
    satisfaction: Floats  # (n,) after the card; hidden
    leaves: Bools  # (n,) the app after the card
    survey: Floats  # (2, n) uniforms: whether the user is surveyed, and the rounding


class Departure(NamedTuple):
    """The end of m users' sessions: the days until the next one, or churn."""

    gap_days: Floats  # (m,) whole, >= 1; 0 of those who churned
    has_churned: Bools  # (m,) they never return


class UserBatch:
    """State of n simulated users; the last or first axis of every array is over users.

    Attributes:
        cards: number of the next card of each, from 1.
        day: of the episode, from 0.
        hour: of the visit, in [0, 24).
        sessions: before this one.
        position: cards of this session so far.
        watched_s: in this session.
    """

    def __init__(
        self,
        cast: UserSource,
        rates: Rates,
        moods: StateDynamics,
        priors: Priors,
        population: Population,
        n: int,
    ) -> None:
        """Allocate n users; no life starts before `begin`."""
        self._cast, self._rates, self._moods = cast, rates, moods
        self._priors, self._population = priors, population
        self.n = n
        self.keys: Keys = np.zeros(n, dtype=np.uint64)
        self.cards: Ints = np.zeros(n, dtype=np.int64)
        self.users: UserTraits = cast.draw(self.keys)
        self.taste: Floats = np.zeros((cast.n_dims, n))
        self.drift: Floats = np.zeros((cast.n_dims, n))
        self.satiation: Floats = np.zeros((n, N_TOPICS))
        self.load, self.satisfaction, self.watched_s = np.zeros((3, n))
        self.position, self.sessions, self.day, self.hour = np.zeros((4, n))
        self._topic_base = np.arange(n) * N_TOPICS

    def begin(self, index: Ints, keys: Keys) -> None:
        """Start new lives in place of the users `index`; shapes (m,)."""
        users = self._cast.draw(keys)
        for name, column in vars(users).items():
            getattr(self.users, name)[..., index] = column
        cards = np.full(len(keys), BIRTH)
        peak = uniforms(keys, cards, PARTING_LANE, 1)[0]
        around = normals(keys, cards, PARTING_LANE + 1, 1)[0]
        self.keys[index], self.cards[index] = keys, BIRTH + 1
        self.hour[index] = visit_hour(users.peaks, self._population.peak_sd_h, peak, around)
        self.taste[:, index], self.drift[:, index] = users.taste, 0.0
        self.satiation[index], self.satisfaction[index] = 0.0, BASE_SATISFACTION
        for column in (self.load, self.watched_s, self.position, self.sessions, self.day):
            column[index] = 0.0

    def open_page(self, stock: Stock, rows: Ints) -> None:
        """Receive a page of rows, (n, m), before its first card; a `UserBatch` ignores it."""

    def swipe(self, stock: Stock, rows: Ints, active: Bools | None = None) -> CardOutcome:
        """Show each active user a card, `rows` of shape (n,), and update their state.

        Inactive users do not change, and their entries of the result are meaningless; None means
        that all are active.
        """
        moods, priors, users = self._moods, self._priors, self.users
        u = uniforms(self.keys, self.cards, ANSWER_LANE, N_ANSWER_UNIFORMS)
        watch_normal, mood_normal = normals(self.keys, self.cards, MOOD_LANE, 2)
        item = np.take(stock.columns, rows, axis=1, mode="clip")
        vectors = np.take(stock.vectors, rows, axis=1, mode="clip")
        bait, topic = item[BAIT], item[TOPIC].astype(np.int64)
        place = self._topic_base + topic
        same_language = 1.0 * (item[LANGUAGE] == users.language)
        affinity = sum_rows(vectors * self.taste)
        log_odds = utility(
            self._rates,
            affinity,
            item[APPEAL] + users.lean,
            same_language,
            np.take(self.satiation, place, mode="clip"),
            self.load,
            evening_scene(self._population.evening, self.hour),
        )
        answered, played = self._answer(
            log_odds, item, affinity / priors.affinity_sd, u[:N_UNIFORMS], watch_normal
        )
        satiation = satiate(
            moods, self.satiation, topic, self.satiation if active is None else None
        )
        had = np.take(satiation, place, mode="clip")
        load = np.asarray(tire(moods, self.load, bait))
        satisfaction = np.asarray(
            satisfy(moods, self.satisfaction, answered.engaged, bait, load, had, mood_normal)
        )
        position = self.position + 1.0
        leaving = exit_chance(moods, had, load, satisfaction, bait, answered.engaged, position)
        leaves = self._leave(np.asarray(leaving), u[N_UNIFORMS], active)
        self._keep("satiation", satiation, active)
        self._keep("load", load, active)
        self._keep("satisfaction", satisfaction, active)
        self._keep("position", position, active)
        self._keep("watched_s", self.watched_s + answered.watch_s, active)
        self._keep("cards", self.cards + 1, active)
        return CardOutcome(
            answer=answered,
            item=item,
            vectors=vectors,
            topic=topic,
            same_language=same_language,
            played=played,
            satisfaction=satisfaction,
            leaves=leaves,
            survey=u[N_UNIFORMS + 1 :],
        )

    def part(self, index: Ints) -> Departure:
        """End sessions, and open the next ones of users who return; churned users do not change."""
        churns, returns, peak = uniforms(self.keys[index], self.cards[index], PARTING_LANE, 3)
        parting = self._return(index, churns, returns)
        back = ~parting.has_churned
        self._come_back(index[back], parting.gap_days[back], peak[back])
        return parting

    def _come_back(self, index: Ints, gap_days: Floats, peak: Floats) -> None:
        """Apply the time away and open the next sessions; `peak` draws the hour; shapes (m,)."""
        moods, population = self._moods, self._population
        keys, cards = self.keys[index], self.cards[index]
        around = normals(keys, cards, PARTING_LANE + 2, 1)[0]
        hour = visit_hour(self.users.peaks[:, index], population.peak_sd_h, peak, around)
        away = days_away(gap_days, self.hour[index], hour)
        satiation, rested = rest(moods, self.satiation[index], self.satisfaction[index], away)
        drift = drift_interests(
            population,
            self.drift[:, index],
            self._priors.taste_sd,
            away,
            normals(keys, cards, WANDER_LANE, len(self.drift)),
        )
        self.satiation[index], self.satisfaction[index] = satiation, rested
        self.drift[:, index], self.taste[:, index] = drift, self.users.taste[:, index] + drift
        self.load[index] = self.watched_s[index] = self.position[index] = 0.0
        self.hour[index] = hour
        self.day[index] += gap_days
        self.sessions[index] += 1.0

    def has_ended(self, index: Ints, horizon_days: int) -> Bools:
        """Return whether the episodes of returning users reached the horizon, shape (m,)."""
        return self.day[index] >= horizon_days

    def worth_of_return(self, gap_days: Floats, discount: Floats) -> Floats:
        """Return the retention reward of ended sessions, shape (m,): the discount of the gap."""
        return discount

    def _answer(
        self, log_odds: Reals, item: Floats, affinity_sds: Floats, u: Floats, normal: Floats
    ) -> tuple[Answer, tuple[Floats, Floats]]:
        """Return answers, and whether each is a valid play and a long view; all over n users."""
        answered = answer(self._rates, log_odds, terms_of(item), affinity_sds, list(u), normal)
        return answered, plays(np.asarray(answered.watch_s), item[CAP_S])

    def _leave(self, leaving: Floats, u: Floats, active: Bools | None) -> Bools:
        """Return whether each user leaves after a card, from chances and uniforms, shapes (n,)."""
        return u < leaving

    def _return(self, index: Ints, churns: Floats, returns: Floats) -> Departure:
        """Return the gaps of users who leave, from uniforms of churn and of return; shapes (m,)."""
        moods, satisfaction = self._moods, self.satisfaction[index]
        chance = return_chance(
            moods, self.users.return_class[index], satisfaction, self.watched_s[index]
        )
        has_churned = np.asarray(is_below(churns, churn_chance(moods, satisfaction))) > 0.0
        return Departure(gap_days(chance, returns) * ~has_churned, has_churned)

    def _keep(self, name: str, changed: NDArray[Any], active: Bools | None) -> None:
        """Replace a column for the active users."""
        if active is None:
            setattr(self, name, changed)
        else:
            where = active.reshape(-1, *(1,) * (changed.ndim - 1))
            np.copyto(getattr(self, name), changed, where=where)
