"""The simulated feed at work: n people, what there is to see, and the server that watches them.

A turn shows everybody one card, or a page of them; then those who left are back for their next
session or gone for good, those whose episode ended have given their place to another person, and
all have new candidates. `SwipeEnv` and `SwipeVectorEnv` are this with spaces around it.

One order of events a turn: answers, departures, new lives, the supply's day, candidates. A supply
day passes every so many turns, whatever day the people are at: their calendars are their own.
"""

from typing import NamedTuple

import numpy as np

from env.candidates import Candidates, Shelf, favourite_topics
from env.crowd import Parting
from env.draws import life_keys
from env.kuaisim_crowd import crowd_of
from env.objective import Worth, engagement, survey
from env.observe import Observer
from env.population import Cast
from env.presets import Preset
from env.reward import Reward
from env.settings import Settings
from env.supply import LIKED, LONG, N_EVENT_CODES, PLAYED, Stock, Supply
from env.vocabulary import Bools, Floats, Ints
from env.watcher import Watcher

EVENTS = (
    "watch_s",
    "valid_play",
    "long_view",
    "like",
    "comment",
    "share",
    "follow",
    "not_interested",
    "engagement",
    "survey",
    "tail",
)
"""What happened to a card, and whether its item was one of `Stock.is_tail`."""


class Turn(NamedTuple):
    """What came of a turn, over n people; zeros for those who only gave their place to another.

    Attributes:
        events: `EVENTS` of each card, shape (m, len(EVENTS), n), zeros where it was not seen.
        n_cards: of the page that were seen.
        gap_days: until their next session; 0 within one and if they never return.
        discount: 1 within a session, day_discount^gap at its end, 0 if they never return.
        rows: of the items that the cards were of, in the stock of the time.
    """

    events: Floats
    n_cards: Ints
    worth: Worth
    session_end: Bools
    gap_days: Floats
    discount: Floats
    terminated: Bools
    truncated: Bools
    rows: Ints


class Swiping:
    """n people in front of the feed, turn by turn.

    Attributes:
        cast: who the people are.
        observer: what a server knows of them.
        reward: of a card.
        over: whose episode ended with the last turn; the next one replaces them.
        seeds: of the places.
    """

    def __init__(
        self, preset: Preset, cast: Cast, supply: Supply, settings: Settings, reward: Reward, n: int
    ) -> None:
        """Open a feed for n people; nobody lives before `restart`.

        Raises:
            ValueError: the preset's laws are not of pages of this size.
        """
        self.settings, self.supply, self.preset, self.cast = settings, supply, preset, cast
        self.crowd = crowd_of(preset, cast, settings.n_cards, n)
        self.observer = Observer(
            cast, preset.rates, preset.moods, preset.priors.taste_sd, preset.horizon_days, n
        )
        self._watchers: list[Watcher] = [self.observer]
        self.candidates = Candidates(
            n, settings.n_candidates, masked=settings.masked, least=settings.n_cards
        )
        self.over: Bools = np.zeros(n, dtype=np.bool_)
        self._everybody = np.arange(n)
        self.reward = reward
        self.seeds: Ints = np.zeros(n, dtype=np.int64)
        self._episodes: Ints = np.zeros(n, dtype=np.int64)
        self._shelf = self._sort()
        self._n_turns = 0
        self._shown: list[Ints] = []

    @property
    def stock(self) -> Stock:
        """What there is to see today."""
        return self.supply.stock

    def follow(self, watcher: Watcher) -> None:
        """Tell somebody else too what people do, from the next `restart` on."""
        self._watchers.append(watcher)

    def restart(self, seeds: Ints) -> None:
        """Let the world begin anew, with the first life of each seed.

        Args:
            seeds: of the places, shape (n,).
        """
        self.supply.restart()
        self._n_turns = 0
        self._shown.clear()
        self._shelf = self._sort()
        self.seeds = seeds
        self._episodes = np.full(len(seeds), -1)
        self._replace(self._everybody)
        self._retarget(self._everybody)
        self._offer()

    def renew(self) -> None:
        """Let the next life begin in every place; the world goes on by a turn.

        A place that is replaced within `play` takes a turn for it too, so whoever plays alone and
        renews after each life is at the same supply day as that place.
        """
        self._replace(self._everybody)
        self._count_turn()
        self._retarget(self._everybody)
        self._offer()

    def play(self, actions: Ints) -> Turn:
        """Show everybody candidates, in order.

        Args:
            actions: index of the candidates, shape (n, m).
        """
        return self.show(np.take_along_axis(self.candidates.rows, actions, axis=1))

    def show(self, rows: Ints, present: Bools | None = None) -> Turn:
        """Show people items of the stock, in order, whether they are candidates or not.

        Whoever serves the feed has retrieved them; people answer as they do in `play`.

        Args:
            rows: of the items in the stock of today, shape (n, m).
            present: who is shown them, shape (n,); the others stay as they are. Everybody if None.
                Whose episode ended gives their place to the next person, present or not.
        """
        was_over = self.over.copy()
        before_s, hour = self.crowd.watched_s.copy(), self.crowd.hour.copy()
        events, n_cards, left = self._show(rows, was_over, present)
        leavers = np.flatnonzero(left)
        parting = self._depart(leavers)
        turn = self._settle(rows, events, n_cards, leavers, parting, before_s, hour)
        self.over = turn.terminated | turn.truncated
        self._replace(np.flatnonzero(was_over))
        if self._count_turn():
            self._retarget(self._everybody)
        else:
            self._retarget(np.flatnonzero(left | was_over))
        self._offer()
        return turn

    def _show(self, rows: Ints, was_over: Bools, among: Bools | None) -> tuple[Floats, Ints, Bools]:
        """Return the events of the cards, how many were seen, and who left."""
        n, m = rows.shape
        present = ~was_over if among is None else among & ~was_over
        left = np.zeros(n, dtype=np.bool_)
        n_cards = np.zeros(n, dtype=np.int64)
        self.crowd.open_page(self.stock, rows)
        events = np.empty((m, len(EVENTS), n))
        for j in range(m):
            active = present & ~left
            # Whose episode ended is replaced before the next card, so where they alone are absent
            # from the first one nothing of them needs to be kept from it, which would take a copy
            # of every column.
            moved = None if j == 0 and among is None else active
            self._swipe(np.ascontiguousarray(rows[:, j]), active, moved, left, events[j])
            n_cards += active
        return events, n_cards, left

    def _swipe(
        self, rows: Ints, active: Bools, moved: Bools | None, left: Bools, events: Floats
    ) -> None:
        """Show a card to those who are active; note who leaves, and write `EVENTS`.

        Args:
            rows: of the items, shape (n,).
            active: who is shown one, shape (n,).
            moved: whom it moves; everybody if None.
            left: who left, shape (n,); those who leave now are added.
            events: shape (len(EVENTS), n), written.
        """
        stock = self.stock
        swiped = self.crowd.swipe(stock, rows, moved)
        answer, played = swiped.answer, swiped.played
        for watcher in self._watchers:
            watcher.learn(self.crowd, stock, rows, swiped, moved)
        left |= swiped.leaves & active
        happened = (
            answer.watch_s,
            *played,
            answer.like,
            answer.comment,
            answer.share,
            answer.follow,
            answer.not_interested,
            engagement(self.reward, *played, answer),
            survey(swiped.satisfaction, swiped.survey),
            np.take(stock.is_tail, rows, mode="clip"),
        )
        for column, value in zip(events, happened, strict=True):
            column[:] = value
        if not active.all():
            events *= active
        if self.supply.is_live:
            codes = PLAYED * played[0] + LONG * played[1] + LIKED * answer.like
            places = rows * N_EVENT_CODES + codes.astype(np.int64)
            self._shown.append(places[active])

    def _depart(self, leavers: Ints) -> Parting:
        """Let people leave, and the server see who is back; spared where nobody leaves."""
        if len(leavers) == 0:
            return Parting(gap_days=np.zeros(0), has_churned=np.zeros(0, dtype=np.bool_))
        parting = self.crowd.part(leavers)
        returns = ~parting.has_churned
        for watcher in self._watchers:
            watcher.greet(self.crowd, leavers[returns], parting.gap_days[returns])
        return parting

    def _settle(
        self,
        rows: Ints,
        events: Floats,
        n_cards: Ints,
        leavers: Ints,
        parting: Parting,
        before_s: Floats,
        hour: Floats,
    ) -> Turn:
        """Return what the turn comes to; `before_s` was watched in the visits begun at `hour`."""
        n, churned, preset = len(n_cards), parting.has_churned, self.preset
        gaps, retention, discount = np.zeros(n), np.zeros(n), np.ones(n)
        session_end, terminated, truncated = np.zeros((3, n), dtype=np.bool_)
        session_end[leavers] = True
        gaps[leavers] = parting.gap_days
        discount[leavers] = np.exp(parting.gap_days * np.log(preset.day_discount)) * ~churned
        retention[leavers] = self.crowd.worth_of_return(parting.gap_days, discount[leavers])
        terminated[leavers] = churned
        truncated[leavers] = ~churned & self.crowd.has_ended(leavers, preset.horizon_days)
        total = dict(zip(EVENTS, add_cards(events), strict=True))
        return Turn(
            events=events,
            n_cards=n_cards,
            worth=Worth(
                total["watch_s"], total["engagement"], total["survey"], retention, before_s, hour
            ),
            session_end=session_end,
            gap_days=gaps,
            discount=discount,
            terminated=terminated,
            truncated=truncated,
            rows=rows,
        )

    def _replace(self, index: Ints) -> None:
        """Let the next life begin in some places."""
        if len(index) == 0:
            return
        self._episodes[index] += 1
        self.over[index] = False
        self.crowd.begin(index, life_keys(self.seeds[index], self._episodes[index]))
        for watcher in self._watchers:
            watcher.meet(self.crowd, index)

    def _count_turn(self) -> bool:
        """Count a turn; return whether a day passed with it that changed what there is to see."""
        self._n_turns += 1
        return self._n_turns % self.settings.steps_per_day == 0 and self._pass_day()

    def _pass_day(self) -> bool:
        """Let the supply's next day come; return whether that changed what there is to see."""
        stock = self.stock
        places = np.concatenate(self._shown) if self._shown else np.zeros(0, dtype=np.int64)
        counts = np.bincount(places, minlength=stock.n * N_EVENT_CODES)
        self._shown.clear()
        self.supply.pass_day(counts.reshape(stock.n, N_EVENT_CODES))
        is_changed = self.stock is not stock
        if is_changed:
            self._shelf = self._sort()
        return is_changed

    def _sort(self) -> Shelf:
        settings = self.settings
        return Shelf(self.stock, settings.n_candidates, masked=settings.masked)

    def _retarget(self, index: Ints) -> None:
        """Aim the retrieval anew at what some people are believed to like by now."""
        if len(index) == 0:
            return
        favourites = favourite_topics(self.observer.belief[:, index])
        self.candidates.aim(self._shelf, index, favourites, self.crowd.people.market[index])

    def _offer(self) -> None:
        crowd = self.crowd
        self.candidates.draw(self._shelf, crowd.keys, crowd.cards, crowd.people.market)


def add_cards(events: Floats) -> Floats:
    """Return the events of pages as a whole, shape (len(EVENTS), n): the sum over their cards."""
    return np.asarray(events[0] if len(events) == 1 else np.add.reduce(events, axis=0))
