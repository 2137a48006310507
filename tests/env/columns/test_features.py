"""The encoding: half precision before anybody sees it, and columns that say what they are named."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, SKIPPED, catalogue_of, interaction, make_item, put
from queries import feature_query

from env.columns.scales import MATCH_SCALE, observed
from env.columns.schema import (
    DYNAMIC,
    N_ACTION,
    N_APPS,
    N_REFERRERS,
    N_SHARED,
    N_STATIC,
    POPULARITY,
    SCHEMA,
    SHARED,
    VECTOR_DIM,
    action_index,
    quantise,
)
from env.features.apps import AppSpace
from env.features.encode import encode
from env.interface import fill_page, redraw
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.pages.records import Blocks, page_record
from env.records import PageRecord, decode_record, encode_record, item_key, pack_halves
from env.users.devices import device_keys
from env.users.interests import RIDGE, Tally
from env.users.state import (
    DECLARED_SIGNAL,
    PRIOR_CARDS,
    UserState,
    long_interest,
    newcomer,
    scene_interest,
)
from env.vocabulary import (
    Context,
    CreatorId,
    Features,
    Float32s,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.settings import HybridBanditArgs
from policies.baselines import PopularityPolicy
from replay.join.rows import check_page

DAY_MS = 24 * 3_600_000
SCENE = Scene(NOW_MS, "GB", "en", device="phone", network="wifi", hour=6, weekday=6, position=3)


ITEMS = tuple(
    Item(
        ItemId(f"i{i}"),
        CreatorId(f"c{i % 3}" if i else ""),
        tags=(f"t{i % 4}",),
        duration_s=7.0 * (i + 1),
        published_ms=NOW_MS - i * DAY_MS,
        language="en" if i % 2 else "th",
        country="GB" if i < 3 else "",
    )
    for i in range(6)
)


def known_user() -> UserState:
    vector = static_block(ITEMS[1])[:VECTOR_DIM].astype("<f4")
    return UserState(
        Profile(country="GB", os="Android", cohort="full_active", follows=(CreatorId("c1"),)),
        n_cards=40,
        evidence=30.0,
        plays=20.0,
        long_sum=(10.0 * vector).tobytes(),
        session_evidence=3.0,
        session_plays=3.0,
        session_sum=(-2.0 * vector).tobytes(),
        position=3,
        creators=(
            Tally("c1", 4.0, 3.0, 40),
            Tally("c2", 1.0, -1.0, 40),
            Tally("gone", 1.0, 1.0, 40),
        ),
    )


def some_states() -> ItemStates:
    states = ItemStates()
    for name, n in (("i1", 4), ("i2", 1)):
        for _ in range(n):
            states.fold(interaction(name, reward=2.0, scene=SCENE))
    states.fold(interaction("i3", SKIPPED, reward=-1.0, scene=SCENE))
    return states


def encoded(user: UserState | None = None, scene: Scene = SCENE) -> Features:
    catalogue = catalogue_of(*ITEMS)
    return encode(
        feature_query(user or known_user(), scene, catalogue, some_states()), np.arange(6)
    )


def column(features: Features, name: str) -> Float32s:
    return features.actions[:, N_STATIC + DYNAMIC.index(name)]


def shared(features: Features, name: str) -> float:
    return float(features.shared[SHARED.index(name)])


@pytest.mark.parametrize("user", [known_user(), newcomer(Profile())])
@pytest.mark.parametrize("scene", [SCENE, Scene(0), Scene(2**45, position=10**6)])
def test_every_value_is_a_finite_half(user: UserState, scene: Scene) -> None:
    features = encoded(user, scene)
    assert features.shared.shape == (N_SHARED,)
    assert features.actions.shape == (6, N_ACTION)
    assert features.keys.tolist() == [item_key(item.item_id) for item in ITEMS]
    for values in (features.shared, features.actions):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert np.array_equal(values, values.astype(np.float16).astype(np.float32))


def test_the_log_gives_back_the_same_features_to_the_last_bit() -> None:
    features, catalogue, blocks = encoded(), catalogue_of(*ITEMS), Blocks()
    for item in ITEMS:
        blocks.fold(put(item))
    ids = tuple(item.item_id for item in ITEMS)
    context = Context(PageId("p"), UserKey("u"), SessionId("s"), SCENE, ids, features)
    everybody = np.ones(6, dtype=np.bool_)
    page = fill_page(context, PopularityPolicy(), [SlotRule(everybody, everybody)] * 3, 0.1, 5)
    record = page_record(
        page,
        blocks=catalogue.hashes.tobytes(),
        n_static=N_STATIC,
        feature_schema=SCHEMA,
        cards=tuple(catalogue.card(d.action) for d in page.decisions),
        reasons=("random",) * 3,
    )
    logged = decode_record(encode_record(record))
    assert logged == record
    again = blocks.page(record).context.features
    assert again.shared.tobytes() == features.shared.tobytes()
    assert again.actions.tobytes() == features.actions.tobytes()
    assert again.keys.tobytes() == features.keys.tobytes()


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert encoded().actions.tobytes() == encoded().actions.tobytes()
    assert encoded().shared.tobytes() == encoded().shared.tobytes()


def test_a_candidates_row_does_not_depend_on_the_others_but_for_rounding() -> None:
    catalogue, states, index = catalogue_of(*ITEMS), some_states(), np.array([4, 1])
    part = encode(feature_query(known_user(), SCENE, catalogue, states), index)
    np.testing.assert_allclose(part.actions, encoded().actions[index], rtol=2**-10, atol=2**-20)


def test_the_static_block_is_the_logged_one() -> None:
    for row, item in enumerate(ITEMS):
        assert np.array_equal(encoded().actions[row, :N_STATIC], static_block(item))


def test_matches_are_inner_products_with_the_interests() -> None:
    features, user = encoded(), known_user()
    vectors = catalogue_of(*ITEMS).vectors
    expected = MATCH_SCALE.factor * (vectors @ long_interest(user))
    assert column(features, "long_match") == pytest.approx(expected, abs=2**-11)
    assert int(np.argmax(column(features, "long_match"))) in (1, 5)  # the two tagged t1
    assert (column(features, "session_match")[[1, 5]] < 0).all()


def test_what_the_scene_plays_is_matched_apart_from_what_the_user_answered() -> None:
    user, catalogue = known_user(), catalogue_of(*ITEMS)
    prior = some_states().aligned(catalogue).popularity.interest(SCENE, catalogue.vectors)
    assert prior.any()
    matches = catalogue.vectors @ scene_interest(user, prior)
    assert column(encoded(), "scene_match") == pytest.approx(matches, abs=2**-11)


def test_a_new_session_knows_nothing_of_the_last() -> None:
    features = encoded(scene=msgspec.structs.replace(SCENE, position=0))
    assert not column(features, "session_match").any()
    assert shared(features, "session_evidence") == 0.0
    assert shared(features, "session_play_rate") == shared(features, "play_rate")
    assert column(features, "long_match").any()


def test_creators_are_known_by_what_the_user_had_of_them() -> None:
    features = encoded()
    affinity, recent = column(features, "creator_affinity"), column(features, "creator_recent")
    by_creator = {item.creator: row for row, item in enumerate(ITEMS)}
    assert affinity[by_creator[CreatorId("c1")]] == pytest.approx(0.5, abs=2**-11)
    assert affinity[by_creator[CreatorId("c2")]] < 0.0
    assert affinity[by_creator[CreatorId("c0")]] == recent[by_creator[CreatorId("c0")]] == 0.0
    assert affinity[0] == recent[0] == 0.0  # of an unknown creator
    assert column(features, "followed").tolist() == [0, 1, 0, 0, 1, 0]


def test_ages_grow_from_zero() -> None:
    ages = column(encoded(), "age")
    assert ages[0] == 0.0
    assert (np.diff(ages) > 0).all()
    before = encoded(scene=msgspec.structs.replace(SCENE, at_ms=NOW_MS - 9 * DAY_MS))
    assert not column(before, "age").any()


def test_popularity_is_relative_to_the_most_popular_item() -> None:
    features = encoded()
    popularity = column(features, "popularity")
    assert np.array_equal(popularity, features.actions[:, action_index(POPULARITY)])
    assert popularity[1] == 1.0
    assert 0.0 < popularity[2] < 1.0
    assert popularity[[0, 3, 4, 5]].tolist() == [0.0] * 4
    assert column(features, "popularity_here")[1] == 1.0


def test_before_there_are_plays_nothing_is_popular() -> None:
    features = encode(
        feature_query(known_user(), SCENE, catalogue_of(*ITEMS), ItemStates()), np.arange(6)
    )
    assert not column(features, "popularity").any()
    assert not column(features, "popularity_here").any()


def test_reward_columns_are_the_posterior() -> None:
    features = encoded()
    mean, sd = column(features, "reward_mean"), column(features, "reward_sd")
    assert mean[1] > mean[2] > mean[0] > mean[3]
    assert sd[1] < sd[2] == sd[3] < sd[0]
    evidence = column(features, "item_evidence")
    assert evidence[1] > evidence[2] == evidence[3] > evidence[0] == 0.0


def test_country_and_language_match_only_where_they_are_known() -> None:
    features = encoded()
    assert column(features, "same_country").tolist() == [1, 1, 1, 0, 0, 0]
    assert column(features, "same_language").tolist() == [0, 1, 0, 1, 0, 1]
    nowhere = encoded(scene=msgspec.structs.replace(SCENE, country="", language=""))
    assert not column(nowhere, "same_country").any()
    assert not column(nowhere, "same_language").any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hour_sin", 1.0),
        ("hour_cos", 0.0),
        ("weekend", 1.0),
        ("phone", 1.0),
        ("desktop", 0.0),
        ("wifi", 1.0),
        ("cellular", 0.0),
        ("known_language", 1.0),
        ("play_rate", observed(known_user()).play_rate),
        ("session_play_rate", observed(known_user()).session_play_rate),
        ("active_cohort", 1.0),
        ("new_cohort", 0.0),
        ("android", 1.0),
        ("ios", 0.0),
    ],
)
def test_the_shared_columns_are_what_they_are_named(name: str, expected: float) -> None:
    assert shared(encoded(), name) == pytest.approx(expected, abs=2**-11)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (Profile(), 0.0),
        (Profile(cohort="2_14_day_new"), 1.0),
        (Profile(registered_ms=NOW_MS), 1.0),
        (Profile(registered_ms=NOW_MS - 30 * DAY_MS), 0.0),
    ],
)
def test_who_registered_lately_is_new(profile: Profile, expected: float) -> None:
    assert shared(encoded(newcomer(profile)), "new_cohort") == expected


def test_installed_apps_are_a_block_of_learned_coordinates() -> None:
    user = newcomer(Profile(apps=("chat", "maps")))
    block = slice(SHARED.index("app0"), SHARED.index("app0") + N_APPS)
    assert not encoded(user).shared[block].any(), "nothing is learned yet"
    keys = np.array(sorted(device_keys(user.profile)), dtype=np.uint64)
    places = np.eye(N_APPS, dtype=np.float32)[:2]
    query = feature_query(user, SCENE, catalogue_of(*ITEMS), some_states())
    learned = replace(query, apps=AppSpace.of(keys, np.ones(2), places))
    expected = [*[0.5**0.5] * 2, *[0.0] * (N_APPS - 2)]
    assert encode(learned, np.arange(6)).shared[block] == pytest.approx(expected, abs=2**-11)


@pytest.mark.parametrize(
    ("os", "android", "ios"),
    [
        ("Android 14", 1.0, 0.0),
        (" android", 1.0, 0.0),
        ("iOS 17.5.1", 0.0, 1.0),
        ("iPadOS/18", 0.0, 1.0),
        ("Windows 11", 0.0, 0.0),
        ("14", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_system_is_known_with_its_version_or_without(
    os: str, android: float, ios: float
) -> None:
    features = encoded(newcomer(Profile(os=os)))
    assert (shared(features, "android"), shared(features, "ios")) == (android, ios)


def test_what_brought_a_user_is_one_of_a_few_hashed_columns() -> None:
    block = slice(SHARED.index("referrer0"), SHARED.index("referrer0") + N_REFERRERS)
    places = set()
    for i in range(40):
        came = encoded(scene=msgspec.structs.replace(SCENE, referrer=f"r{i}")).shared[block]
        assert sorted(came.tolist()) == [0.0] * (N_REFERRERS - 1) + [1.0]
        places.add(int(came.argmax()))
    assert len(places) == N_REFERRERS
    assert not encoded().shared[block].any()


def test_exposure_to_tags_and_sounds_is_known_whatever_was_felt_at_them() -> None:
    items = (
        make_item("both", tags=("a", "B"), sound="song"),
        make_item("one", tags=("b",), sound="other"),
        make_item("none"),
    )
    heard = msgspec.structs.replace(
        known_user(),
        tags=(Tally("b", 2.0, -1.0, 40), Tally("gone", 9.0, 9.0, 40)),
        sounds=(Tally("song", 6.0, 0.0, 40), Tally("gone", 9.0, 9.0, 40)),
    )
    features = encode(feature_query(heard, SCENE, catalogue_of(*items), ItemStates()), np.arange(3))
    assert column(features, "tag_recent").tolist() == [0.25, 0.5, 0.0]
    assert column(features, "sound_recent").tolist() == [0.75, 0.0, 0.0]
    assert not column(encoded(), "sound_recent").any()


def test_a_newcomer_is_matched_with_what_users_of_the_same_scene_play() -> None:
    catalogue, states = catalogue_of(*ITEMS), ItemStates()
    here, there = Scene(NOW_MS, "TH", cohort="new"), Scene(NOW_MS, "GB", cohort="new")
    for _ in range(300):
        states.fold(interaction("i2", scene=here))
        states.fold(interaction("i1", scene=there))
    rows = {
        scene.country: column(
            encode(feature_query(newcomer(Profile()), scene, catalogue, states), np.arange(6)),
            "scene_match",
        )
        for scene in (here, there)
    }
    assert int(rows["TH"].argmax()) == 2
    assert int(rows["GB"].argmax()) in (1, 5)  # the two tagged t1
    strangers = encode(
        feature_query(newcomer(Profile()), here, catalogue, ItemStates()), np.arange(6)
    )
    assert not column(strangers, "scene_match").any()


FORMER_SHARED = 26
FORMER_DYNAMIC = 14
"""Widths of schema 2."""


def test_columns_of_the_former_schema_stand_in_their_places() -> None:
    assert SHARED[FORMER_SHARED:] == (
        *(f"referrer{i}" for i in range(N_REFERRERS)),
        *("last_gap", "usual_gap", "visits", "tenure", "session_watched", "bait_lately"),
    )
    assert DYNAMIC[FORMER_DYNAMIC:] == (
        *("tag_recent", "sound_recent", "scene_match", "bait"),
        *("topic_signal", "co_match", "co_known", "language_share"),
    )
    features, catalogue, blocks = encoded(), catalogue_of(*ITEMS), Blocks()
    for item in ITEMS:
        blocks.fold(put(item))
    former = Features(
        features.shared[:FORMER_SHARED],
        features.actions[:, : N_STATIC + FORMER_DYNAMIC],
        features.keys,
    )
    ids = tuple(item.item_id for item in ITEMS)
    context = Context(PageId("p"), UserKey("u"), SessionId("s"), SCENE, ids, former)
    everybody = np.ones(6, dtype=np.bool_)
    page = fill_page(context, PopularityPolicy(), [SlotRule(everybody, everybody)] * 3, 0.1, 5)
    record = page_record(
        page,
        blocks=catalogue.hashes.tobytes(),
        n_static=N_STATIC,
        feature_schema=2,
        cards=tuple(catalogue.card(d.action) for d in page.decisions),
        reasons=("random",) * 3,
    )
    logged = decode_record(encode_record(record))
    assert isinstance(logged, PageRecord)
    again = blocks.page(logged)
    assert np.array_equal(again.context.features.shared, former.shared)
    assert np.array_equal(again.context.features.actions, former.actions)
    assert redraw(again, PopularityPolicy(), 5) == page.decisions
    with pytest.raises(ValueError, match=f"schema 4 or {SCHEMA}, got 2 in page p"):
        check_page(record)


def test_pages_of_the_former_schema_are_refused_by_the_learner_by_their_width() -> None:
    features = encoded()
    now = msgspec.structs.replace(
        interaction("i1"),
        shared=pack_halves(features.shared),
        action=pack_halves(features.actions[1]),
    )
    shared = msgspec.structs.replace(now, shared=now.shared[: 2 * FORMER_SHARED])
    action = msgspec.structs.replace(now, action=now.action[: 2 * (N_STATIC + FORMER_DYNAMIC)])
    refusals = HybridBanditArgs().refusals([now, shared, action])
    assert refusals == ["", "shared", "action"]


def test_tags_are_known_by_what_the_user_felt_at_them_and_by_those_declared() -> None:
    felt = msgspec.structs.replace(known_user(), tags=(Tally("t1", 2.0, 2.0, 40),))
    assert column(encoded(felt), "tag_affinity").tolist() == [0, 0.5, 0, 0, 0, 0.5]
    declared = newcomer(Profile(tags=("#T2",)))
    assert column(encoded(declared), "tag_affinity").tolist() == [0, 0, DECLARED_SIGNAL, 0, 0, 0]
    expected = MATCH_SCALE.factor * PRIOR_CARDS * DECLARED_SIGNAL / RIDGE
    assert column(encoded(declared), "long_match")[2] == pytest.approx(expected, rel=0.04)
    assert not column(encoded(), "tag_affinity").any()


def test_no_candidates_are_no_error() -> None:
    none = np.zeros(0, dtype=np.int64)
    for catalogue in (Catalogue(), catalogue_of(*ITEMS)):
        features = encode(feature_query(known_user(), SCENE, catalogue, ItemStates()), none)
        assert features.actions.shape == (0, N_ACTION)


def test_quantising_clips_to_the_greatest_half_and_refuses_what_is_no_number() -> None:
    assert quantise([1e9, -np.inf, 0.1]).tolist() == [65504.0, -65504.0, 0.0999755859375]
    with pytest.raises(ValueError, match="without NaN"):
        quantise([1.0, np.nan])
