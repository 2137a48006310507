"""Simulated users as the feed sees them: one encoding, whether a user is a row or a state."""

import pickle
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from queries import feature_query
from small_worlds import as_parts

from env.columns.scales import MEAN_BAIT
from env.columns.schema import DYNAMIC, N_ACTION, N_SHARED, N_STATIC, SCHEMA, SHARED
from env.features.encode import encode
from env.features.scenes import observe
from env.gym.observation import ObsMode
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.records import Drawn, FeedbackKind, FeedbackRecord, PageRecord
from env.users.fold import fold
from env.users.state import UserState, newcomer
from env.vocabulary import Features, Float32s, PageId, Profile, SessionId, UserKey, decision_id
from env.world.creators import LANGUAGES, LiveSupply
from env.world.generated import MARKETS
from env.world.presets import NAMED, Preset, load
from env.world.supply import FixedSupply
from tests.studies.served_world.items import Shelf

MONDAY_MS = 1_699_833_600_000
DAY_MS = 86_400_000
N, K, TURNS = 12, 8, 90
DONE: tuple[FeedbackKind, ...] = ("like", "comment", "share", "follow", "not_interested")

COUNTED = (
    *("hour_sin", "hour_cos", "weekend", "phone", "desktop", "position", "evidence"),
    *("session_evidence", "swipe_speed", "play_rate", "session_play_rate", "known_language"),
    *("active_cohort", "new_cohort", "last_gap", "usual_gap", "visits", "tenure"),
    *("session_watched", "bait_lately"),
)
"""What both count, and no guess is in: the same to the last bit."""
UNKNOWN = tuple(name for name in SHARED if name not in COUNTED)
SUMMED = ("long_match", "session_match")
"""Inner products, whose sums are in another order: the same to half precision."""
TALLIED = (
    *("creator_affinity", "creator_recent", "followed", "tag_affinity", "tag_recent"),
    *("same_language", "sound_recent", "bait", "language_share"),
)


def preset() -> Preset:
    world = load("kuairand")
    return msgspec.structs.replace(
        world,
        horizon_days=400,
        uploads=msgspec.structs.replace(world.uploads, n_items=512, local_share=0.0),
        population=msgspec.structs.replace(world.population, newcomers=1.0),
    )


class Server:
    """The real pipeline's half: users as states of the log, items as a catalogue."""

    def __init__(self, env: SwipeVectorEnv, supply: LiveSupply) -> None:
        """Register users and put the items."""
        self._env, self._stock = env, supply.stock
        self.catalogue = Catalogue()
        shelf = Shelf(supply.creators, MONDAY_MS)
        for row in range(self._stock.n):
            record = shelf.record(self._stock, row, debut=False)
            assert record.item is not None
            guess = float(self._stock.bait_guess[row]) + MEAN_BAIT
            item = msgspec.structs.replace(record.item, bait=min(max(guess, 0.0), 1.0))
            self.catalogue.apply(msgspec.structs.replace(record, item=item))
        self.states: list[UserState] = [self._register(i) for i in range(N)]
        self.n_sessions, self.n_pages = [1] * N, 0

    def show(
        self, user: int, row: int, at_ms: int, watch_s: float, done: list[FeedbackKind]
    ) -> None:
        """Let a user swipe one card."""
        self.n_pages += 1
        page_id, session = PageId(f"p{self.n_pages}"), SessionId(f"s{self.n_sessions[user]}")
        page = PageRecord(
            page_id=page_id,
            at_ms=at_ms,
            user=UserKey(str(user)),
            session=session,
            scene=observe(self.states[user], session, at_ms),
            candidates=(),
            blocks=b"",
            dynamic=b"",
            shared=b"",
            feature_schema=SCHEMA,
            rules=(),
            slots=(0,),
            drawn=(Drawn(0, 0, 1.0),),
            cards=(self.catalogue.card(row),),
            reasons=("",),
            policy="any@0",
            explorer={},
            eps=0.0,
        )
        said: list[tuple[FeedbackKind, float]] = [("dwell", watch_s)]
        said += [(kind, 0.0) for kind in done] + [("leave", 0.0)]
        state = fold(self.states[user], page)
        for kind, value in said:
            heard = FeedbackRecord(
                event_id=kind,
                decision_id=decision_id(page_id, 0),
                at_ms=at_ms + round(1000.0 * watch_s),
                user=page.user,
                session=session,
                kind=kind,
                value=value,
            )
            state = fold(state, heard)
        assert state is not None
        self.states[user] = state

    def encode(self, user: int) -> Features:
        """Return the features of the page that a user would be served now."""
        at_ms, rows = self.at_ms(user), self._env.swiping.candidates.rows[user]
        state, session = self.states[user], SessionId(f"s{self.n_sessions[user]}")
        scene = observe(state, session, at_ms)
        return encode(feature_query(state, scene, self.catalogue, ItemStates()), rows)

    def at_ms(self, user: int) -> int:
        """Return when a user's next card is asked for."""
        crowd = self._env.swiping.crowd
        begun_h = 24.0 * float(crowd.day[user]) + float(crowd.hour[user])
        return MONDAY_MS + round(3_600_000 * begun_h + 1000.0 * float(crowd.watched_s[user]))

    def _register(self, user: int) -> UserState:
        users, cast = self._env.swiping.crowd.users, self._env.cast
        return newcomer(
            Profile(
                country=MARKETS[users.country[user]].country,
                language=LANGUAGES[users.language[user]],
                time_zone="UTC",
                device=cast.devices[users.device[user]],
                cohort=cast.cohorts[users.cohort[user]],
                registered_ms=self.at_ms(user),
            )
        )


@pytest.fixture(scope="module")
def seen() -> list[tuple[Float32s, Float32s, Float32s, Float32s]]:
    """Return user and candidates' rows of users at many moments: as an array, as encoded."""
    return list(moments())


def moments() -> Iterator[tuple[Float32s, Float32s, Float32s, Float32s]]:
    world = preset()
    supply = LiveSupply(world, 0)
    env = SwipeVectorEnv(
        N, preset=world, obs="feed", n_candidates=K, supply=FixedSupply(supply.stock)
    )
    observation = env.reset(seed=3)[0]
    server, rng = Server(env, supply), np.random.default_rng(0)
    alive = np.ones(N, dtype=np.bool_)
    for turn in range(TURNS):
        assert isinstance(observation, dict)
        if turn % 5 == 0:
            for user in np.flatnonzero(alive).tolist():
                features = server.encode(user)
                rows = [observation[name][user] for name in ("item", "personal")]
                ours = observation["user"][user], np.concatenate(rows, axis=1)
                yield *ours, features.shared, features.actions
        actions = rng.integers(0, K, N)
        shown = env.swiping.candidates.rows[np.arange(N), actions]
        at_ms = [server.at_ms(user) for user in range(N)]
        observation, _, terminated, truncated, info = env.step(actions)
        for user in np.flatnonzero(alive).tolist():
            done = [kind for kind in DONE if info[kind][user]]
            watch_s = float(info["watch_s"][user])
            server.show(user, int(shown[user]), at_ms[user], watch_s, done)
        for user in np.flatnonzero(info["session_end"]).tolist():
            server.n_sessions[user] += 1
        alive &= ~(terminated | truncated)


Seen = list[tuple[Float32s, Float32s, Float32s, Float32s]]


@pytest.mark.parametrize("name", COUNTED)
def test_what_both_count_is_the_same(seen: Seen, name: str) -> None:
    place = SHARED.index(name)
    ours = np.array([moment[0][place] for moment in seen])
    encoded = np.array([moment[2][place] for moment in seen])
    assert len(seen) > 100
    assert np.array_equal(ours, encoded), np.flatnonzero(ours != encoded)


def test_what_the_simulation_does_not_know_is_as_unknown(seen: Seen) -> None:
    for name in UNKNOWN:
        assert all(moment[0][SHARED.index(name)] == 0.0 for moment in seen)
        assert all(moment[2][SHARED.index(name)] == 0.0 for moment in seen)


def test_a_candidates_static_columns_are_those_of_its_upload(seen: Seen) -> None:
    for _, ours, _, encoded in seen:
        assert np.array_equal(ours[:, :N_STATIC], encoded[:, :N_STATIC])


@pytest.mark.parametrize("name", TALLIED)
def test_what_was_had_of_creators_and_tags_is_the_same(seen: Seen, name: str) -> None:
    place = N_STATIC + DYNAMIC.index(name)
    ours = np.array([moment[1][:, place] for moment in seen])
    encoded = np.array([moment[3][:, place] for moment in seen])
    assert np.array_equal(ours, encoded), np.argwhere(ours != encoded)
    assert ours.std() > 0.0 or name == "sound_recent"


@pytest.mark.parametrize("name", SUMMED)
def test_matches_of_interest_are_the_same_to_half_precision(seen: Seen, name: str) -> None:
    place = N_STATIC + DYNAMIC.index(name)
    ours = np.array([moment[1][:, place] for moment in seen])
    encoded = np.array([moment[3][:, place] for moment in seen])
    np.testing.assert_allclose(ours, encoded, rtol=2.0**-10, atol=2.0**-12)
    assert ours.std() > 0.01


@pytest.mark.parametrize("obs", ["feed", "feed_flat"])
def test_all_is_quantised_and_of_the_feeds_widths(obs: ObsMode) -> None:
    env = SwipeVectorEnv(5, obs=obs, n_candidates=K)
    observation = env.reset(seed=0)[0]
    for _ in range(3):
        observation = env.step(np.zeros(5, dtype=np.int64))[0]
    assert env.observation_space.contains(observation)
    if isinstance(observation, dict):
        assert observation["user"].shape == (5, N_SHARED)
        assert observation["item"].shape[2] + observation["personal"].shape[2] == N_ACTION
        arrays = [observation[name] for name in ("user", "item", "personal")]
    else:
        assert observation.shape == (5, N_SHARED + K * N_ACTION)
        arrays = [observation]
    for array in arrays:
        assert np.array_equal(array, array.astype(np.float16).astype(np.float32))


def test_the_flat_form_is_the_dict_in_one_row() -> None:
    flat, parts = (SwipeVectorEnv(5, obs=obs) for obs in ("feed_flat", "feed"))
    one, other = flat.reset(seed=4)[0], parts.reset(seed=4)[0]
    assert isinstance(other, dict)
    assert not isinstance(one, dict)
    blocks = [other[name].reshape(5, -1) for name in ("user", "item", "personal")]
    assert np.array_equal(one, np.concatenate(blocks, axis=1))


def test_users_live_the_same_lives_whatever_is_observed() -> None:
    feed, world = SwipeVectorEnv(20, obs="feed"), SwipeVectorEnv(20, obs="dict")
    feed.reset(seed=1), world.reset(seed=1)
    actions = np.random.default_rng(0).integers(0, 20, (60, 20))
    for chosen in actions:
        one, other = feed.step(chosen), world.step(chosen)
        assert np.array_equal(one[1], other[1])


def test_interests_of_old_hands_match_what_they_engage_with() -> None:
    env = SwipeVectorEnv(400, obs="feed")
    observation = env.reset(seed=0)[0]
    assert isinstance(observation, dict)
    match = observation["personal"][:, :, DYNAMIC.index("long_match")]
    swiping = env.swiping
    rows, taste = swiping.candidates.rows, swiping.crowd.taste
    affinity = np.einsum("nkd,dn->nk", swiping.stock.vectors.T[rows], taste)
    old = swiping.crowd.users.tenure_days > 30.0
    assert old.sum() > 100
    # With evidence near 200 the reliability is 47%, so the correlation is its root, .69.
    assert np.corrcoef(match[old].ravel(), affinity[old].ravel())[0, 1] > 0.6
    assert (match[swiping.crowd.users.tenure_days == 0.0] == 0.0).all()


def test_a_mask_needs_a_form_with_a_place_for_it() -> None:
    with pytest.raises(ValueError, match='obs="feed_flat"'):
        SwipeVectorEnv(2, obs="feed_flat", masked=True)


def test_a_user_alone_is_seen_as_in_a_crowd() -> None:
    crowd = SwipeVectorEnv(9, obs="feed_flat")
    alone = SwipeEnv(obs="feed_flat")
    many, one = crowd.reset(seed=20)[0], alone.reset(seed=24)[0]
    for chosen in np.random.default_rng(0).integers(0, 20, (40, 9)):
        assert np.array_equal(np.asarray(many)[4], np.asarray(one))
        many, _, terminated, truncated, _ = crowd.step(chosen)
        one = alone.step(chosen[4])[0]
        if terminated[4] or truncated[4]:
            break


def test_a_pickled_environment_goes_on_as_it_would_have() -> None:
    env = SwipeVectorEnv(6, obs="feed")
    env.reset(seed=0)
    env.step(np.zeros(6, dtype=np.int64))
    again: SwipeVectorEnv = pickle.loads(pickle.dumps(env))
    for chosen in np.random.default_rng(0).integers(0, 20, (20, 6)):
        one, other = as_parts(env.step(chosen)[0]), as_parts(again.step(chosen)[0])
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", NAMED)
def test_every_preset_can_be_seen_as_a_feed(name: str) -> None:
    env = SwipeVectorEnv(4, preset=name, obs="feed_flat", actions="page")
    observation = env.reset(seed=0)[0]
    for _ in range(5):
        observation = env.step(np.tile(np.arange(6), (4, 1)))[0]
    assert env.observation_space.contains(observation)
