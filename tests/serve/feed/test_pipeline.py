"""The pipeline: pages that can be drawn again from the log, whatever is swapped meanwhile."""

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TypedDict, Unpack

import msgspec
import numpy as np
import pytest
from crowds import clips
from histories import START_MS
from queries import feature_query

from env.columns.schema import N_STATIC
from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs, FairStart
from env.features.encode import encode
from env.interface import Policy, page_seed
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.pages.records import Blocks
from env.pages.verify import audit_page
from env.pages.verify_many import DrawAudit
from env.records import BlockRecord, ItemRecord, PageRecord, item_key, pack_halves
from env.users.fold import fold
from env.users.open_cards import MAX_CARDS
from env.users.state import UserState, newcomer
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Feedback,
    Interaction,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
)
from policies.bandit.scorer import HybridBanditScorer, Kernel, make_layout
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import AnyExplorer, Greedy, SquareCB
from policies.slots.offers import PENDING_TIMEOUT_MS
from policies.slots.rules import FAIR_START, LITTLE_EVIDENCE
from serve.config import Arm, Config, Experiment, FeedSettings, PolicyName
from serve.feed.pipeline import SHORT_PAGE, Pipeline, Stopwatch, assign
from serve.learn.served import ServingModel
from serve.wire.feed import FeedRequest, SceneBody

N_ITEMS = 300
KEY = bytes(range(32))
ANN = UserKey("ann")
COUNTRIES = ("GB", "US", "ID", "")


@cache
def item_records(n: int = N_ITEMS) -> tuple[ItemRecord, ...]:
    items = clips(n)
    return tuple(
        ItemRecord(item.item_id, START_MS, item, pack_halves(static_block(item))) for item in items
    )


def catalogue_of(records: Sequence[ItemRecord]) -> Catalogue:
    catalogue = Catalogue()
    for record in records:
        catalogue.apply(record)
    return catalogue


def changed(n: int, **changes: object) -> list[ItemRecord]:
    """Return n records of items that are changed alike."""
    records = []
    for record in item_records()[:n]:
        assert record.item is not None
        item = msgspec.convert({**msgspec.to_builtins(record.item), **changes}, Item)
        records.append(msgspec.structs.replace(record, item=item))
    return records


def seen_often(n_impressions: int, items: Sequence[ItemId]) -> ItemStates:
    states = ItemStates()
    for item_id, k in itertools.product(items, range(n_impressions)):
        states.fold(impression(item_id, k))
    return states


def impression(item_id: ItemId, k: int) -> Interaction:
    feedback = Feedback(seen=True, left=True, dwell_s=20.0 * (k % 2))
    return Interaction(
        decision_id=DecisionId(f"{item_id}-{k}:0"),
        page_id=PageId(f"{item_id}-{k}"),
        user=ANN,
        session=SessionId("s"),
        item_id=item_id,
        slot=0,
        policy="uniform@0",
        propensity=0.5,
        n_actions=2,
        shared=b"",
        action=b"",
        item_key=item_key(item_id),
        duration_s=30.0,
        feedback=feedback,
        reward=float(k % 2),
        scene=Scene(START_MS, country="GB"),
        closed_ms=START_MS + k,
    )


def served(
    version: int, states: ItemStates | None = None, audiences: Audiences | None = None
) -> ServingModel:
    """A version of its own weights."""
    scorer = scorer_of(version, SquareCB(gamma=50.0))
    return ServingModel(
        scorer, states or ItemStates(), audiences or Audiences(), version, 10 * version
    )


def scorer_of(version: int, explorer: AnyExplorer) -> HybridBanditScorer:
    layout = make_layout(10)
    weights = np.random.default_rng(version).normal(0.0, 0.3, layout.mask + 1).astype(np.float32)
    return HybridBanditScorer(Kernel(layout, weights), explorer, version)


def pipeline_of(
    records: Sequence[ItemRecord] | None = None,
    *,
    candidates: int = 60,
    eps: float = 0.1,
    per_creator: int = 2,
    creator_gap: int = 10,
    newcomer_topic_gap: int = 10,
    policy: PolicyName = "vowpal",
    first: ServingModel | None = None,
) -> Pipeline:
    config = Config(
        feed=FeedSettings(
            candidates=candidates,
            eps=eps,
            per_creator=per_creator,
            creator_gap=creator_gap,
            newcomer_topic_gap=newcomer_topic_gap,
        ),
        experiment=Experiment("one", (Arm("all", policy),)),
    )
    catalogue = catalogue_of(item_records() if records is None else records)
    return Pipeline(config, draw_key=KEY, served=first or served(1), catalogue=catalogue)


def blocks_of(records: Sequence[ItemRecord]) -> Blocks:
    blocks = Blocks()
    for record in records:
        blocks.fold(record)
    return blocks


class Asked(TypedDict, total=False):
    """What a page may be asked with."""

    size: int
    state: UserState
    country: str
    user: UserKey
    now_ms: int


def draw(pipeline: Pipeline, page_id: str = "p", **asked: Unpack[Asked]) -> PageRecord | None:
    user = asked.get("user", ANN)
    scene = SceneBody(country=asked.get("country", "GB"))
    return pipeline.page(
        FeedRequest(user, size=asked.get("size", 10), scene=scene),
        user,
        asked.get("state", newcomer(Profile())),
        session=SessionId("s"),
        page_id=PageId(page_id),
        now_ms=asked.get("now_ms", START_MS),
    )


def drawn(pipeline: Pipeline, page_id: str = "p", **asked: Unpack[Asked]) -> PageRecord:
    page = draw(pipeline, page_id, **asked)
    assert page is not None
    return page


def delivered(state: UserState, page: PageRecord) -> UserState:
    after = fold(state, page)
    assert after is not None
    return after


def violations(record: PageRecord, policy: Policy, blocks: Blocks) -> list[str]:
    page = blocks.page(record)
    return [v.check for v in audit_page(page, policy, page_seed(KEY, record.page_id))]


@pytest.mark.parametrize("policy", ["vowpal", "uniform", "popularity", "mixture"])
def test_a_logged_page_is_redrawn_exactly(policy: PolicyName) -> None:
    version = served(7, seen_often(40, [r.item_id for r in item_records()[:150]]))
    pipeline = pipeline_of(policy=policy, first=version)
    policies: dict[str, Policy] = {
        "vowpal": version.policy,
        "uniform": UniformPolicy(),
        "popularity": PopularityPolicy(),
        "mixture": mixture_policy(0.2),
    }
    blocks, state = blocks_of(item_records()), newcomer(Profile())
    for k in range(30):
        record = drawn(pipeline, f"p{k}", state=state, country=COUNTRIES[k % 4])
        assert violations(record, policies[policy], blocks) == []
        assert record.policy == policies[policy].name
        state = delivered(state, record)
        assert "policy" in violations(record, served(8).policy, blocks)


@pytest.mark.slow
def test_every_page_comes_from_exactly_one_version_while_others_are_swapped_in() -> None:
    ids = [record.item_id for record in item_records()]
    versions = {
        version.version: version
        for version in (served(k, seen_often(k, ids[:: k + 1])) for k in range(1, 6))
    }
    pipeline, done = pipeline_of(first=versions[1]), threading.Event()

    def swap_all_the_time() -> None:
        for version in itertools.cycle(versions.values()):
            if done.is_set():
                return
            pipeline.swap(version)

    swapping = threading.Thread(target=swap_all_the_time)
    swapping.start()
    try:
        records = [drawn(pipeline, f"p{k}") for k in range(80)]
    finally:
        done.set()
        swapping.join()
    blocks, used = blocks_of(item_records()), Counter[int]()
    for record in records:
        version = versions[int(record.policy.removeprefix("vowpal@"))]
        used[version.version] += 1
        assert violations(record, version.policy, blocks) == []
        assert_encoded_with(version.states, record, pipeline.catalogue)
    assert len(used) > 1


def assert_encoded_with(states: ItemStates, record: PageRecord, catalogue: Catalogue) -> None:
    """The item states that a page was encoded with are those of the version it names."""
    index = np.array([catalogue.index_of(item_id) for item_id in record.candidates])
    encoded = encode(feature_query(newcomer(Profile()), record.scene, catalogue, states), index)
    assert pack_halves(encoded.actions[:, N_STATIC:]) == record.dynamic


def test_what_the_replica_draws_with_can_be_exchanged_and_is_told() -> None:
    pipeline = pipeline_of(first=served(1))
    assert drawn(pipeline).policy == "vowpal@1"
    pipeline.swap(served(2))
    assert pipeline.served.version == 2
    assert drawn(pipeline).policy == "vowpal@2"


def test_the_floor_is_what_is_configured_and_goes_to_those_of_which_little_is_known() -> None:
    ids = [record.item_id for record in item_records()]
    known = set(ids[: N_ITEMS // 2])
    states = seen_often(LITTLE_EVIDENCE, sorted(known))
    scorer = scorer_of(1, Greedy())
    pipeline = pipeline_of(eps=0.25, first=ServingModel(scorer, states, Audiences(), 1))
    blocks = blocks_of(item_records())
    n_tried = n_slots = 0
    for k in range(60):
        record = drawn(pipeline, f"p{k}")
        assert record.eps == 0.25
        page = blocks.page(record)
        fresh = np.array([item_id not in known for item_id in record.candidates])
        for rule in page.slots:
            unknown = fresh & rule.mask
            assert np.array_equal(rule.eligible, unknown if unknown.any() else rule.mask)
        scores = np.where(page.slots[0].mask, scorer.score(page.context), -np.inf)
        best = page.context.candidates[int(np.argmax(scores))]
        n_tried += page.decisions[0].item_id != best
        n_slots += 1
    share = 0.25 * (1.0 - 1.0 / 15)  # about every fifteenth try finds the best one itself
    assert abs(n_tried / n_slots - share) < 4.0 * np.sqrt(share * (1.0 - share) / n_slots)


def test_a_topic_is_on_a_page_in_every_other_slot_at_most() -> None:
    pipeline = pipeline_of(newcomer_topic_gap=2)
    blocks, n_repeats = blocks_of(item_records()), 0
    for k in range(160):
        record = drawn(pipeline, f"p{k}", size=6)
        if blocks.page(record).slots[0].mask.all():
            continue  # too few candidates of one half of the topics
        about = [card.tags[0] for card in record.cards]
        for topic in set(about):
            slots = [slot for slot, of in enumerate(about) if of == topic]
            assert len({slot % 2 for slot in slots}) == 1
            n_repeats += len(slots) > 1
    assert n_repeats > 10


@pytest.mark.parametrize("size", [1, 10, 50])
@pytest.mark.parametrize("n_items", [1, 7, 40, N_ITEMS])
def test_a_page_is_never_longer_than_asked_and_never_repeats(size: int, n_items: int) -> None:
    pipeline = pipeline_of(changed(n_items, markets=[]), candidates=20)
    record = drawn(pipeline, size=size)
    shown = [card.item_id for card in record.cards]
    assert len(shown) == min(size, n_items)
    assert len(set(shown)) == len(shown)
    assert shown == [record.candidates[d.action] for d in record.drawn]
    assert [d.slot for d in record.drawn] == list(range(len(shown)))
    assert len(record.reasons) == len(shown)
    assert len(set(record.candidates)) == len(record.candidates) <= max(20, size)
    assert (SHORT_PAGE in record.degraded) == (size > n_items)


def test_pages_that_follow_each_other_do_not_repeat_while_there_is_something_else() -> None:
    pipeline, state = pipeline_of(), newcomer(Profile())
    shown: list[ItemId] = []
    for k in range(MAX_CARDS // 10):
        record = drawn(pipeline, f"p{k}", state=state, now_ms=START_MS + k)
        shown += [card.item_id for card in record.cards]
        state = delivered(state, record)
    assert len(set(shown)) == len(shown) == 40


def test_what_gives_way_is_said_and_seen_items_come_again_only_at_the_end() -> None:
    records = changed(12, markets=[], creator="")
    pipeline = pipeline_of(records, candidates=12)
    first = drawn(pipeline)
    assert "delivered" not in first.degraded
    second = drawn(pipeline, "q", state=delivered(newcomer(Profile()), first))
    assert len(second.cards) == 10
    assert "gave way: " in second.degraded
    assert "delivered" in second.degraded
    assert Counter(second.reasons)["again"] >= 8
    fresh = {record.item_id for record in records} - {card.item_id for card in first.cards}
    assert fresh <= {card.item_id for card in second.cards}


@pytest.mark.parametrize("per_creator", [1, 2, 5])
def test_no_creator_has_more_candidates_than_configured(per_creator: int) -> None:
    pipeline = pipeline_of(per_creator=per_creator, candidates=20)
    creator_of = {r.item_id: r.item.creator for r in item_records() if r.item}
    most = 0
    for k in range(10):
        record = drawn(pipeline, f"p{k}", size=5)
        if "creator" not in record.degraded:
            counts = Counter(creator_of[item_id] for item_id in record.candidates)
            most = max(most, *counts.values())
    assert most == per_creator


def test_the_market_rules_and_the_reasons_are_the_sources() -> None:
    pipeline = pipeline_of(changed(100, markets=["MY"]))
    record = drawn(pipeline, country="MY")
    assert set(record.reasons) <= {"fresh", "random"}  # of a newcomer nothing else is known
    assert record.scene.country == "MY"
    assert draw(pipeline, country="GB") is None


@pytest.mark.parametrize("records", [[], changed(30, listed=False), changed(30, markets=["ID"])])
def test_where_nothing_may_be_shown_there_is_no_page(records: list[ItemRecord]) -> None:
    assert draw(pipeline_of(records)) is None


def test_the_same_page_id_is_the_same_page_and_another_is_another() -> None:
    pipeline = pipeline_of(policy="uniform")
    assert drawn(pipeline, "p") == drawn(pipeline, "p")
    assert drawn(pipeline, "p").drawn != drawn(pipeline, "q").drawn


def test_users_are_split_by_the_arms_shares_and_ranked_by_their_arm_s_policy() -> None:
    arms = (
        Arm("control", "uniform", 1.0),
        Arm("old", "popularity", 1.0),
        Arm("new", "vowpal", 2.0),
    )
    experiment = Experiment("three", arms)
    config = Config(feed=FeedSettings(candidates=20), experiment=experiment)
    catalogue = catalogue_of(item_records(50))
    pipeline = Pipeline(config, draw_key=KEY, served=served(4), catalogue=catalogue)
    names = {"control": "uniform@0", "old": "popularity@0", "new": "vowpal@4"}
    for k in range(30):
        user = UserKey(f"u{k}")
        record = drawn(pipeline, f"p{k}", size=2, user=user)
        assert record.arm == assign(experiment, user).name
        assert record.policy == names[record.arm]
    n = 4_000
    counts = Counter(assign(experiment, UserKey(f"u{k}")).name for k in range(n))
    for arm in arms:
        share = arm.share / 4.0
        assert abs(counts[arm.name] / n - share) < 4.0 * np.sqrt(share * (1.0 - share) / n)


def test_experiments_of_different_names_deal_users_independently() -> None:
    arms, n = (Arm("a", "uniform"), Arm("b", "vowpal")), 4_000
    users = [UserKey(f"u{k}") for k in range(n)]
    same = sum(
        assign(Experiment("one", arms), u) == assign(Experiment("two", arms), u) for u in users
    )
    assert abs(same / n - 0.5) < 4.0 * np.sqrt(0.25 / n)


# --- who may see what ---


def test_where_the_market_s_languages_leave_too_little_the_page_is_widened_and_says_so() -> None:
    english, thai = changed(40, language="en", markets=[]), changed(80, language="th", markets=[])
    records = [*english[:12], *thai[12:]]
    pipeline = pipeline_of(records, creator_gap=0, per_creator=50)
    told = {record.item_id for record in english[:12]}
    page = drawn(pipeline, size=10)
    assert page.degraded == ""
    assert set(page.candidates) <= told
    wide = drawn(pipeline, size=20)
    assert wide.degraded == "gave way: language"
    assert set(wide.candidates) - told
    elsewhere = drawn(pipeline, size=10, country="FR")
    assert set(elsewhere.candidates) - told


@pytest.mark.parametrize(("birth_year", "shown"), [(0, 12), (2015, 12), (2008, 12), (2007, 24)])
def test_what_is_rated_above_a_user_s_age_is_never_shown(birth_year: int, shown: int) -> None:
    year = datetime.fromtimestamp(START_MS / 1000, UTC).year
    assert year == 2027
    everybody, grown = changed(12, markets=[]), changed(24, markets=[], rating=19)[12:]
    pipeline = pipeline_of([*everybody, *grown])
    state = newcomer(Profile(birth_year=birth_year))
    page = drawn(pipeline, size=50, state=state)
    assert len(page.cards) == shown
    assert SHORT_PAGE in page.degraded


def test_what_a_user_blocks_is_not_shown_even_if_nothing_else_is_left() -> None:
    records = [*changed(5, markets=[], creator="bore"), *changed(9, markets=[], tags=["Cats"])[5:]]
    pipeline = pipeline_of(records)
    block = BlockRecord(ANN, START_MS, (CreatorId("bore"),), ("#cats",))
    state = fold(newcomer(Profile()), block)
    assert state is not None
    assert draw(pipeline, state=state) is None
    half = fold(state, BlockRecord(ANN, START_MS, tags=("cats",), wanted=True))
    assert half is not None
    assert len(drawn(pipeline, state=half).cards) == 4


@pytest.mark.parametrize("gap", [0, 5, 10])
def test_a_creator_does_not_come_again_with_each_load(gap: int) -> None:
    records = [
        msgspec.structs.replace(r, item=msgspec.structs.replace(r.item, creator=f"c{k % 40}"))
        for k, r in enumerate(changed(200, markets=[], language=""))
        if r.item
    ]
    pipeline = pipeline_of(records, candidates=40, creator_gap=gap, policy="uniform")
    state, creators, least = newcomer(Profile()), list[str](), 40
    for k in range(20):
        page = drawn(pipeline, f"p{k}", size=2, state=state)
        assert page.degraded == ""
        for card in page.cards:
            for back, creator in enumerate(reversed(creators[len(creators) - 2 * k :])):
                if creator == card.creator:
                    least = min(least, back)
        creators += [str(card.creator) for card in page.cards]
        state = delivered(state, page)
    assert least >= gap if gap else least < 10


def test_the_scene_keeps_what_brought_the_user_and_where_the_request_came_from() -> None:
    pipeline = pipeline_of()
    page = pipeline.page(
        FeedRequest(ANN, scene=SceneBody(country="GB", referrer="Advert ")),
        ANN,
        newcomer(Profile(cohort="new", registered_ms=START_MS - 3 * 86_400_000)),
        session=SessionId("s"),
        page_id=PageId("p"),
        now_ms=START_MS,
        origin="block-7",
    )
    assert page is not None
    scene = page.scene
    assert (scene.referrer, scene.origin) == ("advert", "block-7")
    assert (scene.cohort, scene.tenure_days) == ("new", 3)


# --- a fair start ---


def debuts(n: int, n_old: int, *, owed: int, budget: float) -> tuple[Pipeline, Audiences, Blocks]:
    """Return a pipeline with n debuts at home in GB, all of them owed, and n_old other items."""
    old = changed(n_old, markets=[], language="en")
    new = [
        msgspec.structs.replace(record, debut=True)
        for record in changed(n_old + n, markets=[], language="en", country="GB")[n_old:]
    ]
    audiences = Audiences(AudienceArgs(FairStart(impressions=owed, budget=budget)))
    for record in (*old, *new):
        audiences.put(record)
    first = served(1, audiences=audiences)
    return pipeline_of([*old, *new], first=first), audiences, blocks_of([*old, *new])


@pytest.mark.slow
def test_owed_uploads_have_their_reserved_share_and_such_pages_are_redrawn_exactly() -> None:
    n_pages, size, share = 300, 6, 0.2
    pipeline, _, blocks = debuts(60, 200, owed=500, budget=share)
    scorer = pipeline.served.policy
    n_reserved, places, audit = 0, Counter[int](), DrawAudit()
    for k in range(n_pages):
        record = drawn(pipeline, f"p{k}", size=size, user=UserKey(f"u{k}"))
        assert violations(record, scorer, blocks) == []
        page = blocks.page(record)
        audit.add(page, scorer)
        for decision, reason in zip(page.decisions, record.reasons, strict=True):
            reserved = page.slots[decision.slot].name == FAIR_START
            assert reserved == (reason == "debut")
            n_reserved += reserved
            places[decision.slot] += reserved
    assert audit.violations() == []
    part = share * size % 1.0
    se = np.sqrt(n_pages * part * (1.0 - part))
    assert abs(n_reserved - share * size * n_pages) < 4.0 * se
    assert set(places) == set(range(size))


def test_an_upload_is_reserved_for_at_home_only() -> None:
    pipeline, *_ = debuts(20, 100, owed=100, budget=0.5)
    home = Counter(drawn(pipeline, "p", size=10).reasons)
    assert home["debut"] == 5
    for country in ("US", ""):
        abroad = drawn(pipeline, "q", size=10, country=country)
        assert not any(pipeline.catalogue.debuts[places_of(pipeline, abroad)])


def test_a_late_upload_whose_creator_was_here_just_now_leaves_its_slot_to_another() -> None:
    old = changed(200, markets=[], language="en")
    late, other = (
        msgspec.structs.replace(
            changed(201 + k, markets=[], language="en", country="GB", creator=creator)[-1],
            at_ms=START_MS - age_ms,
            debut=True,
        )
        for k, (creator, age_ms) in enumerate((("busy", 72_000_000), ("calm", 0)))
    )
    audiences = Audiences(AudienceArgs(FairStart(impressions=500, budget=0.5)))
    for record in (*old, late, other):
        audiences.put(record)
    pipeline = pipeline_of([*old, late, other], first=served(1, audiences=audiences))
    assert debuts_on(drawn(pipeline, "p", size=2)) == [late.item_id]
    busy = pipeline_of(changed(20, markets=[], creator="busy"), per_creator=20)
    state = delivered(newcomer(Profile()), drawn(busy, "q", size=2))
    assert debuts_on(drawn(pipeline, "p", size=2, state=state)) == [other.item_id]


@pytest.mark.parametrize("late_ms", [0, 72_000_000], ids=["as urgent", "alone"])
def test_a_reserved_slot_is_not_spent_on_whom_a_guard_would_not_hear(late_ms: int) -> None:
    old, day_ms = changed(200, markets=[], language="en"), 86_400_000
    pushed, other = (
        msgspec.structs.replace(record, debut=True, at_ms=at_ms)
        for record, at_ms in zip(
            changed(202, markets=[], language="en", country="GB")[200:],
            (START_MS - late_ms, START_MS),
            strict=True,
        )
    )
    audiences = Audiences(AudienceArgs(FairStart(impressions=500, budget=0.5)))
    for record in old:
        audiences.put(record)
    for k in range(2_000):
        audiences.fold(seen_by(k, old[k % 200].item_id, tenure_days=100 if k % 20 else 1))
    for record in (pushed, other):
        audiences.put(record)
    for k in range(400):
        audiences.fold(seen_by(5_000 + k, pushed.item_id, tenure_days=1))
    audiences.fold(seen_by(5_400, other.item_id, tenure_days=100))  # else it stands before all

    def offered(records: list[ItemRecord], tenure_days: int) -> set[ItemId]:
        state = newcomer(Profile(registered_ms=START_MS - tenure_days * day_ms))
        pipeline = pipeline_of([*old, *records], first=served(1, audiences=audiences))
        pages = (drawn(pipeline, f"p{k}", size=4, state=state) for k in range(20))
        return {item_id for page in pages for item_id in debuts_on(page)}

    assert offered([pushed], tenure_days=1) == set()
    assert offered([pushed], tenure_days=100) == {pushed.item_id}
    assert offered([pushed, other], tenure_days=1) == {other.item_id}


def seen_by(k: int, item_id: ItemId, *, tenure_days: int) -> Interaction:
    """Return an impression of an account of its own and of that age, a second after the last."""
    at_ms = START_MS + 1_000 * (k - 5_000)
    return msgspec.structs.replace(
        impression(item_id, k),
        user=UserKey(f"u{k}"),
        scene=Scene(at_ms, country="GB", language="en", tenure_days=tenure_days),
        closed_ms=at_ms,
    )


def debuts_on(page: PageRecord) -> list[ItemId]:
    """Return the cards of a page that were proposed as uploads that are owed an audience."""
    shown = zip(page.cards, page.reasons, strict=True)
    return [card.item_id for card, reason in shown if reason == "debut"]


def places_of(pipeline: Pipeline, record: PageRecord) -> list[int]:
    index = [pipeline.catalogue.index_of(item_id) for item_id in record.candidates]
    return [i for i in index if i is not None]


def test_a_debt_is_not_drawn_twice_over_before_its_impressions_close() -> None:
    owed, n_new = 4, 5
    pipeline, audiences, _ = debuts(n_new, 200, owed=owed, budget=0.5)
    at_once = reserved_on(pipeline, "now", START_MS)
    assert len(at_once) == n_new
    assert max(at_once.values()) <= owed
    assert reserved_on(pipeline, "soon", START_MS + PENDING_TIMEOUT_MS // 2).total() == 0
    later_ms = START_MS + 2 * PENDING_TIMEOUT_MS
    assert reserved_on(pipeline, "later", later_ms).total() > 0
    for record in item_records()[200 : 200 + n_new]:
        for k in range(owed):
            seen = impression(record.item_id, k)
            audiences.fold(msgspec.structs.replace(seen, user=UserKey(f"u{k}")))
    assert reserved_on(pipeline, "paid", 2 * later_ms).total() == 0


def test_pages_that_are_drawn_again_before_the_commit_are_not_on_their_way() -> None:
    pipeline, *_ = debuts(5, 200, owed=4, budget=0.5)
    first = drawn(pipeline, "p")
    assert len(debuts_on(first)) == 5
    for _ in range(40):
        assert drawn(pipeline, "p") == first
    for _ in range(4):
        pipeline.committed(first)
    assert debuts_on(drawn(pipeline, "p")) == []


def test_of_near_duplicates_that_are_owed_the_most_urgent_is_shown() -> None:
    fields = {"language": "en", "country": "GB", "title": "The very same cat video"}
    old = changed(200, markets=[], language="en")
    twins = [
        msgspec.structs.replace(
            changed(201 + k, markets=[], creator=f"c{k}", duration_s=9.0, **fields)[-1],
            at_ms=START_MS - 20_000_000 * k,
            debut=True,
        )
        for k in range(4)
    ]
    audiences = Audiences(AudienceArgs(FairStart(impressions=500, budget=0.5)))
    for record in (*old, *twins):
        audiences.put(record)
    pipeline = pipeline_of([*old, *twins], first=served(1, audiences=audiences))
    assert debuts_on(drawn(pipeline, "p", size=4)) == [twins[-1].item_id]


def reserved_on(pipeline: Pipeline, name: str, now_ms: int) -> Counter[ItemId]:
    """Return the cards of reserved slots on forty users' pages at one time."""
    cards = Counter[ItemId]()
    for k in range(40):
        page = drawn(pipeline, f"{name}{k}", user=UserKey(f"u{k}"), now_ms=now_ms)
        pipeline.committed(page)
        shown = zip(page.cards, page.reasons, strict=True)
        cards.update(card.item_id for card, reason in shown if reason == "debut")
    return cards


# --- timing ---


def test_a_stopwatch_books_every_step_of_a_page_in_order() -> None:
    ticks = itertools.count(step=5)
    stopwatch = Stopwatch(ticks.__next__)
    stopwatch.start()
    pipeline = pipeline_of()
    pipeline.page(
        FeedRequest("ann"),
        ANN,
        newcomer(Profile()),
        session=SessionId("s"),
        page_id=PageId("p"),
        now_ms=START_MS,
        stopwatch=stopwatch,
    )
    steps = ["observe", "retrieve", "filter", "encode", "fill", "record"]
    assert stopwatch.spent_ns == dict.fromkeys(steps, 5)
    assert list(stopwatch.shares()) == steps
    assert sum(stopwatch.shares().values()) == pytest.approx(1.0)
    assert Stopwatch(ticks.__next__).shares() == {}
