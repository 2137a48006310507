"""How a person's state moves: a pure fold of the log, so a row of a database equals the log.

Interests move with each feedback by the difference in what its card says (`env.open_cards`), so
the same report twice moves nothing and a longer one corrects.

Rejected: timestamps in the decay (a person who comes back after a week likes what they liked;
sessions forget on their own).
"""

import msgspec
import numpy as np

from env.interests import NO_INTEREST, add_interest, add_tally
from env.open_cards import OpenCard, find_card, hear, open_page, put_card, still_open
from env.records import FeedbackRecord, PageRecord, Record, UserRecord
from env.users import (
    MAX_SEEN,
    PACE_DWELL_S,
    SESSION_SILENCE_MS,
    UserState,
    newcomer,
    register,
    usual_watch,
)
from env.vocabulary import CreatorId, DecisionId, SessionId

MAX_CREATORS = 100

LONG_DECAY = 0.995  # a card: half of the weight is in the last 139 answered cards
SESSION_DECAY = 0.9  # a card: half of the weight is in the last 7


def fold(state: UserState | None, record: Record) -> UserState | None:
    """Return a person's state after a record of theirs.

    Only a registration makes a state out of None, so that what is still under way when somebody
    is forgotten does not bring them back. Feedback for a card that is not open changes nothing.

    Args:
        state: None: unknown or forgotten.
        record: of this person; items and ticks change nothing.
    """
    match record:
        case UserRecord():
            return _register(state, record)
        case PageRecord() if state:
            return _deliver(state, record)
        case FeedbackRecord() if state:
            return _answer(state, record)
        case _:
            return state


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
    state = _move(state, place, hear(card, record.kind, record.value, usual_watch(state)))
    return _choose_creator(state, card.creator, record.kind)


def _show(state: UserState, decision: DecisionId) -> UserState:
    """What comes on screen ends the card before it: if nothing was said of it, it was skipped."""
    before = find_card(state.pages, state.current)
    if before is not None:
        card = state.pages[before[0]].cards[before[1]]
        if not card.answered:
            state = _move(state, before, hear(card, "leave", 0.0, usual_watch(state)))
    return msgspec.structs.replace(state, current=decision)


def _move(state: UserState, place: tuple[int, int], card: OpenCard) -> UserState:
    """Exchange an open card and move all that it weighs in by what it says more than before."""
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
    key = np.uint64(card.key).astype("<u4")
    ring = np.frombuffer(state.seen, dtype="<u4")
    seen = np.append(ring[ring != key], key)[-MAX_SEEN:]
    n_cards = state.n_cards + 1
    return msgspec.structs.replace(
        state,
        n_cards=n_cards,
        position=state.position + here,
        seen=seen.tobytes(),
        creators=add_tally(state.creators, _names(card), n_cards, 1.0, 0.0),
        tags=add_tally(state.tags, card.tags, n_cards, 1.0, 0.0),
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
        creators=add_tally(state.creators, _names(card), state.n_cards, 0.0, signal),
        tags=add_tally(state.tags, card.tags, state.n_cards, 0.0, signal),
    )
    if not here:
        return state
    return msgspec.structs.replace(
        state,
        session_evidence=state.session_evidence * session + answer,
        session_plays=state.session_plays * session + play,
        session_sum=add_interest(state.session_sum, session, signal, card.vector),
    )


def _choose_creator(state: UserState, creator: CreatorId, kind: str) -> UserState:
    """One "follow" or "not interested" speaks for the creator, the later one rules."""
    if not creator or kind not in ("follow", "not_interested"):
        return state
    follows = [c for c in state.follows if c != creator]
    blocked = [c for c in state.blocked if c != creator]
    (follows if kind == "follow" else blocked).append(creator)
    return msgspec.structs.replace(
        state, follows=tuple(follows[-MAX_CREATORS:]), blocked=tuple(blocked[-MAX_CREATORS:])
    )


def _hear_of(state: UserState, at_ms: int) -> UserState:
    """Move the last word, which never goes back; a long silence before it ended the session."""
    if at_ms - state.last_ms > SESSION_SILENCE_MS:
        state = _begin_session(state, state.session, at_ms)
    return msgspec.structs.replace(state, last_ms=max(state.last_ms, at_ms))


def _begin_session(state: UserState, session: SessionId, at_ms: int) -> UserState:
    return msgspec.structs.replace(
        state,
        session=session,
        session_ms=at_ms,
        last_ms=max(state.last_ms, at_ms),
        position=0,
        session_evidence=0.0,
        session_plays=0.0,
        session_sum=NO_INTEREST,
    )


def _names(card: OpenCard) -> tuple[str, ...]:
    return (card.creator,) if card.creator else ()


def _pace_s(card: OpenCard) -> float:
    return min(card.dwell_s, PACE_DWELL_S)
