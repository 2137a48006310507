"""What a user wants no more of: said of a card, of a creator or of a tag, and taken back."""

import msgspec
import pytest

from env.items.content import static_block
from env.records import (
    BlockRecord,
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    PageRecord,
    Record,
    UserRecord,
    item_key,
    pack_halves,
)
from env.users.fold import MAX_AVOIDED, MAX_BLOCKED, MAX_UNWANTED, fold, has_room
from env.users.interests import RIDGE, tally_columns
from env.users.open_cards import MAX_OTHERS, OpenCard
from env.users.seen import MAX_RECENT, SLACK
from env.users.state import (
    UserState,
    blocked_creators,
    decode_state,
    encode_state,
    followed,
    long_interest,
    seen_keys,
    unwanted_keys,
)
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Float32s,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserId,
    UserKey,
)

USER = UserKey("u")
JOIN = UserRecord(USER, 0, UserId("me"), Profile(follows=(CreatorId("c2"),)))


def vector(i: int) -> Float32s:
    return static_block(Item(ItemId(f"i{i}"), tags=(f"t{i % 4}",)))


def page(name: str, first: int, n: int = 8) -> PageRecord:
    """Return a page of items first, first + 1, ..: of creators c0 to c3 in turn, but i7 of none."""
    cards = tuple(
        Card(
            ItemId(f"i{i}"),
            pack_halves(vector(i)),
            CreatorId(f"c{i % 4}" if i != 7 else ""),
            (f"T{i % 4}",),
            30.0,
            f"s{i % 4}",
        )
        for i in range(first, first + n)
    )
    return PageRecord(
        page_id=PageId(name),
        at_ms=1000 * first,
        user=USER,
        session=SessionId("s"),
        scene=Scene(0),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=1,
        rules=(),
        slots=(),
        drawn=tuple(Drawn(slot, slot, 0.1) for slot in range(n)),
        cards=cards,
        reasons=(),
        policy="uniform@0",
        explorer={},
        eps=0.1,
    )


def said(decision: str, kind: FeedbackKind = "not_interested") -> FeedbackRecord:
    return FeedbackRecord("e", DecisionId(decision), 1000, USER, SessionId("s"), kind)


def blocking(creators: str = "", tags: tuple[str, ...] = (), *, wanted: bool = False) -> Record:
    return BlockRecord(USER, 2000, tuple(map(CreatorId, creators.split())), tags, wanted)


def folded(*records: Record, start: UserState | None = None) -> UserState:
    state = start
    for record in records:
        state = fold(state, record)
    assert state is not None
    return state


DELIVERED = folded(JOIN, page("p", 0))


def test_an_unfollow_ends_a_follow_whatever_card_it_is_told_about() -> None:
    following = folded(said("p:0", "follow"), start=DELIVERED)
    (creator,) = {*following.follows} - {*DELIVERED.follows}
    assert folded(said("p:0", "unfollow"), start=following).follows == DELIVERED.follows
    other = next(card.slot for card in following.pages[0].cards[1:] if card.creator != creator)
    assert creator in folded(said(f"p:{other}", "unfollow"), start=following).follows


def test_an_unfollow_ends_a_follow_that_was_declared_at_the_registration() -> None:
    creator = DELIVERED.pages[0].cards[0].creator
    profile = msgspec.structs.replace(DELIVERED.profile, follows=(creator,))
    declared = folded(UserRecord(USER, 0, UserId("me"), profile), start=DELIVERED)
    assert creator in followed(declared)
    gone = folded(said("p:0", "unfollow"), start=declared)
    assert creator not in followed(gone)
    assert creator in followed(folded(said("p:0", "follow"), start=gone))
    moved = msgspec.structs.replace(profile, follows=(creator, CreatorId("another")))
    assert creator in followed(folded(UserRecord(USER, 0, UserId("me"), moved), start=gone))


@pytest.mark.parametrize("kind", ["not_interested", "report"])
def test_what_turns_a_user_away_can_be_taken_back_by_a_signal_of_the_settings(kind: str) -> None:
    away = folded(said("p:0", kind), start=DELIVERED)
    assert away.unwanted
    assert away.doubted
    back = msgspec.structs.replace(said("p:0", "never_mind"), undoes=kind)
    again = folded(back, start=away)
    assert (again.unwanted, again.doubted) == (DELIVERED.unwanted, DELIVERED.doubted)
    both = folded(said("p:0", "not_interested"), said("p:0", "report"), back, start=DELIVERED)
    assert both.unwanted == away.unwanted, "the other one stands"


def short(i: int) -> int:
    return item_key(f"i{i}") & 0xFFFF_FFFF


def test_one_card_of_no_interest_doubts_its_creator_and_after_a_second_they_are_avoided() -> None:
    once = folded(said("p:1"), start=DELIVERED)
    other = folded(said("p:2"), start=once)
    twice = folded(said("p:5"), start=other)

    assert (once.doubted, once.avoided) == (("c1",), ())
    assert (other.doubted, other.avoided) == (("c1", "c2"), ())
    assert (twice.doubted, twice.avoided) == (("c2",), ("c1",))
    assert twice.blocked == ()
    assert blocked_creators(twice) == ("c1",)


def test_the_same_card_said_twice_is_one_card() -> None:
    once = folded(said("p:1"), start=DELIVERED)

    assert folded(said("p:1"), start=once) == once
    assert folded(said("p:1"), said("p:1", "leave"), said("p:1"), start=once).avoided == ()


def test_who_is_followed_stays_so_at_the_first_card_and_not_at_the_second() -> None:
    once = folded(said("p:2"), start=DELIVERED)
    twice = folded(said("p:6"), start=once)

    assert followed(once) == {"c2"}
    assert followed(twice) == frozenset()


def test_a_follow_takes_back_the_doubt() -> None:
    state = folded(said("p:1"), said("p:1", "follow"), said("p:5"), start=DELIVERED)

    assert (state.doubted, blocked_creators(state)) == (("c1",), ())
    assert "c1" in followed(state)


def test_a_card_of_nobody_doubts_nobody() -> None:
    state = folded(said("p:7"), start=DELIVERED)

    assert (state.doubted, blocked_creators(state)) == ((), ())
    assert unwanted_keys(state).tolist() == [short(7)]


def test_a_card_of_no_interest_pulls_down_its_content_creator_tags_and_sound_at_once() -> None:
    state = folded(said("p:1"), start=DELIVERED)

    assert float(long_interest(state) @ vector(1)[:32]) == pytest.approx(-2.0 / RIDGE, rel=1e-3)
    for recent, name in ((state.creators, "c1"), (state.tags, "t1"), (state.sounds, "s1")):
        names, exposure, signal = tally_columns(recent, state.n_cards)
        assert (names, exposure.tolist(), signal.tolist()) == ([name], [1.0], [-2.0])


def test_what_was_of_no_interest_is_known_when_the_ring_of_the_seen_has_forgotten_it() -> None:
    state = folded(said("p:1"), start=DELIVERED)
    for k in range(1 + (MAX_RECENT + SLACK) // 40):
        name = f"q{k}"
        state = folded(page(name, 100 + 40 * k, 40), start=state)
        state = folded(*(said(f"{name}:{slot}", "impression") for slot in range(40)), start=state)

    assert short(1) not in seen_keys(state)
    assert unwanted_keys(state).tolist() == [short(1)]


def test_the_last_items_of_no_interest_are_kept() -> None:
    state = DELIVERED
    for k in range(1 + MAX_UNWANTED // 40):
        name = f"q{k}"
        state = folded(page(name, 100 + 40 * k, 40), start=state)
        state = folded(*(said(f"{name}:{slot}") for slot in range(40)), start=state)

    last = 100 + 40 * (1 + MAX_UNWANTED // 40)
    expected = [short(i) for i in range(last - MAX_UNWANTED, last)]
    assert unwanted_keys(state).tolist() == expected


def test_creators_and_tags_are_blocked_at_once_and_wanted_again_when_taken_back() -> None:
    doubtful = folded(said("p:1"), start=DELIVERED)
    blocked = folded(blocking("c1 c2", (" #Cats", "dogs", "#")), start=doubtful)
    again = folded(blocking("c2 c9", ("DOGS",), wanted=True), start=blocked)

    assert (blocked.blocked, blocked.doubted) == (("c1", "c2"), ())
    assert blocked.blocked_tags == ("cats", "dogs")
    assert followed(blocked) == frozenset()
    assert again.blocked == ("c1",)
    assert again.blocked_tags == ("cats",)
    assert followed(again) == {"c2"}


def test_a_card_of_a_blocked_creator_that_was_still_under_way_raises_no_doubt() -> None:
    state = folded(blocking("c1 c2"), said("p:1"), start=DELIVERED)

    assert (state.doubted, state.avoided, state.blocked) == ((), (), ("c1", "c2"))


def test_a_block_or_its_end_or_a_follow_ends_the_avoidance() -> None:
    avoiding = folded(said("p:1"), said("p:5"), start=DELIVERED)
    blocked = folded(blocking("c1"), start=avoiding)

    assert (avoiding.avoided, avoiding.blocked) == (("c1",), ())
    assert (blocked.avoided, blocked.blocked) == ((), ("c1",))
    for back in (blocking("c1", wanted=True), said("p:1", "follow")):
        assert blocked_creators(folded(back, start=avoiding)) == ()
        assert blocked_creators(folded(back, start=blocked)) == ()


def test_wanting_a_creator_takes_back_the_doubt() -> None:
    state = folded(said("p:1"), blocking("c1", wanted=True), said("p:5"), start=DELIVERED)

    assert (state.doubted, blocked_creators(state)) == (("c1",), ())


def test_a_block_moves_nothing_else() -> None:
    state = folded(said("p:0", "like"), start=DELIVERED)
    blocked = folded(blocking("c0", ("t0",)), start=state)
    taken_back = folded(blocking("c0", ("t0",), wanted=True), start=blocked)

    assert blocked == msgspec.structs.replace(state, blocked=("c0",), blocked_tags=("t0",))
    assert taken_back == state
    assert folded(blocking("c0", ("t0",)), start=blocked) == blocked


def test_the_101st_block_costs_none_of_the_others() -> None:
    state = DELIVERED
    for i in range(101):
        state = folded(blocking(f"x{i}", (f"y{i}",)), start=state)

    assert state.blocked == tuple(f"x{i}" for i in range(101))
    assert state.blocked_tags == tuple(f"y{i}" for i in range(101))


def test_answers_push_out_no_block_but_the_oldest_of_their_own() -> None:
    state = folded(blocking("x0", ("y0",)), start=DELIVERED)
    n_pages = 1 + 2 * MAX_AVOIDED // 40
    for k in range(n_pages):
        sent = page(f"q{k}", 100 + 40 * k, 40)
        cards = tuple(
            msgspec.structs.replace(card, creator=CreatorId(f"d{20 * k + slot // 2}"))
            for slot, card in enumerate(sent.cards)
        )
        state = folded(msgspec.structs.replace(sent, cards=cards), start=state)
        state = folded(*(said(f"q{k}:{slot}") for slot in range(40)), start=state)

    last = 20 * n_pages
    assert last > MAX_AVOIDED
    assert state.avoided == tuple(f"d{i}" for i in range(last - MAX_AVOIDED, last))
    assert (state.blocked, state.blocked_tags) == (("x0",), ("y0",))
    assert blocked_creators(state) == ("x0", *state.avoided)


def test_there_is_room_for_a_thousand_creators_and_as_many_tags() -> None:
    all_creators = " ".join(f"x{i}" for i in range(MAX_BLOCKED))
    all_tags = tuple(f"y{i}" for i in range(MAX_BLOCKED))
    full = folded(blocking(all_creators, all_tags), start=DELIVERED)

    def room(record: Record) -> bool:
        assert isinstance(record, BlockRecord)
        return has_room(full, record)

    assert room(blocking("x3 x3", ("#Y7", "#")))
    assert not room(blocking("new"))
    assert not room(blocking("", ("new",)))
    assert room(blocking("new", ("new",), wanted=True))
    assert len(full.blocked) == len(full.blocked_tags) == MAX_BLOCKED


def test_a_record_beyond_the_limit_that_stands_in_a_log_keeps_the_state_bounded() -> None:
    names = " ".join(f"x{i}" for i in range(MAX_BLOCKED + 1))
    assert folded(blocking(names), start=DELIVERED).blocked == tuple(names.split())[1:]


def test_a_block_brings_nobody_back() -> None:
    assert fold(None, blocking("c1")) is None


FORMER_STATE = """
    profile n_cards evidence plays watch dwell_s long_sum session session_ms last_ms position
    session_evidence session_plays session_sum current seen pages follows blocked creators tags
    declared apps
"""
FORMER_CARD = "slot key vector creator tags duration_s impressed answered events dwell_s usual"


class FormerCard(msgspec.Struct, array_like=True):
    """An open card as it stood in a row before there were sounds."""

    slot: int
    key: int
    vector: bytes
    creator: str
    tags: tuple[str, ...]
    duration_s: float
    impressed: bool
    answered: bool
    events: int
    dwell_s: float
    usual: float


def test_rows_of_the_former_layout_are_read_as_they_were_and_fold_on() -> None:
    state = folded(said("p:0", "like"), said("p:1", "dwell"), start=DELIVERED)
    pages = [
        [page.page_id, page.session, page.at_ms, [former(card) for card in page.cards]]
        for page in state.pages
    ]
    values = {name: getattr(state, name) for name in FORMER_STATE.split()} | {"pages": pages}
    row = msgspec.msgpack.encode([values[name] for name in FORMER_STATE.split()])
    silent = tuple(
        msgspec.structs.replace(
            page, cards=tuple(msgspec.structs.replace(card, sound="") for card in page.cards)
        )
        for page in state.pages
    )
    expected = msgspec.structs.replace(
        state, pages=silent, sounds=(), topic_answers=(), answers=b""
    )

    assert decode_state(row) == expected
    moved = folded(said("p:1"), blocking("c9", ("t",)), start=decode_state(row))
    assert moved == folded(said("p:1"), blocking("c9", ("t",)), start=expected)
    assert decode_state(encode_state(moved)) == moved


def test_what_was_blocked_in_a_row_without_avoidance_stays_blocked_whoever_said_so() -> None:
    state = folded(said("p:1"), said("p:5"), blocking("c9", ("t",)), start=DELIVERED)
    names = UserState.__struct_fields__[: UserState.__struct_fields__.index("avoided")]
    values = {name: getattr(state, name) for name in names} | {"blocked": ("c1", "c9")}
    read = decode_state(msgspec.msgpack.encode([values[name] for name in names]))

    assert (read.blocked, read.avoided, read.blocked_tags) == (("c1", "c9"), (), ("t",))
    assert blocked_creators(folded(blocking("c1", wanted=True), start=read)) == ("c9",)


def former(card: OpenCard) -> FormerCard:
    return FormerCard(*(getattr(card, name) for name in FORMER_CARD.split()))


def test_signals_of_ones_own_take_bounded_room_in_a_row() -> None:
    state = DELIVERED
    for slot in range(8):
        for k in range(40):
            own = msgspec.structs.replace(
                said(f"p:{slot}", f"{'own_signal_of_ours_' * 2}{k:02}"), interest=0.5
            )
            state = folded(own, start=state)
    cards = state.pages[0].cards
    assert all(len(card.others) == MAX_OTHERS for card in cards)
    assert cards[7].signal == pytest.approx(0.5 * MAX_OTHERS), "the others were left unanswered"
    more = len(encode_state(state)) - len(encode_state(DELIVERED))
    assert more * 48 / 8 < 24_000
