"""The swarm by the calendar of its world: who leaves comes back days later, or never.

    leaves  ->  churns: a newcomer takes the place on the next day
            ->  else away for a gap of days (`env.returns`), back at an hour of their cohort

The hours are those of each person's own clock, which is also the one by which the server sees the
hour of a page; so a day's visits are spread over the world's days and nights, and the swarm's
clock jumps from visit to visit. A newcomer has the profile of whom they replace, their own id and
their own taste, and the server first hears of them by their first page.

Rejected: to draw who is present at an hour (nobody's absence would be theirs), and newcomers at a
rate of their own (the number of people would wander off from what was asked for).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec
import numpy as np

from env.moods import return_chance
from env.returns import gap_days
from env.scenes import find_zone
from env.viewer import Viewer, newborn
from env.vocabulary import Profile, UserId
from env.world import World
from serve.attendance import Arrival, pick_network
from serve.visits import Visit
from serve.wire import SceneBody


class CalendarReport(msgspec.Struct, frozen=True):
    """What people did by the calendar.

    Attributes:
        days: that were lived.
        people: at a time; whoever churned was replaced.
        cards: that were seen.
        visits: in which there was something to see, at most one a person and day.
        daily_active: people who visited, of each day.
        d1: share of those active on a day who are back on the next one; None: no day has one.
        d7: likewise on the seventh day after.
        mean_gap_days: from a visit's date to that of the next one, which may be after the end;
            those who churned have none.
        session_cards: mean of a visit.
        session_s: mean seconds watched in a visit.
        churned: people who left for ever.
        newcomers: who took their places, and visited.
    """

    days: int
    people: int
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
    """A person with the days of their visits.

    Attributes:
        zone: of their clock.
        first: date of the day 0 on that clock.
        is_new: they came while the swarm was there.
        day: of the visit that is under way or next.
        active: days of the visits that are over.
    """

    viewer: Viewer
    profile: Profile
    zone: tzinfo
    first: date
    is_new: bool = False
    day: int = 0
    active: list[int] = field(default_factory=list)


class WorldCalendar:
    """Some people through a number of days; see `Attendance`."""

    def __init__(
        self, world: World, users: Sequence[tuple[UserId, Profile]], *, n_days: int
    ) -> None:
        """Take these people as they are at their first visit.

        Args:
            world: they live in it.
            users: who are there at the start.
            n_days: from the first midnight of each on, by their own clock.

        Raises:
            ValueError: nobody is given.
        """
        if not users:
            raise ValueError("expected at least one person of the world, got none")
        self._world = world
        self._users = users
        self._n_days = n_days
        self._here: list[_Life] = []
        self._gone: list[_Life] = []
        self._gaps: list[int] = []
        self._n_cards = 0
        self._watched_s = 0.0

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """See `Attendance.begin`: everybody as if they had been here before.

        A geometric wait has no memory, so the days until the first visit that this start leaves
        over are a gap less one.
        """
        self._here = [self._life(user_id, profile, at_ms) for user_id, profile in self._users]
        for life in self._here:
            viewer, moods = life.viewer, self._world.moods
            satisfaction, watched_s = viewer.state.satisfaction, viewer.state.watched_s
            chance = return_chance(moods, viewer.person.return_class, satisfaction, watched_s)
            life.day = int(gap_days(chance, rng.random())) - 1
            viewer.begin(rng)
        arrivals = (self._arrival(place, at_ms, rng) for place in range(len(self._here)))
        return [arrival for arrival in arrivals if arrival is not None]

    def leave(self, visit: Visit, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        """See `Attendance.leave`; nobody comes after the last day."""
        life, state = self._here[visit.place], visit.viewer.state
        if state.position:
            life.active.append(life.day)
            self._n_cards += state.position
            self._watched_s += state.watched_s
        gap = visit.viewer.leave(visit.rng)
        if gap is None:
            self._replace(visit, at_ms)
        else:
            self._gaps.append(gap)
            life.day += gap
        return self._arrival(visit.place, at_ms, rng)

    def report(self) -> CalendarReport:
        """Return what was done so far."""
        active = [day for life in self._lives() for day in life.active]
        n_visits = len(active)
        return CalendarReport(
            days=self._n_days,
            people=len(self._users),
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
        viewer = Viewer(self._world, self._world.person(user_id, profile), newborn())
        zone = find_zone(profile.time_zone, profile.country)
        today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()
        return _Life(viewer, profile, zone, today + timedelta(days=1))

    def _replace(self, visit: Visit, at_ms: int) -> None:
        """Let a newcomer take the place of somebody who churned, from the next day on."""
        old = self._here[visit.place]
        profile = msgspec.structs.replace(old.profile, registered_ms=0, follows=())
        new = self._life(UserId(f"newcomer-{visit.session}"), profile, at_ms)
        new.first, new.is_new, new.day = old.first, True, old.day + 1
        new.viewer.begin(visit.rng)
        self._gone.append(old)
        self._here[visit.place] = new

    def _arrival(self, place: int, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        life = self._here[place]
        if life.day >= self._n_days:
            return None
        midnight = datetime.combine(life.first + timedelta(days=life.day), time(), life.zone)
        comes = midnight + timedelta(hours=life.viewer.state.hour)
        profile = life.profile
        scene = SceneBody(
            country=profile.country,
            language=profile.language,
            device=profile.device,
            network=pick_network(rng),
        )
        # A visit that lasts beyond the next one's hour, by many hours, puts it off.
        return Arrival(place, life.viewer, max(int(1000 * comes.timestamp()), at_ms), scene)

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
