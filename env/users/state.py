"""The state of a user, derived from the log, and the functions that read it.

Only `env.users.fold` changes a state. It is stored as a row without field names, so a new field
goes last and has a default. Interests, gaps and seen items are read through the functions here.
Sizes and rejected alternatives: `docs/decisions/user-state.md`.
"""

import math

import msgspec
import numpy as np

from env.arrays.reals import Reals
from env.columns.scales import GAP_DECAY, TYPICAL_WATCH, shrink_rate
from env.items.content import tags_vector
from env.users.interests import DIRECTIONS, NO_INTEREST, RIDGE, Tally, add_interest, read_interest
from env.users.open_cards import OpenPage, is_open
from env.users.seen import SeenSet
from env.users.topics import Answers
from env.vocabulary import CreatorId, DecisionId, Float32s, Profile, SessionId, ShortKeys

SESSION_SILENCE_MS = 30 * 60_000
DAY_MS = 24 * 3_600_000
PRIOR_CARDS = 8.0  # weight of a newcomer's prior interest, in answered cards
DECLARED_SIGNAL = 0.5  # signal of each such card for the tags of the registration
SCENE_SIGNAL = 0.25  # signal of each such card for the content that the scene's users play
PACE_DWELL_S = 60.0
"""Longer dwells carry no more information about a user's pace."""


class UserState(msgspec.Struct, frozen=True, array_like=True):
    """A user's state, derived from the log."""

    profile: Profile  # of the last registration
    n_cards: int = 0  # impressions ever
    evidence: float = 0.0  # decayed count of answered cards
    plays: float = 0.0  # decayed count of valid plays among them
    watch: float = 0.0  # decayed sum of their watching, each in [0, 1]
    dwell_s: float = 0.0  # decayed sum of their dwell, each at most `PACE_DWELL_S`
    # decayed sum of signal x vector, float32 bytes; see `long_interest`
    long_sum: bytes = NO_INTEREST
    session: SessionId = SessionId("")  # id of the current or last visit
    session_ms: int = 0  # its start
    last_ms: int = 0  # time of the last event
    position: int = 0  # cards seen in the session
    session_evidence: float = 0.0  # decayed count of answered cards of the session
    session_plays: float = 0.0  # decayed count of valid plays among them
    session_sum: bytes = NO_INTEREST  # as `long_sum`, of the session; see `session_interest`
    current: DecisionId = DecisionId("")  # decision of the current impression, as far as is known
    # ring of the latest items seen, low 32 bits of keys, oldest first; see `seen_keys`
    seen: bytes = b""
    # delivered pages that may still receive feedback, oldest first; see `delivered_keys`
    pages: tuple[OpenPage, ...] = ()
    # creators followed by feedback, oldest first; `followed` adds the profile's
    follows: tuple[CreatorId, ...] = ()
    # creators blocked by a `BlockRecord`, oldest first; `blocked_creators` adds `avoided`. Rows
    # written before `avoided` existed hold both here.
    blocked: tuple[CreatorId, ...] = ()
    # recent creators, the latest last; see `env.users.interests.tally_columns`
    creators: tuple[Tally, ...] = ()
    tags: tuple[Tally, ...] = ()  # recent tags, folded, the latest last
    declared: bytes = b""  # vector of the profile's tags, float16 bytes; empty without tags
    apps: bytes = b""  # rows of earlier releases: hashed apps, which nothing reads any more
    sounds: tuple[Tally, ...] = ()  # recent sounds, the latest last
    blocked_tags: tuple[str, ...] = ()  # tags blocked by a `BlockRecord`, folded, oldest first
    # creators of one "not interested" card, oldest first; a second avoids them
    doubted: tuple[CreatorId, ...] = ()
    unwanted: bytes = b""  # ring of the last "not interested" items, as `seen`; see `unwanted_keys`
    # creators of two "not interested" cards, oldest first; none is in `blocked`
    avoided: tuple[CreatorId, ...] = ()
    n_returns: int = 0  # number of returns after a silence of `SESSION_SILENCE_MS`
    last_gap: float = 0.0  # ln(1 + days) of the last such silence; 0 before the first
    gap_sum: float = 0.0  # decayed sum of these; see `env.columns.scales.observed`
    session_watched_s: float = 0.0  # seconds that the session's answered cards were on screen
    # running mean of the shown cards' bait, minus `env.columns.scales.MEAN_BAIT`
    bait_lately: float = 0.0
    seen_sets: tuple[SeenSet, ...] = ()  # all items seen before those in `seen`, oldest first
    # languages of recent cards, the latest last; the signal of each is its count of valid plays
    languages: tuple[Tally, ...] = ()
    # latest answers by topic, oldest first; see `env.users.topics.topic_posterior`
    topic_answers: Answers = ()
    # ring of the last answered items with the answers' values, oldest first; see
    # `env.users.answers`
    answers: bytes = b""
    # creators of the profile's follows that are followed no longer, oldest first
    unfollowed: tuple[CreatorId, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserState)


def newcomer(profile: Profile) -> UserState:
    """Return the state of a user with a profile and no history."""
    return register(UserState(profile), profile)


def register(state: UserState, profile: Profile) -> UserState:
    """Return the state with a new profile and the columns derived from it."""
    return msgspec.structs.replace(
        state,
        profile=profile,
        unfollowed=() if profile.follows != state.profile.follows else state.unfollowed,
        declared=_halves(tags_vector(profile.tags)) if profile.tags else b"",
        apps=b"",
    )


def encode_state(state: UserState) -> bytes:
    """Return a state as a database row.

    It takes 15 KB for a busy user, 70 KB at the most, and 2 KB for each 1,000 cards ever seen.

    The largest state is that of a user with 1,000 blocked creators and as many blocked tags.
    """
    return _encoder.encode(state)


def decode_state(data: bytes) -> UserState:
    """Return the state of a row.

    Raises:
        msgspec.DecodeError: the bytes are no state.
    """
    return _decoder.decode(data)


def come_back(state: UserState, at_ms: int) -> UserState:
    """Return the state with the gap counted if this time is a return, else unchanged.

    A page of a new session is requested before the fold sees it, so features count the gap
    themselves. A session that begins without a silence before it is no return.
    """
    silence_ms = at_ms - state.last_ms
    if state.last_ms == 0 or silence_ms <= SESSION_SILENCE_MS:
        return state
    gap = math.log1p(silence_ms / DAY_MS)
    return msgspec.structs.replace(
        state,
        n_returns=state.n_returns + 1,
        last_gap=gap,
        gap_sum=state.gap_sum * GAP_DECAY + gap,
    )


def long_interest(
    state: UserState, *, with_declared: bool = True, prior: Float32s | None = None
) -> Float32s:
    """Return the long-term interest, shape (d,), see `env.users.interests`.

    With t the vector of the profile's tags, p the interest of the scene's users, s the decayed sum
    of signal x vector and n the evidence, it is

        (s + PRIOR_CARDS * (DECLARED_SIGNAL * t + SCENE_SIGNAL * p)) / (RIDGE + n / DIRECTIONS)

    So both priors apply from the first page on, and the user's own answers outgrow them.

    Args:
        state: of the user.
        with_declared: whether the items' vectors are made of tags; else t counts as 0.
        prior: `env.items.popularity.Popularity.interest` of the scene; None counts as 0.
    """
    total = state.long_sum
    if with_declared and state.declared:
        total = add_interest(total, 1.0, PRIOR_CARDS * DECLARED_SIGNAL, state.declared)
    if prior is not None:
        total = add_interest(total, 1.0, PRIOR_CARDS * SCENE_SIGNAL, _halves(prior))
    return read_interest(total, state.evidence)


def session_interest(state: UserState) -> Float32s:
    """Return the interest of this session alone, as `long_interest`; 0 at its beginning."""
    return read_interest(state.session_sum, state.session_evidence)


def scene_interest(state: UserState, prior: Float32s) -> Float32s:
    """Return the interest of the scene's users, shape (d,), faded by this user's own evidence.

    Half of it is left after `RIDGE` x `DIRECTIONS` answers, as of a prior mean.
    """
    return prior * np.float32(scene_weight(state.evidence))


def scene_weight(evidence: Reals) -> Reals:
    """Return the weight of the scene's interest at this evidence, in (0, 1]."""
    return RIDGE / (RIDGE + evidence / DIRECTIONS)


def usual_watch(state: UserState) -> float:
    """Return the user's usual watching, in [0, 1], shrunk to the typical."""
    return float(shrink_rate(state.watch, state.evidence, TYPICAL_WATCH))


def seen_keys(state: UserState) -> ShortKeys:
    """Return the short keys of the latest items seen, oldest first; older ones are in sets."""
    return np.frombuffer(state.seen, dtype="<u4")


def unwanted_keys(state: UserState) -> ShortKeys:
    """Return the short keys of the last "not interested" items, oldest first."""
    return np.frombuffer(state.unwanted, dtype="<u4")


def delivered_keys(state: UserState, now_ms: int) -> ShortKeys:
    """Return the short keys of the items on pages that are still open."""
    pages = (page for page in state.pages if is_open(page, now_ms))
    keys = [card.key for page in pages for card in page.cards]
    return np.array(keys, dtype=np.uint64).astype(np.uint32)


def blocked_creators(state: UserState) -> tuple[CreatorId, ...]:
    """Return the creators not to be shown: blocked ones, then avoided ones."""
    return (*state.blocked, *state.avoided)


def followed(state: UserState) -> frozenset[CreatorId]:
    """Return the creators that this user follows, by registration or by feedback."""
    gone = (*blocked_creators(state), *state.unfollowed)
    return frozenset(state.profile.follows).difference(gone).union(state.follows)


def live_session(state: UserState, now_ms: int) -> SessionId | None:
    """Return the current session, None if the next page begins another."""
    silent = now_ms - state.last_ms > SESSION_SILENCE_MS
    return None if silent or not state.session else state.session


def _halves(values: Float32s) -> bytes:
    return values.astype("<f2").tobytes()
