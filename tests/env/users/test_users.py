"""A user's state: a pure fold of the log, bounded, moved at once by what they do."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.columns.scales import TYPICAL_PLAY_RATE, TYPICAL_WATCH, observed
from env.columns.schema import VECTOR_DIM
from env.feedback import KINDS
from env.items.content import static_block, tags_vector
from env.records import (
    BlockRecord,
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    TickRecord,
    UserRecord,
    item_key,
    pack_halves,
)
from env.users.fold import MAX_AVOIDED, MAX_BLOCKED, MAX_DOUBTED, MAX_FOLLOWS, MAX_UNWANTED, fold
from env.users.interests import DIRECTIONS, MAX_LENGTH, MAX_TALLIES, RIDGE, Tally, tally_columns
from env.users.open_cards import MAX_CARDS, MAX_DWELL_S, PAGE_OPEN_MS
from env.users.seen import MAX_RECENT, SLACK
from env.users.state import (
    DECLARED_SIGNAL,
    PRIOR_CARDS,
    SCENE_SIGNAL,
    SESSION_SILENCE_MS,
    UserState,
    decode_state,
    delivered_keys,
    encode_state,
    followed,
    live_session,
    long_interest,
    newcomer,
    register,
    seen_keys,
    session_interest,
)
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    ShortKeys,
    UserId,
    UserKey,
)

USER = UserKey("u")
JOIN = UserRecord(USER, 0, UserId("me"), Profile(country="GB", follows=(CreatorId("c0"),)))


def card(i: int, duration_s: float = 30.0) -> Card:
    item = Item(ItemId(f"i{i}"), CreatorId(f"c{i % 5}"), tags=(f"t{i % 3}",), duration_s=duration_s)
    block = pack_halves(static_block(item))
    return Card(
        item.item_id,
        block,
        item.creator,
        item.tags,
        duration_s,
        "song" if i % 7 else "",
        language=("en", "", "th")[i % 3],
    )


CARDS = [card(i) for i in range(120)]


def page(name: str, items: range, at_ms: int = 0, session: str = "s") -> PageRecord:
    return PageRecord(
        page_id=PageId(name),
        at_ms=at_ms,
        user=USER,
        session=SessionId(session),
        scene=Scene(at_ms),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=1,
        rules=(),
        slots=(),
        drawn=tuple(Drawn(slot, slot, 0.1) for slot, _ in enumerate(items)),
        cards=tuple(CARDS[i] for i in items),
        reasons=(),
        policy="uniform@0",
        explorer={},
        eps=0.1,
    )


def feedback(
    decision: str, kind: FeedbackKind, value: float = 0.0, at_ms: int = 1000
) -> FeedbackRecord:
    return FeedbackRecord("e", DecisionId(decision), at_ms, USER, SessionId("s"), kind, value)


def folded(*records: Record, start: UserState | None = None) -> UserState:
    state = start
    for record in records:
        state = fold(state, record)
    assert state is not None
    return state


def numbers(keys: ShortKeys) -> set[int]:
    """Return which of the cards these are the keys of."""
    short = {item_key(f"i{i}") & 0xFFFF_FFFF: i for i in range(len(CARDS))}
    return {short[int(key)] for key in keys}


DELIVERED = folded(JOIN, page("p", range(10)))


def test_a_newcomer_has_a_profile_no_interest_and_the_typical_pace() -> None:
    state = newcomer(Profile(country="TH"))

    assert fold(None, UserRecord(USER, 5, UserId("me"), Profile(country="TH"))) == state
    assert not long_interest(state).any()
    assert not session_interest(state).any()
    assert observed(state).play_rate == observed(state).session_play_rate == TYPICAL_PLAY_RATE
    assert observed(state).evidence == 0.0
    assert not len(seen_keys(state))
    assert live_session(state, 0) is None


def test_liking_draws_both_interests_to_the_card_and_not_interested_away() -> None:
    vector = np.frombuffer(CARDS[0].block[:64], dtype="<f2").astype(np.float32)

    liked = folded(feedback("p:0", "like"), start=DELIVERED)
    hated = folded(feedback("p:0", "not_interested"), start=DELIVERED)

    for interest in (long_interest, session_interest):
        assert float(interest(liked) @ vector) > 0.0
        assert float(interest(hated) @ vector) < 0.0


def test_a_short_dwell_moves_away_at_once_and_a_longer_one_corrects_it() -> None:
    vector = np.frombuffer(CARDS[0].block[:64], dtype="<f2").astype(np.float32)

    short = folded(feedback("p:0", "dwell", 2.0), start=DELIVERED)
    corrected = folded(feedback("p:0", "dwell", 25.0), start=short)
    direct = folded(feedback("p:0", "dwell", 25.0), start=DELIVERED)

    assert float(session_interest(short) @ vector) < 0.0 < float(session_interest(direct) @ vector)
    assert session_interest(corrected) == pytest.approx(session_interest(direct), abs=1e-6)
    assert long_interest(corrected) == pytest.approx(long_interest(direct), abs=1e-6)
    assert observed(corrected) == observed(direct)


@pytest.mark.parametrize("kind", tuple(KINDS))
def test_the_same_report_twice_changes_nothing(kind: FeedbackKind) -> None:
    once = folded(feedback("p:1", "impression"), feedback("p:0", kind, 9.0), start=DELIVERED)

    assert folded(feedback("p:0", kind, 9.0), start=once) == once
    assert folded(feedback("p:0", kind, 4.0), start=once) == once


@pytest.mark.parametrize("decision", ["q:0", "p:10", "p", "", ":", "p:-1", "p:00", "p:0:0"])
def test_feedback_for_a_card_that_is_not_open_changes_nothing(decision: str) -> None:
    assert fold(DELIVERED, feedback(decision, "like")) is DELIVERED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -5.0])
def test_a_dwell_that_is_no_length_counts_as_none(value: float) -> None:
    assert folded(feedback("p:0", "dwell", value), start=DELIVERED) == folded(
        feedback("p:0", "dwell", 0.0), start=DELIVERED
    )


def test_an_absurd_dwell_counts_as_the_longest_allowed() -> None:
    assert folded(feedback("p:0", "dwell", 1e300), start=DELIVERED) == folded(
        feedback("p:0", "dwell", MAX_DWELL_S), start=DELIVERED
    )


def test_the_next_card_on_screen_ends_the_one_before_as_skipped() -> None:
    first = folded(feedback("p:0", "impression"), start=DELIVERED)
    second = folded(feedback("p:1", "impression"), start=first)

    assert first.evidence == 0.0
    assert second.evidence == 1.0
    assert (second.position, second.n_cards, second.current) == (2, 2, "p:1")
    assert second.plays == 0.0


def test_any_event_means_that_the_card_was_seen() -> None:
    state = folded(feedback("p:3", "like"), start=DELIVERED)

    assert numbers(seen_keys(state)) == {3}
    assert state.position == 1


def test_a_delivered_card_counts_as_delivered_while_its_page_is_open() -> None:
    state = folded(page("q", range(10, 20), at_ms=5), start=DELIVERED)

    assert numbers(delivered_keys(state, 6)) == set(range(20))
    assert numbers(delivered_keys(state, PAGE_OPEN_MS)) == set(range(10, 20))
    assert numbers(delivered_keys(state, PAGE_OPEN_MS + 5)) == set()


def test_the_same_page_twice_is_one_page() -> None:
    answered = folded(feedback("p:0", "like"), start=DELIVERED)

    assert fold(answered, page("p", range(10))) is answered


def test_another_session_or_a_long_silence_begins_anew_and_keeps_the_long_interest() -> None:
    state = folded(feedback("p:0", "like"), feedback("p:0", "dwell", 20.0), start=DELIVERED)
    silent_ms = 1001 + SESSION_SILENCE_MS

    other = folded(page("q", range(10, 20), at_ms=2000, session="t"), start=state)
    late = folded(page("q", range(10, 20), at_ms=silent_ms), start=state)
    waking = folded(feedback("p:1", "impression", at_ms=silent_ms), start=state)

    for begun, at_ms, position in ((other, 2000, 0), (late, silent_ms, 0), (waking, silent_ms, 1)):
        assert (begun.session_ms, begun.position, begun.session_evidence) == (at_ms, position, 0.0)
        assert not session_interest(begun).any()
        assert np.array_equal(long_interest(begun), long_interest(state))
    assert live_session(state, 1000 + SESSION_SILENCE_MS) == "s"
    assert live_session(state, silent_ms) is None
    assert live_session(other, 2000) == "t"


def test_a_late_word_about_an_earlier_session_moves_the_long_interest_alone() -> None:
    moved_on = folded(page("q", range(10, 20), at_ms=2000, session="t"), start=DELIVERED)

    state = folded(feedback("p:0", "dwell", 20.0, at_ms=3000), start=moved_on)

    assert (state.session, state.position, state.session_evidence) == ("t", 0, 0.0)
    assert not session_interest(state).any()
    assert long_interest(state).any()


def test_a_follow_counts_until_the_creator_is_blocked_and_unblocks_them() -> None:
    followed_by_hand = folded(feedback("p:1", "follow"), start=DELIVERED)
    blocked = folded(
        *(feedback(f"p:{slot}", "not_interested") for slot in (1, 6, 0, 5)), start=followed_by_hand
    )
    again = folded(feedback("p:5", "follow"), start=blocked)

    assert followed(DELIVERED) == {"c0"}
    assert followed(followed_by_hand) == {"c0", "c1"}
    assert followed(blocked) == frozenset()
    assert blocked.avoided == ("c1", "c0")
    assert followed(again) == {"c0"}
    assert again.avoided == ("c1",)


def test_tallies_count_exposure_and_signal_and_fade_with_cards() -> None:
    watched = (feedback("p:0", "like"), feedback("p:0", "dwell", 10.0))
    liked = folded(*watched, start=DELIVERED)
    later = folded(*(feedback(f"p:{i}", "impression") for i in (1, 2, 3)), start=liked)

    signal = 1.0 + 0.5 - TYPICAL_WATCH
    assert tallies(liked.creators, liked.n_cards)["c0"] == pytest.approx((1.0, signal))
    faded = tallies(later.creators, later.n_cards)["c0"]
    assert faded == pytest.approx((0.95**3, signal * 0.95**3))
    assert list(tallies(later.tags, later.n_cards)) == ["t1", "t2", "t0"]


def tallies(recent: tuple[Tally, ...], n_cards: int) -> dict[str, tuple[float, float]]:
    names, exposure, signal = tally_columns(recent, n_cards)
    return dict(zip(names, zip(exposure.tolist(), signal.tolist(), strict=True), strict=True))


def test_the_tags_of_the_registration_speak_first_and_fade_with_what_is_answered() -> None:
    joined = UserRecord(USER, 0, UserId("me"), Profile(tags=("#Cats",)))
    cats = tags_vector(["cats"])
    state = folded(joined, *(page(f"p{k}", range(10 * k, 10 * k + 10)) for k in range(12)))
    matches = [float(long_interest(state) @ cats)]
    assert matches[0] == pytest.approx(PRIOR_CARDS * DECLARED_SIGNAL / RIDGE, rel=1e-3)
    assert not long_interest(state, with_declared=False).any()
    for k in range(4):
        for slot in range(10):
            state = folded(feedback(f"p{k + 8}:{slot}", "dwell", 5.0), start=state)
        matches.append(float(long_interest(state) @ cats))
    assert state.evidence > 30.0
    assert matches == sorted(matches, reverse=True)
    assert matches[-1] < 0.9 * matches[0]


def test_tags_of_a_card_are_tallied_as_they_compare() -> None:
    shouting = msgspec.structs.replace(CARDS[0], tags=("#T0", "t0 ", "#"))
    delivered = msgspec.structs.replace(page("q", range(1)), cards=(shouting,))
    state = folded(JOIN, delivered, feedback("q:0", "like"))
    assert tallies(state.tags, state.n_cards) == {"t0": pytest.approx((1.0, 1.0))}


def test_sounds_are_tallied_like_creators_and_silence_is_not() -> None:
    song, silent = CARDS[1], CARDS[0]
    delivered = msgspec.structs.replace(page("q", range(2)), cards=(song, silent))
    state = folded(JOIN, delivered, feedback("q:0", "like"), feedback("q:1", "impression"))
    kept = 0.95  # another card has come since, by which this one counted as skipped
    expected = pytest.approx((kept, kept * (1.0 - TYPICAL_WATCH)))
    assert tallies(state.sounds, state.n_cards) == {"song": expected}


def test_the_prior_of_a_scene_speaks_first_below_declared_tags_and_fades() -> None:
    cats, dogs = tags_vector(["cats"]), tags_vector(["dogs"])
    state = folded(JOIN, *(page(f"p{k}", range(10 * k, 10 * k + 10)) for k in range(6)))
    lent = PRIOR_CARDS * SCENE_SIGNAL / RIDGE
    assert long_interest(state, prior=dogs) == pytest.approx(lent * dogs, rel=1e-3)
    declared = newcomer(Profile(tags=("cats",)))
    both = long_interest(declared, prior=dogs)
    expected = PRIOR_CARDS * DECLARED_SIGNAL / RIDGE * cats + lent * dogs
    assert both == pytest.approx(expected, rel=1e-3, abs=1e-6)
    moved = [np.linalg.norm(long_interest(state, prior=dogs) - long_interest(state))]
    for k in range(4):
        for slot in range(10):
            state = folded(feedback(f"p{k + 2}:{slot}", "dwell", 5.0), start=state)
        moved.append(np.linalg.norm(long_interest(state, prior=dogs) - long_interest(state)))
    shares = [RIDGE / (RIDGE + n / DIRECTIONS) for n in (0, 10, 20, 30, 40)]
    assert np.array(moved) == pytest.approx(lent * np.array(shares), rel=0.02)
    nothing = np.zeros(VECTOR_DIM, dtype=np.float32)
    assert np.array_equal(long_interest(state, prior=nothing), long_interest(state))


def test_an_older_row_with_hashed_apps_is_read_and_its_hash_goes_with_the_next_profile() -> None:
    older = msgspec.structs.replace(newcomer(Profile(apps=("chat",))), apps=bytes(16))
    read = decode_state(encode_state(older))
    assert read == older
    assert register(read, Profile(apps=("chat",))) == newcomer(Profile(apps=("chat",)))


def test_a_changed_profile_keeps_what_was_learned() -> None:
    state = folded(feedback("p:0", "like"), start=DELIVERED)

    moved = folded(UserRecord(USER, 9, UserId("me"), Profile(country="SG")), start=state)

    assert moved == msgspec.structs.replace(state, profile=Profile(country="SG"))


def test_what_is_under_way_does_not_bring_a_forgotten_user_back() -> None:
    state: UserState | None = DELIVERED
    for record in (
        UserRecord(USER, 9),
        page("q", range(3)),
        feedback("p:0", "like"),
        TickRecord(9),
    ):
        state = fold(state, record)
        assert state is None


def test_items_and_ticks_change_nothing() -> None:
    assert fold(DELIVERED, TickRecord(10**12)) is DELIVERED
    assert fold(DELIVERED, ItemRecord(ItemId("i0"), 10**12)) is DELIVERED


def test_a_state_full_of_everything_stays_a_small_row() -> None:
    records: list[Record] = [JOIN]
    for p in range(160):
        name = f"{p:032x}"
        at_ms = p * 20_000
        cards = tuple(
            msgspec.structs.replace(
                CARDS[i],
                item_id=ItemId(f"item-{10 * p + i}"),
                creator=_maker(10 * p + i),
                tags=(f"tag-{p}", f"topic-{i}"),
                sound=f"sound-{10 * p + i}",
            )
            for i in range(10)
        )
        records.append(msgspec.structs.replace(page(name, range(10), at_ms), cards=cards))
        for i in range(10):
            kinds: tuple[FeedbackKind, ...] = ("impression", "dwell")
            kinds = (*kinds, "not_interested" if i % 2 else "follow")
            records += [feedback(f"{name}:{i}", k, 9.5, at_ms + 2000 * i) for k in kinds]
        names = tuple(CreatorId(f"away-{10 * p + i}") for i in range(10))
        records.append(BlockRecord(USER, at_ms, names, tuple(f"not-{name}" for name in names)))

    state = folded(*records)

    assert 4 * MAX_RECENT <= len(state.seen) <= 4 * (MAX_RECENT + SLACK)
    assert len(state.creators) == MAX_TALLIES
    assert len(state.sounds) == MAX_TALLIES
    assert len(state.follows) == MAX_FOLLOWS
    assert len(state.blocked) == len(state.blocked_tags) == MAX_BLOCKED
    assert len(state.avoided) == MAX_AVOIDED
    assert len(state.doubted) == MAX_DOUBTED
    assert len(state.unwanted) == 4 * MAX_UNWANTED
    assert sum(len(p.cards) for p in state.pages) <= MAX_CARDS
    n_bytes = len(encode_state(state))
    assert n_bytes < 46_000
    assert n_bytes - len(encode_state(_without_blocks(state))) < 24_000
    assert seen_keys(state)[-1] == item_key("item-1599") & 0xFFFF_FFFF


def _maker(n: int) -> CreatorId:
    """Return whose the n-th card is: of the earlier odd ones, two are of each."""
    return CreatorId(f"creator-{n}" if n % 2 == 0 or n >= 1400 else f"annoying-{n // 4}")


def _without_blocks(state: UserState) -> UserState:
    return msgspec.structs.replace(state, blocked=(), blocked_tags=())


def events() -> st.SearchStrategy[Record]:
    """Any page or feedback, in any order: repeated, late, unknown, out of order in time."""
    decisions = st.builds(
        "{}:{}".format, st.sampled_from(["p0", "p1", "p2", "p3", "no"]), st.integers(0, 13)
    )
    values = st.one_of(st.floats(), st.floats(0, 100))
    at_ms = st.integers(0, 3 * PAGE_OPEN_MS)
    said = st.builds(feedback, decisions, st.sampled_from(tuple(KINDS)), values, at_ms)
    pages = st.builds(
        lambda n, at, session: page(f"p{n}", range(12 * n, 12 * n + 12), at, session),
        st.integers(0, 3),
        at_ms,
        st.sampled_from("st"),
    )
    user = st.just(UserRecord(USER, 0, UserId("me"), Profile(country="MY")))
    creators, tags = st.sampled_from(["c0", "c1", "", "no"]), st.sampled_from(["t0", "#T1", "#"])
    blocks = st.builds(
        lambda creator, tag, wanted: BlockRecord(USER, 0, (CreatorId(creator),), (tag,), wanted),
        creators,
        tags,
        st.booleans(),
    )
    return st.one_of(said, said, said, pages, user, blocks)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(events(), max_size=60))
@pytest.mark.slow
def test_folding_is_pure_and_nothing_is_lost_in_a_row(records: list[Record]) -> None:
    start = folded(JOIN, page("p0", range(12)), page("p1", range(12, 24)))
    state = row = start
    for record in records:
        before = encode_state(state)
        state = folded(record, start=state)
        row = decode_state(encode_state(folded(record, start=row)))
        assert encode_state(state) == encode_state(row)
        assert row == state
        assert fold(decode_state(before), record) == state
    check_sound(state)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(events(), max_size=40), st.data())
@pytest.mark.slow
def test_a_report_heard_again_at_once_changes_nothing(
    records: list[Record], data: st.DataObject
) -> None:
    state = folded(JOIN, page("p0", range(12)), *records)
    again = data.draw(events())

    once = folded(again, start=state)

    assert folded(again, start=once) == once


def check_sound(state: UserState) -> None:
    numbers = (state.evidence, state.plays, state.watch, state.dwell_s, state.session_evidence)
    assert np.isfinite(numbers).all()
    assert min(numbers) >= -1e-9
    for interest in (long_interest(state), session_interest(state)):
        assert interest.dtype == np.float32
        assert np.linalg.norm(interest) <= MAX_LENGTH + 1e-5
    seen = observed(state)
    assert 0.0 < seen.play_rate < 1.0
    assert 0.0 < seen.session_play_rate < 1.0
    assert 0.0 < seen.swipe_speed <= 60.0
    assert 0 <= state.position <= state.n_cards
    assert len(state.seen) % 4 == 0
    assert len(state.seen) // 4 <= min(state.n_cards, MAX_RECENT + SLACK)
    for name in (*state.doubted, *state.avoided, *state.follows, *state.blocked):
        kept = (state.doubted, state.avoided, state.blocked, state.follows)
        assert [name in names for names in kept[:3]].count(True) <= 1
        assert name not in state.follows or name not in (*state.avoided, *state.blocked)
    for names in (state.follows, state.blocked, state.doubted, state.avoided, state.blocked_tags):
        assert "" not in names
        assert len(set(names)) == len(names)
    for recent in (state.creators, state.tags, state.sounds):
        assert len({tally.name for tally in recent}) == len(recent) <= MAX_TALLIES


def test_a_state_keeps_the_latest_answers_as_the_log_says_them() -> None:
    said: list[Record] = [
        feedback("p:0", "impression"),
        feedback("p:0", "like"),
        feedback("p:0", "dwell", 25.0),
    ]

    def answers(*more: Record) -> list[tuple[str, float]]:
        state = folded(*more, start=DELIVERED)
        assert decode_state(encode_state(state)) == state
        return [(answer.topic, answer.signal) for answer in state.topic_answers]

    assert answers(said[0]) == []
    assert answers(*said[:2]) == [("t0", 1.0)]
    ((topic, signal),) = answers(*said)
    assert topic == "t0"
    assert signal > 1.0
    assert answers(*said, *said) == answers(*said)
    skipped = answers(*said, feedback("p:1", "impression"), feedback("p:2", "impression"))
    assert [topic for topic, _ in skipped] == ["t0", "t1"]
    assert skipped[1][1] < 0.0
    later = answers(*said, page("q", range(20, 30)), feedback("q:0", "dwell", 1.0))
    assert [topic for topic, _ in later] == ["t0", "t2"]
