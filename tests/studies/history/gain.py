"""The first cards of users whose history was imported, against the same users without it.

Both arms of a seed have the same users, items and draws, and learn while they serve. Users and
items are KuaiRand's, drawn from their posteriors. Whether such a world lets a history say more than
it did in truth is measured beside it. A card is worth its exact expectation, and errors are those
of the paired ratio, over users and over seeds: the wider of both counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from env.calibration.fitting import auc
from env.feedback import DRAWN_REACTIONS
from env.items.catalogue import Catalogue
from env.records import FeedbackKind, HistoryRecord, ItemRecord, LogLine, PageRecord, Record
from env.reward import is_valid_play
from env.users import fold as user_fold
from env.users.state import UserState, newcomer
from env.vocabulary import Feedback, Floats, PageId, Profile, SessionId, UserId, UserKey
from env.world.user import SimulatedUser, simulated_users
from env.world.world import World, make_world
from policies.collaborative.fit import fit as fit_factors
from replay.estimators.intervals import t_quantile
from serve.config import Config, DataSettings
from serve.feed.pipeline import Pipeline
from serve.importers import kuairand
from serve.jobs.import_users import ImportedHistory
from serve.learn.collaborative import Generation, fit_args
from serve.learn.fold import LearnerState
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, vowpal_args
from serve.store.data_folder import open_data
from serve.wire.feed import FeedRequest
from tests.studies.history.april import IMPORTED_MS, April, import_april
from tests.studies.served_world.paired import ratio_of_sums
from tests.studies.served_world.users import Said, report
from tests.studies.served_world.world import publish

CARD_MS = 20_000
DRAW_KEY = b"history"
Z95 = 1.96

Advance = Callable[[str, int, int], None]
"""Told the part, and how much of how much is done."""


class GainSize(msgspec.Struct, frozen=True):
    """How much is swiped.

    Attributes:
        seeds: worlds, each played with the history and without; at least 2.
        users: known ones, in each world others.
        cards: the first ones of each user.
        page: cards of a page.
        shard: users who are there at the same time.
        fit_every: answers between two fits of item factors.
    """

    seeds: int = 5
    users: int = 400
    cards: int = 20
    page: int = 5
    shard: int = 50
    fit_every: int = 5_000


class GainResult(msgspec.Struct, frozen=True):
    """What an imported history is worth.

    Attributes:
        warm_gain: of a card, over the same without.
        warm_gain_low: lower end of its 95% interval.
        gains: by seed.
        warm_reward: of a card, with the history.
        cold_reward: without.
        auc_real: of valid plays of the last day's impressions, by items' rewards in the history.
        auc_world: the same of simulated answers to the same cards.
        imported: what the import came to.
        seed: of the first world.
    """

    warm_gain: float
    warm_gain_low: float
    gains: list[float]
    warm_reward: float
    cold_reward: float
    auc_real: float
    auc_world: float
    imported: str
    seed: int


@dataclass(frozen=True, slots=True)
class Known:
    """A real user, as the store knows them after the import."""

    user_id: UserId
    user: UserKey
    profile: Profile
    state: UserState


@dataclass(frozen=True, slots=True)
class Start:
    """What an arm begins with."""

    lines: Sequence[LogLine]
    states: dict[UserKey, UserState]


def run_gain(
    folder: Path, size: GainSize, *, seed: int, config: Config, work: Path, advance: Advance
) -> GainResult:
    """Measure.

    Args:
        folder: KuaiRand's, with the history file.
        size: how much.
        seed: of the first world.
        config: of the server.
        work: an empty folder, for the import.
        advance: told of the progress.
    """
    config = msgspec.structs.replace(config, data=DataSettings(folder=str(work / "data")))
    april = import_april(folder, config)
    with open_data(config) as store, store.view() as view:
        lines = [line for line in store.log.read() if line.record.at_ms <= IMPORTED_MS]
        people = view.users()
        states = view.user_states(people.keys())
    named = sorted(
        ((user_id, user, profile) for user, (user_id, profile) in people.items()),
        key=lambda each: each[0],
    )
    known = [Known(*each, states[each[1]]) for each in named if states[each[1]].n_cards]
    earned, n_seeds = [], size.seeds
    with threadpool_limits(1, user_api="blas"):
        for k in range(n_seeds):
            earned.append(_play_both(april, known, lines, size, seed + k, config))
            advance("worlds", k + 1, n_seeds)
        aucs = _aucs(april, lines, config, seed)
    return _result(earned, aucs, april.imported, seed)


def _aucs(april: April, lines: Sequence[LogLine], config: Config, seed: int) -> tuple[float, float]:
    """Return the AUC of valid plays by items' rewards in the history: in truth, in the world."""
    world, feed = make_world(april.model, april.data.items, seed), Catalogue()
    learning = LearnerState(learning_args(config))
    for line in lines:
        if isinstance(line.record, ItemRecord):
            feed.apply(line.record)
        if isinstance(line.record, HistoryRecord):
            learning.states.fold_history(line.record, config.reward)
    mean = dict(zip(feed.ids, learning.states.aligned(feed).reward_mean.tolist(), strict=False))
    shown = april.data.impressions.since(kuairand.LAST_DAY_MS).on_full_screen()
    score = np.array([mean[april.data.items[k].item_id] for k in shown.item.tolist()])
    rng, plays = np.random.default_rng(seed), []
    for k, item in zip(shown.user.tolist(), shown.item.tolist(), strict=True):
        (user,) = simulated_users(world, [april.data.users[k]])
        dwell_s = user.answer(april.data.items[item].item_id, rng).dwell_s
        plays.append(is_valid_play(dwell_s, april.data.items[item].duration_s or 0.0))
    return auc(shown.valid_play(), score), auc(np.array(plays), score)


def _result(
    earned: Sequence[tuple[Floats, Floats]],
    aucs: tuple[float, float],
    imported: ImportedHistory,
    seed: int,
) -> GainResult:
    """Return the gain from what each user's cards earned a card, with and without, by seed."""
    warm, cold = (np.concatenate(part) for part in zip(*earned, strict=True))
    ones = np.ones(len(warm))
    ratio = ratio_of_sums(warm, ones, cold, ones)
    gains = [float(mine.mean() / theirs.mean() - 1.0) for mine, theirs in earned]
    by_seed = t_quantile(0.95, len(gains) - 1) * float(np.std(gains, ddof=1)) / len(gains) ** 0.5
    low = min(ratio.value - 1.0 - Z95 * ratio.se, float(np.mean(gains)) - by_seed)
    return GainResult(
        warm_gain=ratio.value - 1.0,
        warm_gain_low=low,
        gains=gains,
        warm_reward=float(warm.mean()),
        cold_reward=float(cold.mean()),
        auc_real=aucs[0],
        auc_world=aucs[1],
        imported=str(imported),
        seed=seed,
    )


def _play_both(
    april: April,
    known: Sequence[Known],
    lines: Sequence[LogLine],
    size: GainSize,
    seed: int,
    config: Config,
) -> tuple[Floats, Floats]:
    """Return what a card of each user earned with the history and without, (n,) each."""
    rng = np.random.default_rng(seed)
    some = [known[k] for k in rng.permutation(len(known))[: size.users].tolist()]
    world = make_world(april.model, april.data.items, seed)
    warm = Start(lines, {each.user: each.state for each in some})
    cold = Start(
        [line for line in lines if isinstance(line.record, ItemRecord)],
        {each.user: newcomer(each.profile) for each in some},
    )
    with_it, without = (
        Feed(start, world, some, size, seed, config).play() for start in (warm, cold)
    )
    return with_it, without


class Feed:
    """A server in this process, and users who swipe their first cards of it in shards."""

    def __init__(
        self,
        start: Start,
        world: World,
        known: Sequence[Known],
        size: GainSize,
        seed: int,
        config: Config,
    ) -> None:
        self._world, self._known, self._size, self._config = world, known, size, config
        self._states, self._seed = start.states, seed
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self._pipeline = Pipeline(config, draw_key=DRAW_KEY, served=first)
        self._learning = LearnerState(learning_args(config))
        self._clock_ms = IMPORTED_MS
        self._version = self._n_fitted = self._n_pages = 0
        for line in start.lines:
            if isinstance(line.record, ItemRecord):
                self._pipeline.catalogue.apply(line.record)
        self._learn([line.record for line in start.lines])

    def play(self) -> Floats:
        """Return what a card of each user was worth on average, shape (n,)."""
        pairs = [(each.user_id, each.profile) for each in self._known]
        users = simulated_users(self._world, pairs)
        worth: list[float] = []
        for begin in range(0, len(users), self._size.shard):
            part = slice(begin, begin + self._size.shard)
            worth += self._play_shard(self._known[part], users[part])
        return np.array(worth)

    def _play_shard(self, known: Sequence[Known], users: Sequence[SimulatedUser]) -> list[float]:
        visits = [Visit(each, user, self._seed) for each, user in zip(known, users, strict=True)]
        while any(visit.n_cards < self._size.cards for visit in visits):
            said = [self._turn(v) for v in visits if v.n_cards < self._size.cards]
            self._clock_ms += (self._size.page + 1) * CARD_MS
            records = sorted((r for part in said for r in part), key=lambda r: r.at_ms)
            self._learn(records)
        return [visit.worth / visit.n_cards for visit in visits]

    def _turn(self, visit: "Visit") -> list[Said]:
        user = visit.known.user
        self._n_pages += 1
        page = self._pipeline.page(
            FeedRequest(user_id=user, size=self._size.page),
            user,
            self._states[user],
            session=visit.session,
            page_id=PageId(f"{user}/{self._n_pages}"),
            now_ms=self._clock_ms,
            origin=f"home of {user}",
        )
        if page is None:
            raise RuntimeError("expected a page, got none: is the catalogue empty?")
        self._pipeline.committed(page)
        n_left = self._size.cards - visit.n_cards
        said = [page, *visit.answer(page, self._world, self._config, self._clock_ms, n_left)]
        for record in said:
            self._states[user] = user_fold.fold(self._states[user], record) or self._states[user]
        return said

    def _learn(self, records: Sequence[Record]) -> None:
        offset = self._learning.offset
        self._learning.fold([LogLine(offset + k, r) for k, r in enumerate(records, start=1)])
        self._version += 1
        self._pipeline.swap(publish(self._learning, self._version))
        window, settings = self._learning.window, self._config.collaborative
        if window is None or window.n_folded - self._n_fitted < self._size.fit_every:
            return
        self._n_fitted = window.n_folded
        factors = fit_factors(
            window.answers(settings.per_user), fit_args(settings), window.n_folded
        )
        self._pipeline.collaborate(Generation(factors))


class Visit:
    """A user on their first cards, with the draws that both arms share."""

    def __init__(self, known: Known, user: SimulatedUser, seed: int) -> None:
        self.known, self._user = known, user
        self.n_cards, self.worth, self._n_sessions = 0, 0.0, 1
        key = [seed, int.from_bytes(known.user_id.encode(), "little") % 2**63]
        self._rng = np.random.default_rng(key)

    @property
    def session(self) -> SessionId:
        """Id of the session under way."""
        return SessionId(f"{self.known.user}/{self._n_sessions}")

    def answer(
        self, page: PageRecord, world: World, config: Config, now_ms: int, n_left: int
    ) -> Iterator[Said]:
        """Swipe a page until it is over, the user leaves, or these cards are seen."""
        for k, card in enumerate(page.cards[:n_left]):
            index = np.array([world.index_of(card.item_id)])
            self.worth += float(self._user.expected_reward(index, config.reward)[0])
            self.n_cards += 1
            said = _told(self._user.answer(card.item_id, self._rng))
            yield from report(page, k, said, now_ms + (k + 1) * CARD_MS)
            if self._user.leaves(self._rng):
                self._user.rest(1.0)
                self._n_sessions += 1
                return


def _told(feedback: Feedback) -> list[tuple[FeedbackKind, float]]:
    done: list[tuple[FeedbackKind, float]] = [
        (kind, 0.0) for kind in DRAWN_REACTIONS if getattr(feedback, kind)
    ]
    return [("impression", 0.0), ("dwell", feedback.dwell_s), *done, ("leave", 0.0)]
