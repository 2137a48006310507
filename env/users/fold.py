"""The fold that updates a user's state, so that a database row always equals the log.

Interests move with each feedback by the change of its card's signal. "Not interested" hides the
item and its near-duplicates and lowers its tags and creator; a creator is avoided from the second
such card on. Explicit blocks are stored apart from these. An imported history counts card by card
as a page does, outside of any session. Reasons and bounds: `docs/decisions/user-state.md`.
"""

from typing import TypeVar

import msgspec

from env.history import PastView, past_views
from env.items.content import fold_tag
from env.items.topics import topic_name
from env.records import (
    BlockRecord,
    FeedbackKind,
    FeedbackRecord,
    HistoryRecord,
    PageRecord,
    Record,
    UserRecord,
    item_key,
)
from env.users.answers import put_answer
from env.users.interests import NO_INTEREST, add_interest, add_tally
from env.users.open_cards import (
    FOLLOWING,
    OpenCard,
    find_card,
    hear,
    open_card,
    open_page,
    put_card,
    still_open,
    undone_by,
)
from env.users.seen import KEY_BYTES, Seen, drop_key, has_seen, put_key, see
from env.users.state import (
    PACE_DWELL_S,
    SESSION_SILENCE_MS,
    UserState,
    come_back,
    newcomer,
    register,
    usual_watch,
)
from env.users.topics import Answer, Answers, put_topic_answer
from env.vocabulary import CreatorId, DecisionId, SessionId

MAX_FOLLOWS = 100
MAX_BLOCKED = 1000
"""Creators, and as many tags, that a user may block; sizes see `env.users.state.encode_state`."""

MAX_AVOIDED = 100
MAX_DOUBTED = 50
MAX_UNWANTED = 100
LONG_DECAY = 0.995  # a card: half of the weight is in the last 139 answered cards
SESSION_DECAY = 0.9  # a card: half of the weight is in the last 7
BAIT_STEP = 0.05  # step of the running mean of bait
_Name = TypeVar("_Name", bound=str)


def fold(state: UserState | None, record: Record) -> UserState | None:
    """Return a user's state after one of the user's records.

    Only a registration creates a state, so events still under way when a user is forgotten do not
    bring the user back. Feedback for a card that is not open changes nothing.

    Args:
        state: None for an unknown or forgotten user.
        record: of this user; items and ticks change nothing.
    """
    match record:
        case UserRecord():
            return _register(state, record)
        case PageRecord() if state:
            return _deliver(state, record)
        case FeedbackRecord() if state:
            return _answer(state, record)
        case BlockRecord() if state:
            return _block(state, record)
        case HistoryRecord() if state:
            return _recall(state, record)
        case _:
            return state


def was_shown(state: UserState, decision: DecisionId, key: int) -> bool:
    """Return whether a card was on screen, or, where its page is closed, its item ever was.

    Args:
        state: of the card's user.
        decision: of the card.
        key: `env.records.item_key` of its item.
    """
    place = find_card(state.pages, decision)
    if place is not None:
        return state.pages[place[0]].cards[place[1]].impressed
    return has_seen(Seen(state.seen, state.seen_sets), key)


def _register(state: UserState | None, record: UserRecord) -> UserState | None:
    if record.profile is None:
        return None
    if state is None:
        return newcomer(record.profile)
    return register(state, record.profile)


def _deliver(state: UserState, record: PageRecord) -> UserState:
    if any(page.page_id == record.page_id for page in state.pages):
        return state
    if record.session != state.session:
        state = _begin_session(state, record.session, record.at_ms)
    state = _hear_of(state, record.at_ms)
    pages = still_open((*state.pages, open_page(record)), state.last_ms)
    return msgspec.structs.replace(state, pages=pages)


def _answer(state: UserState, record: FeedbackRecord) -> UserState:
    place = find_card(state.pages, record.decision_id)
    if place is None:
        return state
    state = _hear_of(state, record.at_ms)
    card = state.pages[place[0]].cards[place[1]]
    if not card.impressed:
        state = _show(state, record.decision_id)
    heard = hear(
        card,
        record.kind,
        record.value,
        usual_watch(state),
        interest=record.interest,
        undoes=record.undoes,
    )
    return _react(_move(state, place, heard), record.kind, card, heard, record.undoes)


def _react(
    state: UserState,
    kind: FeedbackKind,
    before: OpenCard,
    card: OpenCard,
    undoes: FeedbackKind | None = None,
) -> UserState:
    """Apply what one event does to a user's follows and dislikes."""
    if kind in FOLLOWING and card.creator:
        return _follow(state, card.creator)
    if card.unwanted and not before.unwanted:
        return _turn_away(state, card)
    if before.unwanted and not card.unwanted:
        return _turn_back(state, card)
    if card.creator and undone_by(kind, undoes) in FOLLOWING:
        return _unfollow(state, card.creator)
    return state


def _recall(state: UserState, record: HistoryRecord) -> UserState:
    """Count the views of an imported history as the user's latest cards, in no session.

    Times before the last event leave that as it is; later ones may end a visit.
    """
    for view in past_views(record):
        state = _hear_of(state, view.at_ms)
        state = _count_past(state, view) if view.is_known else _count_unknown(state, view)
    return state


def _count_past(state: UserState, view: PastView) -> UserState:
    delivered = card = open_card(0, view.card)
    usual = usual_watch(state)
    for kind, value, interest in view.reports:
        before, card = card, hear(card, kind, value, usual, interest=interest)
        if not (kind in FOLLOWING and card.creator in state.blocked):  # what was done here counts
            state = _react(state, kind, before, card)
    state = _count_impression(state, card, here=False)
    return _count_answer(state, delivered, card, here=False)


def _count_unknown(state: UserState, view: PastView) -> UserState:
    """Count an item that the catalogue did not know: it was seen, no more."""
    seen = see(Seen(state.seen, state.seen_sets), item_key(view.card.item_id), state.last_ms)
    return msgspec.structs.replace(state, seen=seen.ring, seen_sets=seen.sets)


def _show(state: UserState, decision: DecisionId) -> UserState:
    """Make a card the current impression; the previous one, if unanswered, counts as skipped."""
    before = find_card(state.pages, state.current)
    if before is not None:
        card = state.pages[before[0]].cards[before[1]]
        if not card.answered:
            state = _move(state, before, hear(card, "leave", 0.0, usual_watch(state)))
    return msgspec.structs.replace(state, current=decision)


def _move(state: UserState, place: tuple[int, int], card: OpenCard) -> UserState:
    """Replace an open card and update all statistics by the change."""
    page = state.pages[place[0]]
    before = page.cards[place[1]]
    if card == before:
        return state
    here = page.session == state.session
    state = msgspec.structs.replace(state, pages=put_card(state.pages, place, card))
    if not before.impressed:
        state = _count_impression(state, card, here)
    return _count_answer(state, before, card, here)


def _count_impression(state: UserState, card: OpenCard, here: bool) -> UserState:
    n_cards = state.n_cards + 1
    seen = see(Seen(state.seen, state.seen_sets), card.key, state.last_ms)
    return msgspec.structs.replace(
        state,
        n_cards=n_cards,
        position=state.position + here,
        bait_lately=state.bait_lately + BAIT_STEP * (card.bait - state.bait_lately),
        seen=seen.ring,
        seen_sets=seen.sets,
        creators=add_tally(state.creators, _known(card.creator), n_cards, 1.0, 0.0),
        tags=add_tally(state.tags, card.tags, n_cards, 1.0, 0.0),
        sounds=add_tally(state.sounds, _known(card.sound), n_cards, 1.0, 0.0),
        languages=add_tally(state.languages, _known(card.language), n_cards, 1.0, 0.0),
    )


def _count_answer(state: UserState, before: OpenCard, card: OpenCard, here: bool) -> UserState:
    signal = card.signal - before.signal
    answer = int(card.answered) - int(before.answered)
    play = int(card.played) - int(before.played)
    long, session = LONG_DECAY**answer, SESSION_DECAY**answer
    state = msgspec.structs.replace(
        state,
        evidence=state.evidence * long + answer,
        plays=state.plays * long + play,
        watch=state.watch * long + card.watch - before.watch,
        dwell_s=state.dwell_s * long + _pace_s(card) - _pace_s(before),
        long_sum=add_interest(state.long_sum, long, signal, card.vector),
        creators=add_tally(state.creators, _known(card.creator), state.n_cards, 0.0, signal),
        tags=add_tally(state.tags, card.tags, state.n_cards, 0.0, signal),
        sounds=add_tally(state.sounds, _known(card.sound), state.n_cards, 0.0, signal),
        languages=add_tally(
            state.languages, _known(card.language), state.n_cards, 0.0, _wanted(card, before)
        ),
        topic_answers=_put_topic_answer(state.topic_answers, before, card),
        answers=_put_value(state.answers, before, card),
    )
    if not here:
        return state
    return msgspec.structs.replace(
        state,
        session_evidence=state.session_evidence * session + answer,
        session_plays=state.session_plays * session + play,
        session_watched_s=state.session_watched_s + card.dwell_s - before.dwell_s,
        session_sum=add_interest(state.session_sum, session, signal, card.vector),
    )


def _put_topic_answer(answers: Answers, before: OpenCard, card: OpenCard) -> Answers:
    """Return the answers with a card's signal, once anything but its impression is reported."""
    if not card.is_told:
        return answers
    answer = Answer(card.key, topic_name(card.tags, card.vector), card.signal)
    return put_topic_answer(answers, answer, is_new=not before.is_told)


def _put_value(answers: bytes, before: OpenCard, card: OpenCard) -> bytes:
    """Return the answers with this card's, where it says something new."""
    if not card.answered or (before.answered and before.value == card.value):
        return answers
    return put_answer(answers, card.key, card.value)


def _follow(state: UserState, creator: CreatorId) -> UserState:
    """Follow a creator and clear all blocks and doubts about the creator."""
    return msgspec.structs.replace(
        state,
        follows=_moved_last(state.follows, (creator,), MAX_FOLLOWS),
        unfollowed=_without(state.unfollowed, (creator,)),
        blocked=_without(state.blocked, (creator,)),
        doubted=_without(state.doubted, (creator,)),
        avoided=_without(state.avoided, (creator,)),
    )


def _unfollow(state: UserState, creator: CreatorId) -> UserState:
    """Follow a creator no longer, also one of the profile's."""
    unfollowed = state.unfollowed
    if creator in state.profile.follows:
        unfollowed = _moved_last(unfollowed, (creator,), MAX_FOLLOWS)
    return msgspec.structs.replace(
        state, follows=_without(state.follows, (creator,)), unfollowed=unfollowed
    )


def _turn_away(state: UserState, card: OpenCard) -> UserState:
    """Hide an item and doubt its creator; avoid a creator already doubted."""
    unwanted = put_key(state.unwanted, card.key)[-MAX_UNWANTED * KEY_BYTES :]
    state = msgspec.structs.replace(state, unwanted=unwanted)
    creator = _known(card.creator)
    if card.creator in state.blocked:
        return state
    if card.creator in state.doubted or card.creator in state.avoided:
        return _avoid(state, creator)
    return msgspec.structs.replace(state, doubted=_moved_last(state.doubted, creator, MAX_DOUBTED))


def _turn_back(state: UserState, card: OpenCard) -> UserState:
    """Take back that an item is unwanted, and with it all doubts about its creator."""
    creator = _known(card.creator)
    return msgspec.structs.replace(
        state,
        unwanted=drop_key(state.unwanted, card.key),
        doubted=_without(state.doubted, creator),
        avoided=_without(state.avoided, creator),
    )


def _avoid(state: UserState, creator: tuple[CreatorId, ...]) -> UserState:
    return msgspec.structs.replace(
        state,
        follows=_without(state.follows, creator),
        doubted=_without(state.doubted, creator),
        avoided=_moved_last(state.avoided, creator, MAX_AVOIDED),
    )


def has_room(state: UserState, record: BlockRecord) -> bool:
    """Return whether a user can block these too, with all existing blocks."""
    creators, tags = _named(record)
    n_creators = len({*state.blocked, *creators})
    n_tags = len({*state.blocked_tags, *tags})
    return record.wanted or max(n_creators, n_tags) <= MAX_BLOCKED


def _block(state: UserState, record: BlockRecord) -> UserState:
    creators, tags = _named(record)
    state = msgspec.structs.replace(
        state,
        doubted=_without(state.doubted, creators),
        avoided=_without(state.avoided, creators),
    )
    if record.wanted:
        return msgspec.structs.replace(
            state,
            blocked=_without(state.blocked, creators),
            blocked_tags=_without(state.blocked_tags, tags),
        )
    return msgspec.structs.replace(
        state,
        follows=_without(state.follows, creators),
        blocked=_moved_last(state.blocked, creators, MAX_BLOCKED),
        blocked_tags=_moved_last(state.blocked_tags, tags, MAX_BLOCKED),
    )


def _named(record: BlockRecord) -> tuple[tuple[CreatorId, ...], tuple[str, ...]]:
    """Return the creators and tags of a record in the form that a state keeps."""
    creators = tuple(filter(None, record.creators))
    return creators, tuple(filter(None, map(fold_tag, record.tags)))


def _moved_last(
    names: tuple[_Name, ...], moved: tuple[_Name, ...], at_most: int
) -> tuple[_Name, ...]:
    return (*_without(names, moved), *dict.fromkeys(moved))[-at_most:]


def _without(names: tuple[_Name, ...], gone: tuple[_Name, ...]) -> tuple[_Name, ...]:
    left = frozenset(gone)
    return tuple(name for name in names if name not in left)


def _hear_of(state: UserState, at_ms: int) -> UserState:
    """Advance the time of the last event; a long silence before it ended the session."""
    if at_ms <= state.last_ms:
        return state
    if at_ms - state.last_ms > SESSION_SILENCE_MS:
        return _begin_session(state, state.session, at_ms)
    return msgspec.structs.replace(state, last_ms=at_ms)


def _begin_session(state: UserState, session: SessionId, at_ms: int) -> UserState:
    return msgspec.structs.replace(
        come_back(state, at_ms),
        session=session,
        session_ms=at_ms,
        last_ms=max(state.last_ms, at_ms),
        position=0,
        session_evidence=0.0,
        session_plays=0.0,
        session_sum=NO_INTEREST,
        session_watched_s=0.0,
    )


def _known(name: _Name) -> tuple[_Name, ...]:
    return (name,) if name else ()


def _wanted(card: OpenCard, before: OpenCard) -> float:
    """Return the change of whether a card was played and not turned away, in [-1, 1]."""
    is_wanted, was_wanted = (c.played and not c.unwanted for c in (card, before))
    return float(is_wanted) - float(was_wanted)


def _pace_s(card: OpenCard) -> float:
    return min(card.dwell_s, PACE_DWELL_S)
