"""The feed pipeline draws a page for a request, without HTTP and without a database.

Stages: observe, eligibility, retrieve with the reserved uploads first, filter, slot rules, encode,
fill, record. Policy, item statistics and audiences are one object that the follower swaps whole, so
exactly one version draws a page. Rejected alternatives: `docs/decisions/serve-feed-pipeline.md`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from env import features
from env.blocks import page_record
from env.catalogue import Catalogue
from env.features import N_STATIC, SCHEMA
from env.interface import Policy, fill_page, page_seed
from env.records import PageRecord
from env.scenes import observe
from env.users import UserState
from env.vocabulary import Bools, Context, Ints, Page, PageId, Scene, SessionId, UserKey
from policies import filters, pools, retrieval, spacing
from policies.eligibility import Eligibility
from policies.eligible import Eligible
from policies.filters import Filtered
from policies.known import Known
from policies.markets import Markets
from policies.matches import interests_of
from policies.nearest import Nearest
from policies.retrieval import DEBUT, Retrieved
from serve.asked import Asked
from serve.config import Arm, Config
from serve.experiment import assign, baseline
from serve.folds import Folds
from serve.follower import Served
from serve.owed import Owed
from serve.rankers import Ranking
from serve.stopwatch import Stopwatch
from serve.wire import FeedRequest

Lap = Callable[[str], None]

SPARE = 1.4
"""Items retrieved per candidate wanted, to make up for those that the filters remove."""

SHORT_PAGE = "fewer items than asked for"


@dataclass(frozen=True, slots=True)
class Chosen:
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
        self, config: Config, *, draw_key: bytes, served: Served, catalogue: Catalogue | None = None
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
        self._nearest: Nearest | None = None
        self._eligibility = Eligibility(Markets(config.markets), config.pools)
        self._owed = Owed(config, self.catalogue)
        arms = config.experiment.arms
        self._baselines: Mapping[str, Policy] = {
            arm.name: policy for arm in arms if (policy := baseline(arm)) is not None
        }

    @property
    def served(self) -> Served:
        """The version that draws the pages now."""
        return self._served

    @property
    def folds(self) -> Folds:
        """The item statistics and audiences of the version that draws the pages."""
        served, args = self._served, self._config.audiences
        return Folds(
            served.audiences, served.states, self.catalogue, args, served.version, served.offset
        )

    def swap(self, served: Served) -> None:
        """Draw all further pages with this version."""
        self._served = served

    def warm(self, served: Served) -> None:
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
    def nearest(self) -> Nearest | None:
        """The index in which best matches are searched; None: all items are scanned."""
        return self._nearest

    def eligible(
        self, served: Served, state: UserState, scene: Scene, known: Known, at_least: int
    ) -> Eligible:
        """Return the items that one version may show to a user, see `policies.eligibility`."""
        reach = served.audiences.aligned(self.catalogue)
        return self._eligibility.eligible(
            self.catalogue, reach, scene, state.profile, known, at_least
        )

    def look_in(self, nearest: Nearest) -> None:
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
        asked = Asked(state, scene, served, request.size, seed)
        chosen = self._choose(asked, lap)
        if not len(chosen.index):
            return None
        slots = pools.slots(
            request.size, self.catalogue, chosen.index, served.states, chosen.owed, chosen.places
        )
        about = spacing.topics(self.catalogue, chosen.index)
        slots = spacing.spread(slots, about, self._topic_gap(state), seed)
        encoded = features.encode(state, scene, self.catalogue, chosen.index, served.states)
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

    def _policy(self, arm: Arm, served: Served) -> Policy:
        ranking = self._ranking
        if arm.policy == "blend" and ranking is not None:
            return ranking.blended(served.policy, self._config.retention)
        return self._baselines.get(arm.name, served.policy)

    def _choose(self, asked: Asked, lap: Lap) -> Chosen:
        feed, scene, catalogue = self._config.feed, asked.scene, self.catalogue
        wanted = max(feed.candidates, asked.size)
        known = Known.of(asked.state, catalogue, scene.at_ms, feed.creator_gap)
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
        filtered = filters.apply(
            known,
            eligible,
            catalogue,
            retrieved.index,
            at_least=asked.size,
            per_creator=feed.per_creator,
        )
        lap("filter")
        return Chosen(filtered.kept[:wanted], retrieved, filtered, offer.places)

    def _record(self, page: Page, chosen: Chosen, arm: str, size: int) -> PageRecord:
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
