"""n people in front of the feed, as columns: `Viewer` for a vector of lives.

The arithmetic is that of `env.answers`, `env.moods` and `env.returns`, which a `Viewer` calls with
plain numbers; here it runs over arrays. All that is drawn comes from the key of a life and the
number of its card, and sums are added in a fixed order, so a person lives the same life to the
last bit in a crowd of any size.

Rejected: float32, in which a life of some thousand cards would not be the Viewer's any more.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from env.answers import N_UNIFORMS, Answer, Rates, answer, evening_scene, utility
from env.draws import BIRTH, normals, uniforms
from env.moods import (
    BASE_SATISFACTION,
    N_TOPICS,
    Moods,
    churn_chance,
    exit_chance,
    rest,
    return_chance,
    satiate,
    satisfy,
    tire,
)
from env.objective import plays
from env.population import Cast, People
from env.presets import Population
from env.reals import Reals, is_below, sum_rows
from env.responses import Priors
from env.returns import days_away, gap_days, visit_hour, wander
from env.supply import Stock
from env.vocabulary import Bools, Floats, Ints, Keys
from env.world import APPEAL, BAIT, CAP_S, LANGUAGE, TOPIC, terms_of

ANSWER_LANE, MOOD_LANE, PARTING_LANE, WANDER_LANE = 0, 6, 8, 16
N_ANSWER_UNIFORMS = N_UNIFORMS + 3  # leaves; is asked; which star


class Swiped(NamedTuple):
    """What a card did to each of n people, and what it was."""

    answer: Answer
    item: Floats  # (N_COLUMNS, n) as `World.columns`
    vectors: Floats  # (n_dims, n)
    topic: Ints  # (n,)
    same_language: Floats  # (n,) 0 or 1
    played: tuple[Floats, Floats]  # (n,) 0 or 1: a valid play, a long view
    satisfaction: Floats  # (n,) after the card; hidden
    leaves: Bools  # (n,) the app after the card
    survey: Floats  # (2, n) uniforms of who is asked, and of how they round


class Parting(NamedTuple):
    """What came after the sessions of m people who left."""

    gap_days: Floats  # (m,) whole, >= 1; 0 of those who churned
    has_churned: Bools  # (m,) they never return


class Crowd:
    """State of n people; every array's last or first axis is over them.

    Attributes:
        cards: number of the card that each is about to see, from 1.
        day: of the episode, from 0.
        hour: of the visit, in [0, 24).
        sessions: before this one.
        position: cards of this session so far.
        watched_s: in this session.
    """

    def __init__(
        self, cast: Cast, rates: Rates, moods: Moods, priors: Priors, population: Population, n: int
    ) -> None:
        """Make room for n people; nobody lives before `begin`."""
        self._cast, self._rates, self._moods = cast, rates, moods
        self._priors, self._population = priors, population
        self.n = n
        self.keys: Keys = np.zeros(n, dtype=np.uint64)
        self.cards: Ints = np.zeros(n, dtype=np.int64)
        self.people: People = cast.draw(self.keys)
        self.taste: Floats = np.zeros((cast.n_dims, n))
        self.drift: Floats = np.zeros((cast.n_dims, n))
        self.satiation: Floats = np.zeros((n, N_TOPICS))
        self.load, self.satisfaction, self.watched_s = np.zeros((3, n))
        self.position, self.sessions, self.day, self.hour = np.zeros((4, n))
        self._topic_base = np.arange(n) * N_TOPICS

    def begin(self, index: Ints, keys: Keys) -> None:
        """Let new lives begin.

        Args:
            index: of the people that they replace, shape (m,).
            keys: of the lives, shape (m,).
        """
        people = self._cast.draw(keys)
        for name, column in vars(people).items():
            getattr(self.people, name)[..., index] = column
        cards = np.full(len(keys), BIRTH)
        peak = uniforms(keys, cards, PARTING_LANE, 1)[0]
        around = normals(keys, cards, PARTING_LANE + 1, 1)[0]
        self.keys[index], self.cards[index] = keys, BIRTH + 1
        self.hour[index] = visit_hour(people.peaks, self._population.peak_sd_h, peak, around)
        self.taste[:, index], self.drift[:, index] = people.taste, 0.0
        self.satiation[index], self.satisfaction[index] = 0.0, BASE_SATISFACTION
        for column in (self.load, self.watched_s, self.position, self.sessions, self.day):
            column[index] = 0.0

    def open_page(self, stock: Stock, rows: Ints) -> None:
        """Be told of a page before its first card: nothing hangs on the page as a whole here.

        Args:
            stock: what there is.
            rows: of the items that the page shows, shape (n, m).
        """

    def swipe(self, stock: Stock, rows: Ints, active: Bools | None = None) -> Swiped:
        """Show everybody a card, and let them be moved by it.

        Args:
            stock: what there is.
            rows: of the items shown, shape (n,).
            active: who is shown one; the others stay as they are, and what is returned of them
                means nothing. Everybody if None.
        """
        moods, priors, people = self._moods, self._priors, self.people
        u = uniforms(self.keys, self.cards, ANSWER_LANE, N_ANSWER_UNIFORMS)
        watch_normal, mood_normal = normals(self.keys, self.cards, MOOD_LANE, 2)
        item = np.take(stock.columns, rows, axis=1, mode="clip")
        vectors = np.take(stock.vectors, rows, axis=1, mode="clip")
        bait, topic = item[BAIT], item[TOPIC].astype(np.int64)
        place = self._topic_base + topic
        same_language = 1.0 * (item[LANGUAGE] == people.language)
        affinity = sum_rows(vectors * self.taste)
        log_odds = utility(
            self._rates,
            affinity,
            item[APPEAL] + people.lean,
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
        return Swiped(
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

    def part(self, index: Ints) -> Parting:
        """Let people leave, be away and come back: what follows is their next session's first card.

        Those who churn stay as their last card left them.

        Args:
            index: of those who leave, shape (m,).
        """
        churns, returns, peak = uniforms(self.keys[index], self.cards[index], PARTING_LANE, 3)
        parting = self._return(index, churns, returns)
        back = ~parting.has_churned
        self._come_back(index[back], parting.gap_days[back], peak[back])
        return parting

    def _come_back(self, index: Ints, gap_days: Floats, peak: Floats) -> None:
        """Let people be away, and open their next session.

        Args:
            index: of them, shape (m,).
            gap_days: of them, shape (m,).
            peak: uniforms of the hour of their visit, shape (m,).
        """
        moods, population = self._moods, self._population
        keys, cards = self.keys[index], self.cards[index]
        around = normals(keys, cards, PARTING_LANE + 2, 1)[0]
        hour = visit_hour(self.people.peaks[:, index], population.peak_sd_h, peak, around)
        away = days_away(gap_days, self.hour[index], hour)
        satiation, rested = rest(moods, self.satiation[index], self.satisfaction[index], away)
        drift = wander(
            population,
            self.drift[:, index],
            self._priors.taste_sd,
            away,
            normals(keys, cards, WANDER_LANE, len(self.drift)),
        )
        self.satiation[index], self.satisfaction[index] = satiation, rested
        self.drift[:, index], self.taste[:, index] = drift, self.people.taste[:, index] + drift
        self.load[index] = self.watched_s[index] = self.position[index] = 0.0
        self.hour[index] = hour
        self.day[index] += gap_days
        self.sessions[index] += 1.0

    def has_ended(self, index: Ints, horizon_days: int) -> Bools:
        """Return whether the episodes of people who are back reached the horizon, shape (m,)."""
        return self.day[index] >= horizon_days

    def worth_of_return(self, gap_days: Floats, discount: Floats) -> Floats:
        """Return retention's reward of sessions that ended, shape (m,).

        Args:
            gap_days: until the next one, 0 for those who never return, shape (m,).
            discount: of that gap, 0 for those who never return, shape (m,).
        """
        return discount

    def _answer(
        self, log_odds: Reals, item: Floats, affinity_sds: Floats, u: Floats, normal: Floats
    ) -> tuple[Answer, tuple[Floats, Floats]]:
        """Return what people do about a card, and whether it is a valid play and a long view.

        Args:
            log_odds: of engagement, shape (n,).
            item: columns of what is shown, shape (N_COLUMNS, n).
            affinity_sds: affinity in standard deviations, shape (n,).
            u: uniforms, shape (N_UNIFORMS, n).
            normal: standard normals, shape (n,).
        """
        answered = answer(self._rates, log_odds, terms_of(item), affinity_sds, list(u), normal)
        return answered, plays(np.asarray(answered.watch_s), item[CAP_S])

    def _leave(self, leaving: Floats, u: Floats, active: Bools | None) -> Bools:
        """Return who leaves after a card, of their chances to and uniforms, shapes (n,)."""
        return u < leaving

    def _return(self, index: Ints, churns: Floats, returns: Floats) -> Parting:
        """Return when people come back, as they are when they leave.

        Args:
            index: of them, shape (m,).
            churns: uniforms of whether they never do, shape (m,).
            returns: uniforms of when, shape (m,).
        """
        moods, satisfaction = self._moods, self.satisfaction[index]
        chance = return_chance(
            moods, self.people.return_class[index], satisfaction, self.watched_s[index]
        )
        has_churned = np.asarray(is_below(churns, churn_chance(moods, satisfaction))) > 0.0
        return Parting(gap_days(chance, returns) * ~has_churned, has_churned)

    def _keep(self, name: str, changed: NDArray[Any], active: Bools | None) -> None:
        """Replace a column, of those who are active."""
        if active is None:
            setattr(self, name, changed)
        else:
            where = active.reshape(-1, *(1,) * (changed.ndim - 1))
            np.copyto(getattr(self, name), changed, where=where)
