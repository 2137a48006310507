"""What the log says about a person: profile, interests, pace, what they saw; a fold, nothing else.

`fold` is the one function by which a person's state moves. It is pure, so the state in a database
row equals a fold of the log from its start. Interests are decayed sums of signal x content vector,
moved with each feedback by the difference in what its card says (`env.open_cards`).

Rejected: a learned user embedding (cannot move with each swipe and be folded again), timestamps in
the decay (a person who comes back after a week likes what they liked; sessions forget on their
own), full 64-bit keys in the ring of seen items (twice the bytes of a row that is rewritten with
each event; with 32 bits one unseen item in four million is taken for a seen one).
"""

from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from env.interests import NO_INTEREST, Tally, add_interest, add_tally, read_interest
from env.open_cards import (
    OpenCard,
    OpenPage,
    delivered_keys,
    find_card,
    hear,
    open_page,
    put_card,
    still_open,
)
from env.records import FeedbackRecord, PageRecord, Record, UserRecord
from env.vocabulary import Bools, CreatorId, DecisionId, Float32s, Keys, Profile, SessionId

Key = TypeVar("Key", np.uint32, np.uint64)

SESSION_SILENCE_MS = 30 * 60_000
MAX_SEEN = 1000
MAX_CREATORS = 100

LONG_DECAY = 0.995  # a card: half of the weight is in the last 139 answered cards
SESSION_DECAY = 0.9  # a card: half of the weight is in the last 7
LONG_PRIOR = 8.0  # answered cards that count against an interest
SESSION_PRIOR = 2.0
RATE_PRIOR = 4.0
PACE_DWELL_S = 60.0  # longer dwells say no more about a person's pace

# Of the standard-exposure log of KuaiRand-Pure: valid plays, watching (half a valid play, half a
# long view) and seconds a card.
TYPICAL_PLAY_RATE = 0.46
TYPICAL_WATCH = 0.4
TYPICAL_DWELL_S = 19.4


class UserState(msgspec.Struct, frozen=True, array_like=True):
    """A person as the log knows them.

    Attributes:
        profile: of the last registration.
        n_cards: impressions ever.
        evidence: decayed count of answered cards.
        plays: decayed count of valid plays among them.
        watch: decayed sum of their watching, each in [0, 1].
        dwell_s: decayed sum of their dwell, each at most `PACE_DWELL_S`.
        long_sum: decayed sum of signal x vector, float32 bytes; read it by `long_interest`.
        session: id of the visit under way or last.
        session_ms: when it began.
        last_ms: when anything was last heard.
        position: cards seen in the session.
        session_evidence: decayed count of answered cards of the session.
        session_plays: decayed count of valid plays among them.
        session_sum: as `long_sum`, of the session; read it by `session_interest`.
        current: the decision that is on screen, as far as is known.
        seen: ring of the last `MAX_SEEN` items, low 32 bits of their keys, oldest first; read it
            by `was_seen`.
        pages: delivered pages that feedback may still come for, oldest first; see
            `was_delivered`.
        follows: creators followed by feedback, oldest first; `followed` adds the profile's.
        blocked: creators of cards that were not of interest, oldest first.
        creators: recent creators, the latest last; read them by
            `env.interests.tallies`.
        tags: recent tags, the latest last.
    """

    profile: Profile
    n_cards: int = 0
    evidence: float = 0.0
    plays: float = 0.0
    watch: float = 0.0
    dwell_s: float = 0.0
    long_sum: bytes = NO_INTEREST
    session: SessionId = SessionId("")
    session_ms: int = 0
    last_ms: int = 0
    position: int = 0
    session_evidence: float = 0.0
    session_plays: float = 0.0
    session_sum: bytes = NO_INTEREST
    current: DecisionId = DecisionId("")
    seen: bytes = b""
    pages: tuple[OpenPage, ...] = ()
    follows: tuple[CreatorId, ...] = ()
    blocked: tuple[CreatorId, ...] = ()
    creators: tuple[Tally, ...] = ()
    tags: tuple[Tally, ...] = ()


class Observed(msgspec.Struct, frozen=True):
    """What features need of a person's pace; a newcomer has the typical values.

    Attributes:
        evidence: decayed count of answered cards, at least 0.
        session_evidence: the same of this session.
        swipe_speed: cards a minute of watching, above 0, at most 60.
        play_rate: share of valid plays, in (0, 1), shrunk to the typical.
        session_play_rate: the same of this session, shrunk to `play_rate`.
    """

    evidence: float
    session_evidence: float
    swipe_speed: float
    play_rate: float
    session_play_rate: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserState)


def newcomer(profile: Profile) -> UserState:
    """Return the state of a person of whom nothing but a profile is known."""
    return UserState(profile)


def encode_state(state: UserState) -> bytes:
    """Return a state as it stands in a database row: 12 KB of a busy person, 15 at the most.

    The most holds for names of creators and tags of about ten letters, a profile not counted.
    """
    return _encoder.encode(state)


def decode_state(data: bytes) -> UserState:
    """Return the state of a row.

    Raises:
        msgspec.DecodeError: the bytes are no state.
    """
    return _decoder.decode(data)


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


def observed(state: UserState) -> Observed:
    """Return a person's evidence and rates, shrunk where there is little."""
    play_rate = _rate(state.plays, state.evidence, TYPICAL_PLAY_RATE)
    weight = state.evidence + RATE_PRIOR
    mean_dwell_s = (state.dwell_s + RATE_PRIOR * TYPICAL_DWELL_S) / weight
    return Observed(
        evidence=state.evidence,
        session_evidence=state.session_evidence,
        swipe_speed=60.0 / max(mean_dwell_s, 1.0),
        play_rate=play_rate,
        session_play_rate=_rate(state.session_plays, state.session_evidence, play_rate),
    )


def long_interest(state: UserState) -> Float32s:
    """Return the long-term interest, shape (VECTOR_DIM,), at most of unit length.

    It is the mean of signal x vector over answered cards, shrunk to 0 where there are few.
    """
    return read_interest(state.long_sum, state.evidence + LONG_PRIOR)


def session_interest(state: UserState) -> Float32s:
    """Return the same of this session alone, shape (VECTOR_DIM,), 0 at its beginning."""
    return read_interest(state.session_sum, state.session_evidence + SESSION_PRIOR)


def was_seen(state: UserState, keys: Keys) -> Bools:
    """Return, for item keys of shape (n,), whether each is among the last `MAX_SEEN` seen."""
    return _among(keys.astype(np.uint32), np.frombuffer(state.seen, dtype="<u4"))


def was_delivered(state: UserState, keys: Keys, now_ms: int) -> Bools:
    """Return, for item keys of shape (n,), whether each is on a page that is still open."""
    delivered = np.fromiter(delivered_keys(state.pages, now_ms), dtype=np.uint64)
    return _among(keys, delivered)


def followed(state: UserState) -> frozenset[CreatorId]:
    """Return the creators that this person follows, by registration or by feedback."""
    return frozenset(state.profile.follows).difference(state.blocked).union(state.follows)


def live_session(state: UserState, now_ms: int) -> SessionId | None:
    """Return the session that is still under way, None where the next page begins another."""
    silent = now_ms - state.last_ms > SESSION_SILENCE_MS
    return None if silent or not state.session else state.session


def _among(keys: npt.NDArray[Key], known: npt.NDArray[Key]) -> Bools:
    """Return whether each key is known, in a fifth of the time of `np.isin` on a page's few."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    known = np.sort(known)
    found: Bools = known[np.minimum(known.searchsorted(keys), len(known) - 1)] == keys
    return found


def _register(state: UserState | None, record: UserRecord) -> UserState | None:
    if record.profile is None:
        return None
    if state is None:
        return newcomer(record.profile)
    return msgspec.structs.replace(state, profile=record.profile)


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
    state = _move(state, place, hear(card, record.kind, record.value, _usual_watch(state)))
    return _choose_creator(state, card.creator, record.kind)


def _show(state: UserState, decision: DecisionId) -> UserState:
    """What comes on screen ends the card before it: if nothing was said of it, it was skipped."""
    before = find_card(state.pages, state.current)
    if before is not None:
        card = state.pages[before[0]].cards[before[1]]
        if not card.answered:
            state = _move(state, before, hear(card, "leave", 0.0, _usual_watch(state)))
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


def _usual_watch(state: UserState) -> float:
    return _rate(state.watch, state.evidence, TYPICAL_WATCH)


def _rate(count: float, n: float, typical: float) -> float:
    """Late reports come undecayed, so a count may exceed what it is a share of."""
    return (min(count, n) + RATE_PRIOR * typical) / (n + RATE_PRIOR)
