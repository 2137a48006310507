"""The feed pipeline draws a page for a request, without HTTP and without a database.

Stages: observe, eligibility, retrieve with the reserved uploads first, filter, slot rules, encode,
fill, record. Policy, item statistics and audiences are one object that the follower swaps whole, so
exactly one version draws a page. Rejected alternatives: `docs/decisions/serve-feed-pipeline.md`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from env.arrays.index_sets import is_among
from env.columns.schema import N_STATIC, SCHEMA
from env.fair_start.reach import Reach
from env.features.encode import encode
from env.features.scenes import observe
from env.interface import Policy, fill_page, page_seed
from env.items.catalogue import Catalogue
from env.pages.records import page_record
from env.records import PageRecord
from env.users.state import UserState
from env.vocabulary import Bools, Context, Float32s, Ints, Page, PageId, Scene, SessionId, UserKey
from policies.candidates import filters, retrieval
from policies.candidates.context import UserHistory
from policies.candidates.eligibility import Eligibility, Eligible
from policies.candidates.filters import Filtered
from policies.candidates.markets import Markets
from policies.candidates.nearest import MatchIndex, interests_of
from policies.candidates.retrieval import DEBUT, Retrieved
from policies.slots import offers as fair_start
from policies.slots import reserved as pools
from policies.slots import spacing
from policies.slots.offers import PendingImpressions
from serve.config import Arm, Config
from serve.feed.experiment import assign, baseline
from serve.learn.rankers import Ranking
from serve.learn.served import Folds, ServingModel
from serve.wire.feed import FeedRequest


@dataclass(frozen=True, slots=True)
class Query:
    """The inputs of one page, which every stage of the pipeline reads."""

    state: UserState
    scene: Scene
    served: ServingModel
    size: int  # number of cards, at least 1
    seed: int  # seed of the page's draws


_TIMES_ASKED = 4
"""Maximum number of rounds in which rate-limited uploads are replaced by others."""


@dataclass(frozen=True, slots=True)
class ReservedCandidates:
    """The slots that one page reserves, and the candidates for them."""

    places: Ints  # slots to reserve, in random order
    debut: Ints  # catalogue indices of the candidates, the most urgent first


class SlotReservations:
    """Computes the reservations of one replica's pages and counts its deliveries in flight."""

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        self._config = config
        self._catalogue = catalogue
        self._undelivered = PendingImpressions()

    def offer(
        self,
        asked: Query,
        interests: Mapping[str, Float32s],
        known: UserHistory,
        eligible: Eligible,
        new: Bools,
    ) -> ReservedCandidates:
        """Return the slots a page reserves for uploads with a shortfall, and their candidates.

        Args:
            asked: the query of the page.
            interests: the user's interests, see `policies.candidates.nearest.interests_of`.
            known: the user's history.
            eligible: items that the user may be shown.
            new: shape (n_items,), eligible items that are new to the user.
        """
        reach = asked.served.audiences.aligned(self._catalogue)
        pending = self._undelivered.pending(reach, asked.scene.at_ms)
        owed = self._owed_to(reach, pending, known, eligible, new)
        unmet = owed[self._is_unmet(asked, pending, owed)]
        share = asked.served.audiences.share(asked.scene.country, asked.scene.language)
        if len(unmet):
            share, owed = max(share, self._config.fair_start.budget), unmet
        places = pools.reserve(share, asked.size, asked.seed)
        return ReservedCandidates(places, self._suited(asked, interests, reach, owed, len(places)))

    def committed(self, page: PageRecord) -> None:
        """Count the cards of a committed page as deliveries in flight."""
        places = (self._catalogue.index_of(card.item_id) for card in page.cards)
        index = np.array([i for i in places if i is not None], dtype=np.int64)
        self._undelivered.drew(index, page.at_ms)

    def _owed_to(
        self, reach: Reach, pending: Ints, known: UserHistory, eligible: Eligible, new: Bools
    ) -> Ints:
        """Return the uploads with a shortfall that this user can be offered, most urgent first."""
        owed = fair_start.uploads_with_shortfall(self._catalogue, reach, new, pending)
        return filters.filter_candidates(
            known, eligible, self._catalogue, owed, at_least=0, per_creator=max(len(owed), 1)
        ).kept

    def _is_unmet(self, asked: Query, pending: Ints, owed: Ints) -> Bools:
        """Return the uploads without any impression, delivered or in flight from this replica."""
        impressions = asked.served.states.aligned(self._catalogue).impressions
        unmet: Bools = (impressions[owed] == 0.0) & (pending[owed] == 0)
        return unmet

    def _suited(
        self,
        asked: Query,
        interests: Mapping[str, Float32s],
        reach: Reach,
        owed: Ints,
        n_reserved: int,
    ) -> Ints:
        if not n_reserved:
            return owed[:0]
        n_candidates = max(self._config.feed.candidates, asked.size)
        at_most = max(n_candidates // 2, n_reserved)
        hearing = owed[:0]
        for _ in range(_TIMES_ASKED):
            suited = fair_start.choose_reserved(
                interests, self._catalogue, reach, owed, n_reserved, at_most, asked.seed
            )
            hears = self._hears(asked, suited)
            hearing = suited[hears]
            if hears.all():
                break
            owed = owed[~is_among(owed, suited[~hears])]
        return hearing

    def _hears(self, asked: Query, index: Ints) -> Bools:
        """Return the uploads whose audience would accept an impression of this user."""
        audiences, ids = asked.served.audiences, self._catalogue.ids
        return np.array([audiences.hears(asked.scene, ids[i]) for i in index.tolist()], np.bool_)


class PageMaker(Protocol):
    """Draws pages from a catalogue that the engine keeps current with the log."""

    @property
    def catalogue(self) -> Catalogue:
        """The items; only the engine updates them."""
        ...

    @property
    def folds(self) -> Folds:
        """The item statistics and audiences of the version that draws the pages."""
        ...

    def page(
        self,
        request: FeedRequest,
        user: UserKey,
        state: UserState,
        *,
        session: SessionId,
        page_id: PageId,
        now_ms: int,
        origin: str,
    ) -> PageRecord | None:
        """Return a page of at least one card, drawn under this id; None: no item may be shown.

        `origin` is the pseudonym of the address block that the request comes from.
        """
        ...

    def committed(self, page: PageRecord) -> None:
        """Learn that a page that was drawn here is in the log and will be delivered."""
        ...


class Stopwatch:
    """Adds up the time between laps under the lap's name."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        """Use this steady clock; call `start` before the first lap."""
        self.spent_ns: dict[str, int] = {}
        self._clock_ns = clock_ns
        self._last_ns = 0

    def start(self) -> None:
        """Begin a page."""
        self._last_ns = self._clock_ns()

    def lap(self, step: str) -> None:
        """Add the time since the last lap, or since the start, to this step."""
        now_ns = self._clock_ns()
        self.spent_ns[step] = self.spent_ns.get(step, 0) + now_ns - self._last_ns
        self._last_ns = now_ns

    def shares(self) -> dict[str, float]:
        """Return each step's share of the total time."""
        total = sum(self.spent_ns.values()) or 1
        return {step: spent / total for step, spent in self.spent_ns.items()}


Lap = Callable[[str], None]

SPARE = 1.4
"""Items retrieved per candidate wanted, to make up for those that the filters remove."""

SHORT_PAGE = "fewer items than asked for"


@dataclass(frozen=True, slots=True)
class PageCandidates:
    """The candidates of a page, their retrieval sources and the rules relaxed for them."""

    index: Ints  # (n,) catalogue indices
    retrieved: Retrieved
    filtered: Filtered
    places: Ints  # slots to reserve for delivery guarantees, in random order

    def reason(self, action: int) -> str:
        """Return the source that proposed a candidate."""
        return self.retrieved.reason(int(self.filtered.rows[action]))

    @property
    def owed(self) -> Bools:
        """Candidates proposed because of a shortfall in their delivery guarantee, shape (n,)."""
        owed: Bools = self.retrieved.source[self.filtered.rows[: len(self.index)]] == DEBUT
        return owed


class Pipeline:
    """Draws pages for one replica."""

    def __init__(
        self,
        config: Config,
        *,
        draw_key: bytes,
        served: ServingModel,
        catalogue: Catalogue | None = None,
    ) -> None:
        """Draw with `served` until the follower swaps in another version.

        Args:
            config: its sections feed, experiment, pools and markets are used.
            draw_key: seeds the draws, see `env.interface.page_seed`.
            served: the first version.
            catalogue: updated by the engine; empty if None.
        """
        self.catalogue = catalogue if catalogue is not None else Catalogue()
        self._config = config
        self._draw_key = draw_key
        self._served = served
        self._ranking: Ranking | None = None
        self._nearest: MatchIndex | None = None
        self._eligibility = Eligibility(Markets(config.markets), config.pools)
        self._owed = SlotReservations(config, self.catalogue)
        arms = config.experiment.arms
        self._baselines: Mapping[str, Policy] = {
            arm.name: policy for arm in arms if (policy := baseline(arm)) is not None
        }

    @property
    def served(self) -> ServingModel:
        """The version that draws the pages now."""
        return self._served

    @property
    def folds(self) -> Folds:
        """The item statistics and audiences of the version that draws the pages."""
        served, args = self._served, self._config.audiences
        return Folds(
            served.audiences, served.states, self.catalogue, args, served.version, served.offset
        )

    def swap(self, served: ServingModel) -> None:
        """Draw all further pages with this version."""
        self._served = served

    def warm(self, served: ServingModel) -> None:
        """Let a version compute the data its first page needs, while another is still served.

        The first page adds items that came to the catalogue meanwhile.
        """
        reach = served.audiences.aligned(self.catalogue)
        reach.prepare()
        served.audiences.overdrawn()
        served.audiences.share("", "")
        items, before = served.states.aligned(self.catalogue), self._served.states.last_aligned
        items.popularity.interest(Scene(0), self.catalogue.vectors)
        if before is not None:
            items.popularity.prepare(before.popularity, self.catalogue.vectors)
        if self._nearest is not None:
            self._nearest.follow(items)

    @property
    def nearest(self) -> MatchIndex | None:
        """The index in which best matches are searched; None: all items are scanned."""
        return self._nearest

    def eligible(
        self,
        served: ServingModel,
        state: UserState,
        scene: Scene,
        known: UserHistory,
        at_least: int,
    ) -> Eligible:
        """Return the items that one version may show to a user."""
        reach = served.audiences.aligned(self.catalogue)
        return self._eligibility.eligible(
            self.catalogue, reach, scene, state.profile, known, at_least
        )

    def look_in(self, nearest: MatchIndex) -> None:
        """Search the best matches of all further pages in this index."""
        self._nearest = nearest

    def rank(self, ranking: Ranking | None) -> None:
        """Blend all further pages with this ranker; None: the bandit serves alone."""
        self._ranking = ranking

    def page(
        self,
        request: FeedRequest,
        user: UserKey,
        state: UserState,
        *,
        session: SessionId,
        page_id: PageId,
        now_ms: int,
        origin: str = "",
        stopwatch: Stopwatch | None = None,
    ) -> PageRecord | None:
        """Return a page of at least one card; None: no item may be shown.

        Args:
            request: the number of cards, and the scene as the client reports it.
            user: the user's pseudonym, which decides the experiment's arm.
            state: the user's state.
            session: session of the page.
            page_id: id of the page; seeds the draws.
            now_ms: the server's time.
            origin: pseudonym of the address block that the request comes from.
            stopwatch: records the time of each step.
        """
        lap = stopwatch.lap if stopwatch else _no_lap
        served = self._served
        arm = assign(self._config.experiment, user)
        policy = self._policy(arm, served)
        seed = page_seed(self._draw_key, page_id)

        scene = _observe(request, state, session, now_ms, origin)
        lap("observe")
        asked = Query(state, scene, served, request.size, seed)
        chosen = self._choose(asked, lap)
        if not len(chosen.index):
            return None
        slots = pools.slots(
            request.size, self.catalogue, chosen.index, served.states, chosen.owed, chosen.places
        )
        about = spacing.topics(self.catalogue, chosen.index)
        slots = spacing.spread(slots, about, self._topic_gap(state), seed)
        encoded = encode(state, scene, self.catalogue, chosen.index, served.states)
        lap("encode")
        candidates = tuple(map(self.catalogue.ids.__getitem__, chosen.index.tolist()))
        context = Context(page_id, user, session, scene, candidates, encoded)
        page = fill_page(context, policy, slots, self._config.feed.eps, seed)
        lap("fill")
        record = self._record(page, chosen, arm.name, request.size)
        lap("record")
        return record

    def _topic_gap(self, state: UserState) -> int:
        feed, half = self._config.feed, self._config.learner.newcomer_evidence
        return spacing.gap_for(state.evidence, feed.topic_gap, feed.newcomer_topic_gap, half)

    def committed(self, page: PageRecord) -> None:
        """Learn that a page was committed; a page that is drawn again never is."""
        self._owed.committed(page)

    def _policy(self, arm: Arm, served: ServingModel) -> Policy:
        ranking = self._ranking
        if arm.policy == "blend" and ranking is not None:
            return ranking.blended(served.policy, self._config.retention)
        return self._baselines.get(arm.name, served.policy)

    def _choose(self, asked: Query, lap: Lap) -> PageCandidates:
        feed, scene, catalogue = self._config.feed, asked.scene, self.catalogue
        wanted = max(feed.candidates, asked.size)
        known = UserHistory.of(asked.state, catalogue, scene.at_ms, feed.creator_gap)
        eligible = self.eligible(asked.served, asked.state, scene, known, asked.size)
        new = known.new(eligible.allowed)
        items = asked.served.states.aligned(catalogue)
        interests = interests_of(asked.state, scene, catalogue, items)
        offer = self._owed.offer(asked, interests, known, eligible, new)
        retrieved = retrieval.retrieve(
            asked.state,
            scene,
            catalogue,
            asked.served.states,
            known,
            eligible.allowed,
            round(SPARE * wanted),
            asked.seed,
            interests=interests,
            debut=offer.debut,
            nearest=self._nearest,
            new=new,
        )
        lap("retrieve")
        filtered = filters.filter_candidates(
            known,
            eligible,
            catalogue,
            retrieved.index,
            at_least=asked.size,
            per_creator=feed.per_creator,
        )
        lap("filter")
        return PageCandidates(filtered.kept[:wanted], retrieved, filtered, offer.places)

    def _record(self, page: Page, chosen: PageCandidates, arm: str, size: int) -> PageRecord:
        drawn = [decision.action for decision in page.decisions]
        short = SHORT_PAGE if len(drawn) < size else ""
        return page_record(
            page,
            blocks=self.catalogue.hashes[chosen.index].astype("<u8").tobytes(),
            n_static=N_STATIC,
            feature_schema=SCHEMA,
            cards=tuple(self.catalogue.card(int(chosen.index[action])) for action in drawn),
            reasons=tuple(chosen.reason(action) for action in drawn),
            arm=arm,
            degraded="; ".join(filter(None, (chosen.filtered.degraded, short))),
            removed=chosen.filtered.counts(),
        )


def _observe(
    request: FeedRequest, state: UserState, session: SessionId, now_ms: int, origin: str
) -> Scene:
    body = request.scene
    return observe(
        state,
        session,
        now_ms,
        country=body.country,
        language=body.language,
        device=body.device,
        network=body.network,
        referrer=body.referrer,
        origin=origin,
    )


def _no_lap(step: str) -> None:
    """Time nothing."""
