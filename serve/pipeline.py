"""From a request to a drawn page, without HTTP and without a database: one visible line.

observe -> retrieve -> filter -> slot rules -> encode -> fill the page -> record. What is drawn
with (a policy and the item states it was published with) is one object, swapped whole by the
follower, so every page comes from exactly one version. The steps are timed by whoever hands in a
`Stopwatch`.

Rejected: a list of stage objects with a common interface (the steps pass different things on, and
the order is the design).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from env import features
from env.blocks import page_record
from env.catalogue import Catalogue
from env.features import N_STATIC, SCHEMA
from env.interface import Policy, fill_page, page_seed
from env.items import ItemStates
from env.records import PageRecord
from env.scenes import observe
from env.users import UserState
from env.vocabulary import Context, Ints, Page, PageId, Scene, SessionId, UserKey
from policies import filters, pools, retrieval
from policies.filters import Filtered
from policies.known import Known
from policies.retrieval import Retrieved
from serve.config import Config
from serve.experiment import assign, baseline
from serve.follower import Served
from serve.stopwatch import Stopwatch
from serve.wire import FeedRequest

Lap = Callable[[str], None]

SPARE = 1.3
"""Items retrieved for each candidate wanted: what the filters may take away."""

SHORT_PAGE = "fewer items than asked for"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidates of a page, where they came from, and what gave way to have them."""

    index: Ints  # (n,) catalogue indices
    retrieved: Retrieved
    filtered: Filtered

    def reason(self, action: int) -> str:
        """Return the source that proposed a candidate."""
        return self.retrieved.reason(int(self.filtered.rows[action]))


class Pipeline:
    """Draws pages for one replica."""

    def __init__(
        self, config: Config, *, draw_key: bytes, served: Served, catalogue: Catalogue | None = None
    ) -> None:
        """Draw with `served` until the follower swaps in another version.

        Args:
            config: its sections feed and experiment are used.
            draw_key: seeds the draws, see `env.interface.page_seed`.
            served: the first version.
            catalogue: moved by the engine; empty if None.
        """
        self.catalogue = catalogue if catalogue is not None else Catalogue()
        self._config = config
        self._draw_key = draw_key
        self._served = served
        arms = config.experiment.arms
        self._baselines: Mapping[str, Policy] = {
            arm.name: policy for arm in arms if (policy := baseline(arm)) is not None
        }

    @property
    def served(self) -> Served:
        """What pages are drawn with now."""
        return self._served

    def swap(self, served: Served) -> None:
        """Draw the pages from now on with this version."""
        self._served = served

    def page(
        self,
        request: FeedRequest,
        user: UserKey,
        state: UserState,
        *,
        session: SessionId,
        page_id: PageId,
        now_ms: int,
        stopwatch: Stopwatch | None = None,
    ) -> PageRecord | None:
        """Return a page of at least one card; None: nothing may be shown.

        Args:
            request: how many cards, and the scene as the client says.
            user: the person's pseudonym, by which the experiment's arm is assigned.
            state: the person's.
            session: of the page.
            page_id: of the page; seeds the draws.
            now_ms: the server's time.
            stopwatch: told where each step ends.
        """
        lap = stopwatch.lap if stopwatch else _no_lap
        served = self._served
        arm = assign(self._config.experiment, user)
        policy = self._baselines.get(arm.name, served.policy)
        seed = page_seed(self._draw_key, page_id)

        scene = _observe(request, state, session, now_ms)
        lap("observe")
        chosen = self._choose(state, scene, served.states, request.size, seed, lap)
        if not len(chosen.index):
            return None
        slots = pools.slots(request.size, self.catalogue, chosen.index, served.states)
        encoded = features.encode(state, scene, self.catalogue, chosen.index, served.states)
        lap("encode")
        candidates = tuple(map(self.catalogue.ids.__getitem__, chosen.index.tolist()))
        context = Context(page_id, user, session, scene, candidates, encoded)
        page = fill_page(context, policy, slots, self._config.feed.eps, seed)
        lap("fill")
        record = self._record(page, chosen, arm.name, request.size)
        lap("record")
        return record

    def _choose(
        self,
        state: UserState,
        scene: Scene,
        states: ItemStates,
        size: int,
        seed: int,
        lap: Lap,
    ) -> Chosen:
        wanted = max(self._config.feed.candidates, size)
        known = Known.of(state, self.catalogue, scene.at_ms)
        retrieved = retrieval.retrieve(
            state, scene, self.catalogue, states, known, round(SPARE * wanted), seed
        )
        lap("retrieve")
        filtered = filters.apply(
            known,
            scene,
            self.catalogue,
            retrieved.index,
            at_least=size,
            per_creator=self._config.feed.per_creator,
        )
        lap("filter")
        return Chosen(filtered.kept[:wanted], retrieved, filtered)

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


def _observe(request: FeedRequest, state: UserState, session: SessionId, now_ms: int) -> Scene:
    body = request.scene
    return observe(
        state,
        session,
        now_ms,
        country=body.country,
        language=body.language,
        device=body.device,
        network=body.network,
    )


def _no_lap(step: str) -> None:
    """Nobody is timing."""
