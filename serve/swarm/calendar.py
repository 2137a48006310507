"""Attendance by the simulated world's calendar: a user who leaves returns days later, or never.

A user who churns is replaced by a new one on the next day; others are away for a gap of days
(`env.world.returns`) and return at an hour of their cohort, on their own clock. The swarm's clock
jumps from visit to visit. Design and rejected alternatives: `docs/decisions/swarm-attendance.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec
import numpy as np

from env.features.scenes import find_zone
from env.vocabulary import Profile, UserId
from env.world.moods import return_chance
from env.world.returns import gap_days
from env.world.user import SimulatedUser, newborn
from env.world.world import World
from serve.swarm.attendance import Arrival, pick_network
from serve.swarm.visit import SwarmVisit
from serve.wire.feed import SceneBody


class CalendarReport(msgspec.Struct, frozen=True):
    """Users' behaviour by the calendar.

    Attributes:
        users: users at a time; a churned one was replaced.
        visits: visits with at least one card, at most one per user and day.
        daily_active: users who visited, by day.
        d1: share of those active on a day who return on the next; None: no day has a next one.
        d7: likewise on the seventh day after.
        mean_gap_days: mean days to the next visit, which may be after the end; without churned
            users.
        session_cards: mean cards per visit.
        session_s: mean seconds watched per visit.
        churned: users who left for ever.
        newcomers: users who replaced them and visited.
    """

    days: int
    users: int
    cards: int
    visits: int
    daily_active: tuple[int, ...]
    d1: float | None
    d7: float | None
    mean_gap_days: float | None
    session_cards: float | None
    session_s: float | None
    churned: int
    newcomers: int


@dataclass(slots=True)
class _Life:
    """A simulated user with the days of their visits.

    Attributes:
        zone: time zone of the user.
        first: date of day 0 in that zone.
        is_new: whether they came during the simulation.
        day: day of the current or next visit.
        active: days of finished visits.
    """

    user: SimulatedUser
    profile: Profile
    zone: tzinfo
    first: date
    is_new: bool = False
    day: int = 0
    active: list[int] = field(default_factory=list)


class WorldCalendar:
    """Attendance of a set of simulated users over a number of days; see `Attendance`."""

    def __init__(
        self, world: World, users: Sequence[tuple[UserId, Profile]], *, n_days: int
    ) -> None:
        """Hold the users as they are at their first visit.

        Args:
            n_days: days from the first midnight of each user, on their own clock.

        Raises:
            ValueError: there are no users.
        """
        if not users:
            raise ValueError("expected at least one user of the world, got none")
        self._world = world
        self._users = users
        self._n_days = n_days
        self._here: list[_Life] = []
        self._gone: list[_Life] = []
        self._gaps: list[int] = []
        self._n_cards = 0
        self._watched_s = 0.0

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """See `Attendance.begin`; all users start as if they had visited before.

        A geometric wait has no memory, so the days until the first visit are a gap less one.
        """
        self._here = [self._life(user_id, profile, at_ms) for user_id, profile in self._users]
        for life in self._here:
            user, moods = life.user, self._world.moods
            satisfaction, watched_s = user.state.satisfaction, user.state.watched_s
            chance = return_chance(moods, user.user.return_class, satisfaction, watched_s)
            life.day = int(gap_days(chance, rng.random())) - 1
            user.begin(rng)
        arrivals = (self._arrival(place, at_ms, rng) for place in range(len(self._here)))
        return [arrival for arrival in arrivals if arrival is not None]

    def leave(self, visit: SwarmVisit, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        """See `Attendance.leave`; there are no arrivals after the last day."""
        life, state = self._here[visit.place], visit.user.state
        if state.position:
            life.active.append(life.day)
            self._n_cards += state.position
            self._watched_s += state.watched_s
        gap = visit.user.leave(visit.rng)
        if gap is None:
            self._replace(visit, at_ms)
        else:
            self._gaps.append(gap)
            life.day += gap
        return self._arrival(visit.place, at_ms, rng)

    def report(self) -> CalendarReport:
        """Return the behaviour so far."""
        active = [day for life in self._lives() for day in life.active]
        n_visits = len(active)
        return CalendarReport(
            days=self._n_days,
            users=len(self._users),
            cards=self._n_cards,
            visits=n_visits,
            daily_active=tuple(np.bincount(active, minlength=self._n_days).tolist()),
            d1=self._back_after(1),
            d7=self._back_after(7),
            mean_gap_days=_ratio(sum(self._gaps), len(self._gaps)),
            session_cards=_ratio(self._n_cards, n_visits),
            session_s=_ratio(self._watched_s, n_visits),
            churned=len(self._gone),
            newcomers=sum(life.is_new and bool(life.active) for life in self._lives()),
        )

    def _life(self, user_id: UserId, profile: Profile, at_ms: int) -> _Life:
        user = SimulatedUser(self._world, self._world.user(user_id, profile), newborn())
        zone = find_zone(profile.time_zone, profile.country)
        today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()
        return _Life(user, profile, zone, today + timedelta(days=1))

    def _replace(self, visit: SwarmVisit, at_ms: int) -> None:
        """Replace a churned user by a new one, from the next day on."""
        old = self._here[visit.place]
        profile = msgspec.structs.replace(old.profile, registered_ms=0, follows=())
        new = self._life(UserId(f"newcomer-{visit.session}"), profile, at_ms)
        new.first, new.is_new, new.day = old.first, True, old.day + 1
        new.user.begin(visit.rng)
        self._gone.append(old)
        self._here[visit.place] = new

    def _arrival(self, place: int, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        life = self._here[place]
        if life.day >= self._n_days:
            return None
        midnight = datetime.combine(life.first + timedelta(days=life.day), time(), life.zone)
        comes = midnight + timedelta(hours=life.user.state.hour)
        profile = life.profile
        scene = SceneBody(
            country=profile.country,
            language=profile.language,
            device=profile.device,
            network=pick_network(rng),
        )
        # A visit that lasts past the hour of the next one postpones it.
        return Arrival(place, life.user, max(int(1000 * comes.timestamp()), at_ms), scene)

    def _back_after(self, n_days: int) -> float | None:
        lives = [set(life.active) for life in self._lives()]
        told = [
            day + n_days in days for days in lives for day in days if day + n_days < self._n_days
        ]
        return _ratio(sum(told), len(told))

    def _lives(self) -> Iterator[_Life]:
        yield from self._gone
        yield from self._here


def _ratio(total: float, n: int) -> float | None:
    return total / n if n else None
