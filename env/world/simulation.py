"""The simulation behind `SwipeEnv` and `SwipeVectorEnv`: n users, the supply and the server.

A step shows each user one card or a page. The order of events is answers, departures and returns,
new lives, the supply's day, candidates. A supply day passes every fixed number of steps, whatever
the users' own calendars.
"""

from typing import NamedTuple, Protocol

import numpy as np

from env.arrays.draws import life_keys
from env.feedback import DRAWN_REACTIONS
from env.reward import Reward
from env.vocabulary import Bools, Floats, Ints
from env.world.candidates import CandidateIndex, Candidates, favourite_topics
from env.world.crowd import CardOutcome, Departure, UserBatch
from env.world.kuaisim_crowd import crowd_of
from env.world.objective import RewardComponents, engagement, survey
from env.world.observer import BeliefObserver
from env.world.population import UserSource
from env.world.presets import Preset
from env.world.settings import Settings
from env.world.supply import LIKED, LONG, N_EVENT_CODES, PLAYED, Stock, Supply


class SimulationObserver(Protocol):
    """Observes users' behaviour; see `env.world.world.observer.BeliefObserver`."""

    def meet(self, crowd: UserBatch, index: Ints) -> None:
        """Start the state of users whose lives just began."""

    def learn(
        self,
        crowd: UserBatch,
        stock: Stock,
        rows: Ints,
        swiped: CardOutcome,
        active: Bools | None = None,
    ) -> None:
        """Learn from a card."""

    def greet(self, crowd: UserBatch, index: Ints, gap_days: Floats) -> None:
        """Open the next session of users who return."""


EVENTS = (
    "watch_s",
    "valid_play",
    "long_view",
    *DRAWN_REACTIONS,
    "engagement",
    "survey",
    "tail",
)
"""Events of a card, and whether its item was one of `Stock.is_tail`."""


class StepResult(NamedTuple):
    """The result of a step over n users; zeros where a new life replaced an ended one."""

    events: Floats  # (m, len(EVENTS), n) of each card, zeros for unseen cards
    n_cards: Ints  # cards seen
    worth: RewardComponents
    session_end: Bools
    gap_days: Floats  # until the next session; 0 within one and without a return
    discount: Floats  # 1 within a session, day_discount^gap at its end, 0 without a return
    terminated: Bools
    truncated: Bools
    rows: Ints  # of the shown items, in the stock before the step


class Simulation:
    """A simulation of n users in front of the feed, step by step.

    Attributes:
        observer: the server's state of the users.
        over: whether an episode ended with the last step; the next one replaces its user.
        seeds: of the slots.
    """

    def __init__(
        self,
        preset: Preset,
        cast: UserSource,
        supply: Supply,
        settings: Settings,
        reward: Reward,
        n: int,
    ) -> None:
        """Create n slots; no life starts before `restart`.

        Raises:
            ValueError: the preset's equations do not allow pages of this size.
        """
        self.settings, self.supply, self.preset, self.cast = settings, supply, preset, cast
        self.crowd = crowd_of(preset, cast, settings.n_cards, n)
        self.observer = BeliefObserver(
            cast, preset.rates, preset.moods, preset.priors.taste_sd, preset.horizon_days, n
        )
        self._watchers: list[SimulationObserver] = [self.observer]
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
        """Today's items."""
        return self.supply.stock

    def follow(self, watcher: SimulationObserver) -> None:
        """Add an observer of the users' behaviour, from the next `restart` on."""
        self._watchers.append(watcher)

    def restart(self, seeds: Ints) -> None:
        """Restart the world, with the first life of each slot's seed, shape (n,)."""
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
        """Start the next life in every slot; the world goes on by a step.

        Replacement within `play` takes a step too, so a scalar environment that renews after each
        life is on the same supply day as the slot of a vector.
        """
        self._replace(self._everybody)
        self._count_turn()
        self._retarget(self._everybody)
        self._offer()

    def play(self, actions: Ints) -> StepResult:
        """Show each user candidates in order, given their indices, shape (n, m)."""
        return self.show(np.take_along_axis(self.candidates.rows, actions, axis=1))

    def show(self, rows: Ints, present: Bools | None = None) -> StepResult:
        """Show users items of the stock, in order, whether they are candidates or not.

        For feeds that retrieve items themselves; users answer as in `play`.

        Args:
            rows: of the items in today's stock, shape (n, m).
            present: users who are shown them, shape (n,); the others do not change. All users if
                None. An ended episode is replaced in either case.
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
        """Return the events of the cards, the number seen, and the users who left."""
        n, m = rows.shape
        present = ~was_over if among is None else among & ~was_over
        left = np.zeros(n, dtype=np.bool_)
        n_cards = np.zeros(n, dtype=np.int64)
        self.crowd.open_page(self.stock, rows)
        events = np.empty((m, len(EVENTS), n))
        for j in range(m):
            active = present & ~left
            # Ended episodes are replaced before the next card. If only these are absent from the
            # first card, their columns need not be preserved, which saves a copy of every column.
            moved = None if j == 0 and among is None else active
            self._swipe(np.ascontiguousarray(rows[:, j]), active, moved, left, events[j])
            n_cards += active
        return events, n_cards, left

    def _swipe(
        self, rows: Ints, active: Bools, moved: Bools | None, left: Bools, events: Floats
    ) -> None:
        """Show a card to active users; add departures to `left`, and write `EVENTS`.

        `moved` marks the users whose state changes, all if None; `events` is (len(EVENTS), n).
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
            *(getattr(answer, kind) for kind in DRAWN_REACTIONS),
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

    def _depart(self, leavers: Ints) -> Departure:
        """End sessions and tell the observers of returns; skipped if there are no departures."""
        if len(leavers) == 0:
            return Departure(gap_days=np.zeros(0), has_churned=np.zeros(0, dtype=np.bool_))
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
        parting: Departure,
        before_s: Floats,
        hour: Floats,
    ) -> StepResult:
        """Return the step's result; `before_s` was watched in the visits that began at `hour`."""
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
        return StepResult(
            events=events,
            n_cards=n_cards,
            worth=RewardComponents(
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
        """Start the next life in some slots."""
        if len(index) == 0:
            return
        self._episodes[index] += 1
        self.over[index] = False
        self.crowd.begin(index, life_keys(self.seeds[index], self._episodes[index]))
        for watcher in self._watchers:
            watcher.meet(self.crowd, index)

    def _count_turn(self) -> bool:
        """Count a step; return whether a day passed with it that changed the stock."""
        self._n_turns += 1
        return self._n_turns % self.settings.steps_per_day == 0 and self._pass_day()

    def _pass_day(self) -> bool:
        """Go on to the supply's next day; return whether that changed the stock."""
        stock = self.stock
        places = np.concatenate(self._shown) if self._shown else np.zeros(0, dtype=np.int64)
        counts = np.bincount(places, minlength=stock.n * N_EVENT_CODES)
        self._shown.clear()
        self.supply.pass_day(counts.reshape(stock.n, N_EVENT_CODES))
        is_changed = self.stock is not stock
        if is_changed:
            self._shelf = self._sort()
        return is_changed

    def _sort(self) -> CandidateIndex:
        settings = self.settings
        return CandidateIndex(self.stock, settings.n_candidates, masked=settings.masked)

    def _retarget(self, index: Ints) -> None:
        """Aim the retrieval at the current beliefs about some users."""
        if len(index) == 0:
            return
        favourites = favourite_topics(self.observer.belief[:, index])
        self.candidates.aim(self._shelf, index, favourites, self.crowd.users.market[index])

    def _offer(self) -> None:
        crowd = self.crowd
        self.candidates.draw(self._shelf, crowd.keys, crowd.cards, crowd.users.market)


def add_cards(events: Floats) -> Floats:
    """Return the events of pages, shape (len(EVENTS), n): the sums over their cards."""
    return np.asarray(events[0] if len(events) == 1 else np.add.reduce(events, axis=0))
