"""The feed pipeline draws a page for a request, without HTTP and without a database.

Stages: observe, eligibility, retrieve with the reserved uploads first, filter, slot rules, encode,
fill, record. Policy, item statistics and audiences are one object that the follower swaps whole, so
exactly one version draws a page. Rejected alternatives: `docs/decisions/serve-feed-pipeline.md`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import numpy as np

from env.arrays.index_sets import is_among
from env.columns.schema import N_STATIC, SCHEMA
from env.fair_start.audience import Audiences
from env.features.encode import encode
from env.features.scenes import observe
from env.interface import Policy, fill_page, page_seed
from env.items.catalogue import Catalogue
from env.pages.records import page_record
from env.records import PageRecord
from env.users.state import UserState
from env.vocabulary import (
    Context,
    CreatorId,
    Ints,
    Page,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.candidates import filters
from policies.candidates.eligibility import Eligibility
from policies.candidates.filters import Filtered
from policies.candidates.markets import Markets
from policies.candidates.query import (
    Inventory,
    MatchIndex,
    Query,
    QuerySettings,
    ReservedCandidates,
)
from policies.candidates.retrieval import Retrieved, retrieve
from policies.slots.offers import PendingImpressions, choose_reserved, uploads_with_shortfall
from policies.slots.rules import by_language, gave_way, reserve, slots, spaced
from serve.config import Arm, Config, Experiment, MixtureSettings
from serve.feed.custom_pages import CustomPages
from serve.learn.collaborative import NO_GENERATION, Generation
from serve.learn.custom import load_customs
from serve.learn.rankers import Ranking
from serve.learn.served import Folds, ServingModel
from serve.wire.feed import FeedRequest


def assign(experiment: Experiment, user: UserKey) -> Arm:
    """Return the arm of a user, drawn in proportion to the arms' shares.

    >>> both = Experiment("half", (Arm("control", "uniform"), Arm("treated", "vowpal")))
    >>> {assign(both, UserKey(f"u{i}")).name for i in range(20)} == {"control", "treated"}
    True
    """
    edges = list(accumulate(arm.share for arm in experiment.arms))
    point = _uniform(experiment.name, user) * edges[-1]
    return next(
        (arm for arm, edge in zip(experiment.arms, edges, strict=True) if point < edge),
        experiment.arms[-1],
    )


def baseline(arm: Arm) -> Policy | None:
    """Return the policy of an arm that needs no learner; None for a learned or custom policy."""
    match arm.policy:
        case "uniform":
            return UniformPolicy()
        case "popularity":
            return PopularityPolicy()
        case "mixture":
            mixture = arm.mixture or MixtureSettings()
            return mixture_policy(mixture.uniform_share, mixture.temperature)
        case _:
            return None


def _uniform(name: str, user: UserKey) -> float:
    """Return a number in [0, 1) with 53 bits, the same everywhere for the same name and user."""
    message = f"{name}\0{user}".encode()
    digest = hashlib.blake2b(message, digest_size=8, person=b"arm").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


_TIMES_ASKED = 4
"""Maximum number of rounds in which rate-limited uploads are replaced by others."""


class SlotReservations:
    """Computes the reservations of one replica's pages and counts its deliveries in flight."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._undelivered = PendingImpressions()

    def offer(self, query: Query, audiences: Audiences) -> ReservedCandidates:
        """Return the slots a page reserves for uploads with a shortfall, and their candidates."""
        scene, pending = query.scene, self._undelivered.pending(query.reach, query.scene.at_ms)
        owed = uploads_with_shortfall(query.catalogue, query.reach, query.new, pending)
        owed = filters.suitable(query, owed)
        if query.languages.is_split and not query.languages.asks_for_others:
            owed = owed[query.languages.is_own(owed)]
        # Uploads without any impression, delivered or in flight from this replica, go first.
        unmet = owed[(query.items.impressions[owed] == 0.0) & (pending[owed] == 0)]
        share = audiences.share(scene.country, scene.language)
        if len(unmet):
            share, owed = max(share, query.settings.unmet_budget), unmet
        places = reserve(share, query.size, query.seed)
        return ReservedCandidates(places, _suited(query, audiences, owed, len(places)))

    def committed(self, page: PageRecord) -> None:
        """Count the cards of a committed page as deliveries in flight."""
        places = (self._catalogue.index_of(card.item_id) for card in page.cards)
        index = np.array([i for i in places if i is not None], dtype=np.int64)
        self._undelivered.drew(index, page.at_ms)


def _suited(query: Query, audiences: Audiences, owed: Ints, n_reserved: int) -> Ints:
    """Return the uploads that suit the user and whose audience accepts their impression."""
    hearing = owed[:0]
    if not n_reserved:
        return hearing
    at_most, ids = max(query.n_candidates // 2, n_reserved), query.catalogue.ids
    for _ in range(_TIMES_ASKED):
        suited = choose_reserved(query, owed, n_reserved, at_most)
        hears = np.array([audiences.hears(query.scene, ids[i]) for i in suited.tolist()], np.bool_)
        hearing = suited[hears]
        if hears.all():
            break
        owed = owed[~is_among(owed, suited[~hears])]
    return hearing


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

    @property
    def learned(self) -> Generation:
        """The generation of what is learned from all users that pages are drawn with."""
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

    def reason(self, action: int) -> str:
        """Return the source that proposed a candidate."""
        return self.retrieved.reason(int(self.filtered.rows[action]))


class Pipeline:
    """Draws pages for one replica."""

    def __init__(
        self,
        config: Config,
        *,
        draw_key: bytes,
        served: ServingModel,
        catalogue: Catalogue | None = None,
        custom: CustomPages | None = None,
    ) -> None:
        """Draw with `served` until the follower swaps in another version.

        Args:
            config: its sections feed, experiment, pools and markets are used.
            draw_key: seeds the draws, see `env.interface.page_seed`.
            served: the first version.
            catalogue: updated by the engine; empty if None.
            custom: draws for the arms with a custom policy; None: these are loaded here.

        Raises:
            JobError: a custom policy cannot be loaded.
        """
        self.catalogue = catalogue if catalogue is not None else Catalogue()
        self._config = config
        self._draw_key = draw_key
        self._served = served
        self._ranking: Ranking | None = None
        self._nearest: MatchIndex | None = None
        self._learned = NO_GENERATION, NO_GENERATION.factors.places_in(self.catalogue)
        self._settings = query_settings(config)
        self._eligibility = Eligibility(Markets(config.markets), config.pools)
        self._owed = SlotReservations(self.catalogue)
        self._custom = custom or CustomPages(config, load_customs(config))
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

    def inventory(self, served: ServingModel, own: CreatorId | None = None) -> Inventory:
        """Return the items and the version that a page is drawn from.

        Args:
            served: the version.
            own: the creator whose uploads are the user's own; None: nobody.
        """
        catalogue = self.catalogue
        learned, places = self._learned
        return Inventory(
            catalogue,
            served.states.aligned(catalogue),
            served.audiences,
            self._eligibility,
            self._settings,
            self._nearest,
            learned.factors,
            places,
            learned.apps,
            own,
        )

    def collaborate(self, learned: Generation) -> None:
        """Draw all further pages with this generation."""
        self._learned = learned, learned.factors.places_in(self.catalogue)

    @property
    def learned(self) -> Generation:
        """The generation of what is learned from all users that pages are drawn with."""
        return self._learned[0]

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
        seed = page_seed(self._draw_key, page_id)

        scene = _observe(request, state, session, now_ms, origin)
        lap("observe")
        inventory = self.inventory(served, CreatorId(request.user_id))
        query = Query.of(inventory, state, scene, request.size, seed)
        query = query.reserving(self._owed.offer(query, served.audiences))
        chosen = _choose(query, lap)
        if not len(chosen.index):
            return None
        rules = by_language(query, chosen.index, slots(query, chosen.index))
        rules = spaced(query, chosen.index, rules)
        encoded = encode(query, chosen.index)
        lap("encode")
        candidates = tuple(map(self.catalogue.ids.__getitem__, chosen.index.tolist()))
        context = Context(page_id, user, session, scene, candidates, encoded)
        page, replaced = self._fill(arm, served, context, rules, seed)
        lap("fill")
        record = self._record(page, chosen, arm.name, request.size, replaced)
        lap("record")
        return record

    def committed(self, page: PageRecord) -> None:
        """Learn that a page was committed; a page that is drawn again never is."""
        self._owed.committed(page)

    def _fill(
        self, arm: Arm, served: ServingModel, context: Context, slots: Sequence[SlotRule], seed: int
    ) -> tuple[Page, str]:
        """Return a page of an arm, and why another policy than the arm's drew it, if so."""
        if arm.is_custom:
            return self._custom.fill(arm, served.custom, context, slots, seed)
        policy = self._policy(arm, served)
        return fill_page(context, policy, slots, self._config.feed.eps, seed), ""

    def _policy(self, arm: Arm, served: ServingModel) -> Policy:
        ranking = self._ranking
        if arm.policy == "blend" and ranking is not None:
            return ranking.blended(served.policy, self._config.retention)
        return self._baselines.get(arm.name, served.policy)

    def _record(
        self, page: Page, chosen: PageCandidates, arm: str, size: int, replaced: str
    ) -> PageRecord:
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
            degraded="; ".join(filter(None, (_relaxed(page, chosen), short, replaced))),
            removed=chosen.filtered.counts(),
            proposers=chosen.retrieved.n_proposers(chosen.index[drawn]),
        )


def _choose(query: Query, lap: Lap) -> PageCandidates:
    """Return the page's candidates."""
    retrieved = retrieve(query, round(SPARE * query.n_candidates))
    lap("retrieve")
    filtered = filters.filter_candidates(query, retrieved.index)
    lap("filter")
    return PageCandidates(filtered.kept[: query.n_candidates], retrieved, filtered)


def _relaxed(page: Page, chosen: PageCandidates) -> str:
    """Return the note of the rules that gave way for a page; empty for none."""
    filtered = chosen.filtered
    return replace(filtered, relaxed=gave_way(page.slots, filtered.relaxed)).degraded


def query_settings(config: Config) -> QuerySettings:
    """Return the settings that the stages of a page read."""
    feed = config.feed
    return QuerySettings(
        candidates=feed.candidates,
        per_creator=feed.per_creator,
        creator_gap=feed.creator_gap,
        topic_gap=feed.topic_gap,
        newcomer_topic_gap=feed.newcomer_topic_gap,
        newcomer_evidence=config.learner.newcomer_evidence,
        follow=feed.follow,
        unmet_budget=config.fair_start.budget,
        shares=feed.sources,
        foreign_share=feed.foreign_share,
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
