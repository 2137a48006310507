"""The swarm's calendar: what the server's log says of it is what the world did."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from crowds import SEED, Direct, Parrot, cards_of, clips, read_lines
from histories import START_MS, config_of

from env.features.scenes import find_zone
from env.records import FeedbackRecord, LogLine, PageRecord, UserRecord
from env.vocabulary import Profile, SessionId, UserId, UserKey
from env.world import generated
from env.world.moods import StateDynamics, rest
from env.world.presets import Cohort, Population, load
from env.world.responses import generated as generated_responses
from env.world.returns import days_away, drift_interests
from env.world.user import SimulatedUserState
from env.world.world import World, make_world
from serve.config import Config
from serve.jobs.import_data import import_items, load_world
from serve.processes.replica import FeedReplica
from serve.swarm.attendance import Arrival
from serve.swarm.calendar import CalendarReport, WorldCalendar
from serve.swarm.swarm import FeedServer, RetryLimit, Swarm
from serve.swarm.visit import SwarmVisit

N_PEOPLE, N_DAYS, N_ITEMS = 16, 8, 60
WINDOW_MS = 1_000
RESTLESS = StateDynamics(exit=0.0, churn=0.5)
NEUTRAL = StateDynamics(
    exit=3.0, satisfaction_step=0.0, satisfaction_noise=0.0, return_watch=0.0, churn=0.0
)


@dataclass
class Stay:
    """What the world did between two visits of one place."""

    left: UserId
    before: SimulatedUserState
    came: UserId | None
    after: SimulatedUserState | None


@dataclass
class Diary:
    """A calendar with what it said: who came when at which hour, and between their visits."""

    calendar: WorldCalendar
    comings: list[tuple[UserId, int, float]] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        arrivals = self.calendar.begin(at_ms, rng)
        for arrival in arrivals:
            self._note(arrival)
        return arrivals

    def leave(self, visit: SwarmVisit, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        left, before = visit.user.user.user_id, visit.user.state
        arrival = self.calendar.leave(visit, at_ms, rng)
        user = arrival.user if arrival else None
        came = user.user.user_id if user else None
        self.stays.append(Stay(left, before, came, user.state if user else None))
        if arrival:
            self._note(arrival)
        return arrival

    def _note(self, arrival: Arrival) -> None:
        user = arrival.user
        self.comings.append((user.user.user_id, arrival.at_ms, user.state.hour))


@dataclass
class Lived:
    """What a log holds of some days, and what the world says of them."""

    world: World
    accounts: dict[UserId, Profile]
    diary: Diary
    report: CalendarReport
    lines: list[LogLine]

    def profiles(self) -> dict[UserKey, tuple[UserId, Profile]]:
        accounts = [line.record for line in self.lines if isinstance(line.record, UserRecord)]
        return {u.user: (u.user_id, u.profile) for u in accounts if u.profile is not None}

    def first_pages(self) -> list[PageRecord]:
        """Return the first page of each visit."""
        first: dict[SessionId, PageRecord] = {}
        for line in self.lines:
            if isinstance(line.record, PageRecord):
                first.setdefault(line.record.session, line.record)
        return list(first.values())

    def dates(self) -> dict[UserId, list[date]]:
        """Return everybody's dates of visit by their own clock, as the log has them."""
        known, dates = self.profiles(), defaultdict(list)
        for page in self.first_pages():
            user_id, profile = known[page.user]
            dates[user_id].append(local_date(page.at_ms, profile))
        return dates


def local_date(at_ms: int, profile: Profile) -> date:
    zone = find_zone(profile.time_zone, profile.country)
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()


def world_of(moods: StateDynamics, population: Population | None = None) -> World:
    return make_world(generated_responses(), clips(N_ITEMS), SEED, moods, population)


def live(
    server: FeedServer,
    world: World,
    n_users: int,
    *,
    n_days: int = N_DAYS,
    seed: int = SEED,
    patience: RetryLimit | None = None,
) -> Diary:
    accounts = generated.users(SEED, n_users, START_MS)
    diary = Diary(WorldCalendar(world, accounts, n_days=n_days))
    swarm = Swarm(server, diary, seed=seed, start_ms=START_MS, page_size=4, patience=patience)
    asyncio.run(swarm.live())
    return diary


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Days of a few restless users in front of a real engine."""
    config: Config = config_of(tmp_path_factory.mktemp("calendar") / "data")
    world = world_of(RESTLESS)
    import_items(config, clips(N_ITEMS), START_MS)
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        diary = live(Direct(replica.engine), world, N_PEOPLE)
    finally:
        replica.close()
    accounts = dict(generated.users(SEED, N_PEOPLE, START_MS))
    return Lived(world, accounts, diary, diary.calendar.report(), read_lines(config))


def test_the_log_has_the_visits_of_the_calendar_at_their_times_and_hours(lived: Lived) -> None:
    known = lived.profiles()
    pages = sorted((known[p.user][0], p.at_ms, p.scene.hour) for p in lived.first_pages())
    comings = sorted(lived.diary.comings)
    assert len(pages) == lived.report.visits > N_PEOPLE
    for (logged, shown_ms, shown_hour), (user, at_ms, hour) in zip(pages, comings, strict=True):
        assert logged == user
        assert at_ms <= shown_ms <= at_ms + WINDOW_MS
        assert shown_hour == int(hour), "the server sees the hour of the user's own clock"


def test_everything_reaches_the_log_in_the_order_in_which_it_happened(lived: Lived) -> None:
    records = [line.record for line in lived.lines]
    times = [r.at_ms for r in records if isinstance(r, PageRecord | FeedbackRecord)]
    assert times == sorted(times)
    assert times[0] > START_MS
    assert np.diff(times).max() > 3_600_000, "the clock jumps where nobody is there"


def test_users_rest_for_exactly_the_days_that_the_log_shows(lived: Lived) -> None:
    dates = {user: iter(days) for user, days in lived.dates().items()}
    last = {user: next(days) for user, days in dates.items()}
    taste_sd, n_checked = lived.world.model.priors.taste_sd, 0
    for stay in lived.diary.stays:
        if stay.came != stay.left or stay.after is None:
            continue
        today = next(dates[stay.left])
        gap = (today - last[stay.left]).days
        last[stay.left] = today
        assert gap >= 1
        away = days_away(gap, stay.before.hour, stay.after.hour)
        satiation, satisfaction = rest(
            lived.world.moods, stay.before.satiation, stay.before.satisfaction, away
        )
        assert np.array_equal(stay.after.satiation, satiation)
        assert stay.after.satisfaction == satisfaction
        assert (stay.after.load, stay.after.position, stay.after.watched_s) == (0.0, 0, 0.0)
        still = drift_interests(
            lived.world.population, stay.before.drift, taste_sd, away, np.zeros(32)
        )
        assert not np.array_equal(stay.after.drift, still), "interests drift meanwhile"
        n_checked += 1
    assert n_checked > N_PEOPLE


def test_who_churned_never_comes_again_and_a_newcomer_registers_by_their_feed(
    lived: Lived,
) -> None:
    replaced = {stay.came: stay.left for stay in lived.diary.stays if stay.came != stay.left}
    replaced.pop(None, None)
    profiles = dict(lived.profiles().values())
    assert lived.report.churned >= lived.report.newcomers == len(replaced) > 3
    assert set(profiles) == {user for user, _, _ in lived.diary.comings}
    dates = lived.dates()
    for new, old in replaced.items():
        assert new is not None
        assert new not in lived.accounts
        shown, before = profiles[new], profiles[old]
        assert (shown.country, shown.language, shown.device) == (
            before.country,
            before.language,
            before.device,
        )
        assert (dates[new][0] - dates[old][-1]).days == 1


def test_the_report_counts_what_the_log_shows(lived: Lived) -> None:
    report, profiles = lived.report, dict(lived.profiles().values())
    active = {
        (user, (visited - local_date(START_MS, profiles[user])).days - 1)
        for user, dates in lived.dates().items()
        for visited in dates
    }
    counts = np.bincount([day for _, day in active])
    assert report.daily_active == tuple(counts.tolist())
    assert len(counts) == N_DAYS
    for n_days, share in ((1, report.d1), (7, report.d7)):
        back = [(user, day + n_days) in active for user, day in active if day + n_days < N_DAYS]
        assert share == sum(back) / len(back)
    impressions = sum(
        isinstance(line.record, FeedbackRecord) and line.record.kind == "impression"
        for line in lived.lines
    )
    assert report.cards == impressions
    assert report.session_cards == report.cards / report.visits
    assert (report.days, report.users) == (N_DAYS, N_PEOPLE)


def test_the_same_seed_lives_the_same_days_and_another_does_not() -> None:
    def comings(seed: int) -> Sequence[tuple[UserId, int, float]]:
        server = Parrot(cards_of(clips(N_ITEMS)[:4]))
        return live(server, world_of(RESTLESS), 20, seed=seed).comings

    assert comings(1) == comings(1) != comings(2)


def test_gaps_at_neutral_satisfaction_are_those_of_two_classes_of_users() -> None:
    n_users, n_days, most = 250, 30, 5
    server, world = Parrot(cards_of(clips(N_ITEMS)[:4])), world_of(NEUTRAL)
    live(server, world, n_users, n_days=n_days)
    profiles = dict(generated.users(SEED, n_users, START_MS))
    visits: dict[UserId, list[int]] = {user: [] for user in profiles}
    for request in server.asked:
        user = UserId(request.user_id)
        assert request.scene.at_ms is not None
        today, start = (local_date(at, profiles[user]) for at in (request.scene.at_ms, START_MS))
        if (day := (today - start).days - 1) not in visits[user]:
            visits[user].append(day)
    # Counted by days at risk, so that the gaps which the end cuts off bias nothing.
    classes = world.moods.return_classes
    at_risk, returned = np.zeros((2, len(classes), most))
    for user, profile in profiles.items():
        k = classes.index(world.user(user, profile).return_class)
        for day, after in zip(visits[user], [*visits[user][1:], n_days], strict=True):
            gap = after - day
            followed = min(gap if after < n_days else gap - 1, most)
            at_risk[k, :followed] += 1
            returned[k, gap - 1 : gap] += after < n_days
    chance = np.array(classes)[:, None]
    expected = at_risk * chance
    told = at_risk > 30
    assert told[1].all()
    assert told[0, :2].all()
    squares = (returned - expected) ** 2 / np.maximum(expected * (1.0 - chance), 1e-9)
    beyond = {7: 29.88, 8: 31.83, 9: 33.72, 10: 35.56}  # chi-square, 1 in 10,000
    assert squares[told].sum() < beyond[int(told.sum())]
    # The first day is a day like any other.
    shares = np.array([world.user(u, profiles[u]).return_class for u in profiles])
    active = np.bincount([day for days in visits.values() for day in days], minlength=n_days)
    spread = np.sqrt((shares * (1.0 - shares)).sum())
    assert (np.abs(active - shares.sum()) < 4.5 * spread).all(), active


def test_how_many_are_there_hangs_on_the_hour() -> None:
    night = {
        name: Cohort(share=0.25, daily_share=1.0, peak_hours=(3.0, 3.0))
        for name in ("full_active", "high_active", "middle_active", "low_active")
    }
    server = Parrot(cards_of(clips(N_ITEMS)[:4]))
    live(server, world_of(NEUTRAL, Population(night)), 100, n_days=4)
    profiles = dict(generated.users(SEED, 100, START_MS))
    hours = []
    for request in server.asked:
        profile = profiles[UserId(request.user_id)]
        zone = find_zone(profile.time_zone, profile.country)
        hours.append(datetime.fromtimestamp((request.scene.at_ms or 0) / 1000, zone).hour)
    counts = np.bincount(hours, minlength=24)
    assert counts[[0, 1, 2, 3, 4, 5]].sum() > 0.6 * counts.sum()
    assert counts[10:20].sum() < 0.01 * counts.sum()


def test_a_day_without_anything_to_see_is_nobodys_visit() -> None:
    server, world = Parrot(is_down=True), world_of(NEUTRAL)
    accounts = generated.users(SEED, 20, START_MS)
    calendar = WorldCalendar(world, accounts, n_days=N_DAYS)
    patience = RetryLimit(windows=5, first_pause_s=0.0)
    swarm = Swarm(server, calendar, seed=1, start_ms=START_MS, patience=patience)
    with pytest.raises(ConnectionError, match="gave up after asking 5 times"):
        asyncio.run(swarm.live())
    report = calendar.report()
    assert (report.visits, report.cards, report.d1, report.session_cards) == (0, 0, None, None)


@pytest.mark.parametrize("name", ["kuairand", "daily"])
def test_users_of_a_presets_world_are_those_of_its_cohorts(name: str, tmp_path: Path) -> None:
    config, preset = config_of(tmp_path / "data"), load(name)
    import_items(config, clips(10), START_MS)
    world, accounts = load_world(config, SEED, preset)
    assert (world.model.rates, world.model.priors) == (preset.rates, preset.priors)
    assert (world.moods, world.population) == (preset.moods, preset.population)
    cohorts = [profile.cohort for _, profile in accounts]
    most = max(preset.population.cohorts, key=lambda name: preset.population.cohorts[name].share)
    cohort, daily = preset.population.cohorts[most], max(preset.moods.return_classes)
    assert_share([name == most for name in cohorts], cohort.share)
    users = [world.user(*user) for user in accounts if user[1].cohort == most]
    assert_share([user.return_class == daily for user in users], cohort.daily_share)
    assert {user.peak_hours for user in users} == {cohort.peak_hours}
    leans = np.array([user.lean for user in users])
    assert abs(leans.mean() - cohort.lean) < 4.5 * preset.priors.lean_sd / len(leans) ** 0.5


def assert_share(told: Sequence[bool], share: float) -> None:
    assert abs(np.mean(told) - share) < 4.5 * (share * (1.0 - share) / len(told)) ** 0.5


def test_a_calendar_needs_a_user() -> None:
    with pytest.raises(ValueError, match="expected at least one user of the world, got none"):
        WorldCalendar(world_of(NEUTRAL), [], n_days=1)
