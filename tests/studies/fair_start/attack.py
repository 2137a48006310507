"""How much fake accounts push an ordinary video, with guards and without.

Four runs of one world, with the same users, uploads and seeds: guards on and off, attacked and
not. The boost is what the video got from real users under attack over what it got without. An
ordinary video is one near the median of the true quality of what there is in its home. One of each
market is attacked in one run, by accounts of its own, and impressions are added up, so that the
figure does not hang on one of them; how much it does, its standard error says (`Boosts`). It does
where one is promoted, as an ordinary one may be by chance: that owes it hundreds of impressions.

What a source may send is measured by earlier traffic, so there must be some: a day of it, of enough
users that the fakes are fewer than a market's own, but in the smallest two. How many they are for
each of these is told with the figures; within their hours they still are most of what comes in a
small market.

A fifth run, with guards, is of what guards cannot do: old accounts, each with an address block of
its own, push some of these videos. They are an audience as far as a log can tell, so the figure is
there to be known, and has no target.

Rejected: comparing guarded and unguarded attacks directly (without guards a world also judges
others' uploads differently), and 6,000 users with a warm-up of 6 h (in the smaller markets the
fakes are then as many as the users, and the share of young accounts is known from few).
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from env.records import FeedbackKind
from env.users.state import newcomer
from env.vocabulary import Ints, ItemId, Profile, UserKey
from env.world.generated import MARKETS
from env.world.presets import Preset
from replay.estimators.intervals import clustered_se
from replay.estimators.ratios import SumRatio, influence_of
from serve.config import Config
from tests.studies.fair_start.true_quality import Quality
from tests.studies.served_world.arrivals import Arrivals
from tests.studies.served_world.items import DAY_MS, item_id
from tests.studies.served_world.users import Person, Said, report
from tests.studies.served_world.world import START_MS, ServedWorld, WorldSize

SKIP_S = 0.4

CARD_MS = 500
"""Between two of their cards on the server's clock: nobody is really watching."""

DEVICE = "phone"

_ALL: tuple[FeedbackKind, ...] = ("like", "share", "leave")


class AttackSize(msgspec.Struct, frozen=True):
    """How hard a video is pushed.

    Attributes:
        accounts: that push it.
        origins: blocks of addresses that they come from; 0: no address is told.
        hours: from the upload on, in which they come, evenly.
        pages: that one asks for at most.
        tenure_days: since they registered.
        cohort: as which they registered.
    """

    accounts: int = 1_000
    origins: int = 20
    hours: float = 6.0
    pages: int = 3
    tenure_days: float = 1.0
    cohort: str = "day_new"


CHEAP = AttackSize()

OLD = AttackSize(origins=1_000, tenure_days=400.0, cohort="full_active")


class FakeAccounts:
    """A guest of a world: so many accounts a turn, until all have been there.

    Attributes:
        n_pushed: accounts that were shown the video, and pushed it.
    """

    def __init__(self, size: AttackSize, row: int) -> None:
        """Prepare; nobody comes before the video is there.

        Args:
            size: of the attack.
            row: of the video in the stock, which may still be to come.
        """
        self._size, self._row = size, row
        self._n_came = self.n_pushed = 0

    def visit(self, world: ServedWorld) -> list[Said]:
        """See `tests.studies.served_world.world.Guest`."""
        catalogue, size = world.pipeline.catalogue, self._size
        if self._row >= len(catalogue):
            return []
        target = catalogue.item(self._row)
        since_h = (world.clock_ms + world.size.turn_ms - target.published_ms) / 3_600_000
        due = round(size.accounts * min(since_h / size.hours, 1.0))
        records: list[Said] = []
        for k in range(self._n_came, due):
            profile = Profile(
                country=target.country,
                language=target.language,
                device=DEVICE,
                cohort=size.cohort,
                registered_ms=world.clock_ms - round(DAY_MS * size.tenure_days),
                follows=(target.creator,) if target.creator else (),
            )
            user = Person(
                UserKey(f"fake-{self._row}-{k}"),
                newcomer(profile),
                origin=f"farm {self._row}/{k % size.origins}" if size.origins else "",
            )
            records += self._push(world, user, target.item_id)
        self._n_came = max(self._n_came, due)
        return records

    def _push(self, world: ServedWorld, user: Person, target: ItemId) -> list[Said]:
        """Ask for pages until the video was there."""
        records: list[Said] = []
        at_ms = world.clock_ms
        for _ in range(self._size.pages):
            page = world.draw(user)
            if page is None:
                return records
            said: list[Said] = [page]
            for k, card in enumerate(page.cards):
                at_ms += CARD_MS
                said += report(page, k, _answer(card.item_id == target, card.duration_s), at_ms)
            user.hear(said)
            records += said
            if any(card.item_id == target for card in page.cards):
                self.n_pushed += 1
                return records
        return records


def _answer(is_target: bool, duration_s: float) -> list[tuple[FeedbackKind, float]]:
    if not is_target:
        return [("dwell", SKIP_S), ("leave", 0.0)]
    return [("dwell", duration_s), *((kind, 0.0) for kind in _ALL)]


Advance = Callable[[str, int, int], None]


class AttackRuns(msgspec.Struct, frozen=True):
    """How much is simulated in each run.

    Attributes:
        videos: that are attacked, each in another market, the largest first; a market without an
            upload by then is passed over.
        users: who come in turn.
        cards_a_day: of real users together.
        warm_days: before the first upload.
        uploads_a_day: then; the attacked are among those of the first `choose_days`, and with fewer
            some market's most ordinary one is among its best or worst.
        choose_days: see there.
        days: in which impressions count.
        attack: on each video.
        old_videos: that old accounts attack in a run of its own, the first ones; 0: no such run.
        old: that attack.
    """

    videos: int = 8
    users: int = 20_000
    cards_a_day: int = 120_000
    items: int = 2_048
    shard: int = 250
    warm_days: float = 1.0
    uploads_a_day: float = 80.0
    choose_days: float = 0.5
    days: float = 1.5
    attack: AttackSize = CHEAP
    old_videos: int = 1
    old: AttackSize = OLD


class Attacked(msgspec.Struct, frozen=True):
    """A video that was attacked, and the impressions that real users gave it.

    Attributes:
        rank: share of its home's items that are truly worse.
        pushed: accounts that were shown it and pushed it, guards on and off.
        guarded: impressions with guards, under attack.
        guarded_calm: the same without an attack.
        unguarded: without guards, under attack.
        unguarded_calm: the same without an attack.
        pushed_by_old: the same of old accounts; None: they did not attack it.
        old: impressions with guards, under attack by old accounts; None likewise.
        fakes_per_user: accounts that push it, for each user of its home.
    """

    item_id: str
    country: str
    rank: float
    pushed: tuple[int, int]
    guarded: int
    guarded_calm: int
    unguarded: int
    unguarded_calm: int
    pushed_by_old: int | None
    old: int | None
    fakes_per_user: float


def run_attack(
    runs: AttackRuns, *, preset: Preset, seed: int, config: Config, advance: Advance
) -> list[Attacked]:
    """Attack ordinary videos.

    Args:
        runs: how much.
        preset: of the world.
        seed: of users, items, uploads and draws.
        config: of the server.
        advance: told of progress.
    """
    trial = _Trial(runs, preset, seed, advance)
    rows, homes, ranks, users = trial.choose(config)
    off = msgspec.structs.replace(config.guards, enabled=False)
    unguarded = msgspec.structs.replace(config, guards=off)
    attacked = trial.run(config, rows, runs.attack, "guarded, attacked")
    calm = trial.run(config, rows, None, "guarded, calm")
    bare = trial.run(unguarded, rows, runs.attack, "unguarded, attacked")
    bare_calm = trial.run(unguarded, rows, None, "unguarded, calm")
    by_old: list[_Outcome | None] = [None] * len(rows)
    if runs.old_videos:
        n_old = min(runs.old_videos, len(rows))
        by_old[:n_old] = trial.run(config, rows[:n_old], runs.old, "guarded, old accounts")
    return [
        Attacked(
            item_id=item_id(row),
            country=homes[k],
            rank=ranks[k],
            pushed=(attacked[k].pushed, bare[k].pushed),
            guarded=attacked[k].shown,
            guarded_calm=calm[k].shown,
            unguarded=bare[k].shown,
            unguarded_calm=bare_calm[k].shown,
            pushed_by_old=old.pushed if (old := by_old[k]) else None,
            old=old.shown if old else None,
            fakes_per_user=runs.attack.accounts / max(users[k], 1),
        )
        for k, row in enumerate(rows.tolist())
    ]


class Boosts(msgspec.Struct, frozen=True):
    """How many times the impressions without an attack videos had under it, all together.

    A video that real users never saw without the attack counts as seen once.

    Attributes:
        guarded: with guards.
        unguarded: without.
        old: with guards, those that old accounts attacked; None: there are none.
        guarded_se: standard error of `guarded`, from how videos differ
            (`replay.estimators.ratios`); None: of one video nothing is known of that. What they
            share is not in it: the world, its seed.
    """

    guarded: float
    unguarded: float
    old: float | None
    guarded_se: float | None = None

    @staticmethod
    def of(attacked: list[Attacked]) -> "Boosts":
        """Add up."""
        guarded = [(a.guarded, a.guarded_calm) for a in attacked]
        by_old = [(a.old, a.guarded_calm) for a in attacked if a.old is not None]
        return Boosts(
            guarded=_ratio(guarded),
            unguarded=_ratio([(a.unguarded, a.unguarded_calm) for a in attacked]),
            old=_ratio(by_old) if by_old else None,
            guarded_se=_error(guarded),
        )


def _ratio(pairs: list[tuple[int, int]]) -> float:
    under, without = map(sum, zip(*pairs, strict=True))
    return under / max(without, 1)


def _error(pairs: list[tuple[int, int]]) -> float | None:
    under, without = np.array(pairs, dtype=np.float64).T
    if len(pairs) < 2 or not without.any():
        return None
    return clustered_se(influence_of([SumRatio(under, without)]), np.arange(len(pairs)))


class _Outcome(NamedTuple):
    """Impressions of a video by real users, and fake accounts that pushed it."""

    shown: int
    pushed: int


class _Trial:
    """Runs one world again and again."""

    def __init__(self, runs: AttackRuns, preset: Preset, seed: int, advance: Advance) -> None:
        self._runs, self._preset, self._seed, self._advance = runs, preset, seed, advance

    def choose(self, config: Config) -> tuple[Ints, list[str], list[float], list[int]]:
        """Return rows, homes, ranks and users at home of the videos to attack."""
        world = self._world(config)
        supply = Arrivals(world.preset, self._seed, 0.0)
        supply.advance(self._runs.warm_days)
        supply.a_day = self._runs.uploads_a_day
        rows = supply.advance(self._runs.warm_days + self._runs.choose_days)
        everything = np.arange(supply.stock.n)
        home = supply.creators.home[supply.stock.creator]
        quality = Quality(world.preset, config.reward).of(supply.stock, everything, home)
        users = np.concatenate([s.swiping.crowd.users.market for s in world.shards])
        chosen = []
        for market in range(self._runs.videos):
            here = np.flatnonzero((home == market) & (everything < world.size.items))
            mine = rows[home[rows] == market]
            if not len(mine):
                continue
            rank = (quality[here] < quality[mine][:, None]).mean(axis=1)
            best = int(np.argmin(np.abs(rank - 0.5)))
            n_users = int(np.count_nonzero(users == market))
            chosen.append((int(mine[best]), MARKETS[market].country, float(rank[best]), n_users))
        if not chosen:
            raise ValueError("expected an upload to attack, got none: take more uploads")
        targets, homes, ranks, n_home = zip(*chosen, strict=True)
        return np.array(targets), list(homes), list(ranks), list(n_home)

    def run(
        self, config: Config, rows: Ints, attack: AttackSize | None, step: str
    ) -> list[_Outcome]:
        """Run a world in which these videos are attacked, or none; return theirs, one by one."""
        world, runs = self._world(config), self._runs
        total_ms = round(DAY_MS * (runs.warm_days + runs.days))

        def told(_: int) -> None:
            self._advance(step, world.clock_ms - START_MS, total_ms)

        world.run_days(runs.warm_days, told)
        world.supply.a_day = runs.uploads_a_day
        farms = [FakeAccounts(attack, row) for row in rows.tolist()] if attack else []
        world.guests += farms
        world.run_days(runs.days, told)
        shown = [int(np.count_nonzero(world.shown.row == row)) for row in rows]
        pushed = [farm.n_pushed for farm in farms] or [0] * len(rows)
        return list(map(_Outcome, shown, pushed))

    def _world(self, config: Config) -> ServedWorld:
        runs = self._runs
        size = WorldSize(
            users=runs.users,
            shard=runs.shard,
            cards_a_day=runs.cards_a_day,
            items=runs.items,
        )
        return ServedWorld(size, preset=self._preset, seed=self._seed, config=config)
