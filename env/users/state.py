"""What the log says about a user, and how it is read: interests, pace, what they saw.

`env.users.fold` moves a state, and nothing else does. Interests are decayed sums of signal x
content vector. A state is a row without names, so a new field goes last and has a default: rows
that were written before it are read as they are.

Rejected: a learned user embedding (cannot move with each swipe and be folded again), full 64-bit
keys in the ring of seen items (twice the bytes of a row that is rewritten with each event; with
32 bits one unseen item in four million is taken for a seen one).
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np

from env.arrays.reals import Reals
from env.columns.scales import GAP_DECAY, TYPICAL_WATCH, shrink_rate
from env.columns.schema import N_APPS, bucket_of
from env.items.content import tags_vector
from env.users.interests import DIRECTIONS, NO_INTEREST, RIDGE, Tally, add_interest, read_interest
from env.users.open_cards import OpenPage, is_open
from env.vocabulary import CreatorId, DecisionId, Float32s, Profile, SessionId, ShortKeys

SESSION_SILENCE_MS = 30 * 60_000

DAY_MS = 24 * 3_600_000

MAX_SEEN = 1000

PRIOR_CARDS = 8.0  # that speak for a newcomer before any is answered

DECLARED_SIGNAL = 0.5  # of each of these cards, for the tags of the registration

SCENE_SIGNAL = 0.25  # of each of these cards, for what users of the same scene play

PACE_DWELL_S = 60.0
"""Longer dwells say no more about a user's pace."""


class UserState(msgspec.Struct, frozen=True, array_like=True):
    """A user as the log knows them.

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
            by `seen_keys`.
        pages: delivered pages that feedback may still come for, oldest first; see
            `delivered_keys`.
        follows: creators followed by feedback, oldest first; `followed` adds the profile's.
        blocked: creators of whom the user said, by a `BlockRecord`, that nothing more is wanted,
            oldest first; `blocked_creators` adds those that are avoided. In rows of before there
            was `avoided` it holds both, so that nothing that was blocked comes back.
        creators: recent creators, the latest last; read them by
            `env.users.interests.tallies`.
        tags: recent tags, folded, the latest last.
        declared: where the tags of the registration stand, `env.items.content.tags_vector`, float16
            bytes; empty: nowhere.
        apps: the installed-app context of the registration, `hash_apps`, float16 bytes; empty: 0.
        sounds: recent sounds, the latest last.
        blocked_tags: tags of which the same was said, folded, oldest first.
        doubted: creators of one card that was not of interest, oldest first; the second one has
            them avoided.
        unwanted: ring of the last items that were not of interest, as `seen`; read it by
            `unwanted_keys`.
        avoided: creators of two cards that were not of interest, oldest first; none is `blocked`.
        n_returns: how often they came back, after a silence of `SESSION_SILENCE_MS`.
        last_gap: ln(1 + days) of the last such silence; 0 before the first.
        gap_sum: decayed sum of these; read it by `env.columns.scales.observed`.
        session_watched_s: seconds that the answered cards of the session were on screen.
        bait_lately: running mean of the shown cards' bait, from `env.columns.scales.MEAN_BAIT` on.
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
    declared: bytes = b""
    apps: bytes = b""
    sounds: tuple[Tally, ...] = ()
    blocked_tags: tuple[str, ...] = ()
    doubted: tuple[CreatorId, ...] = ()
    unwanted: bytes = b""
    avoided: tuple[CreatorId, ...] = ()
    n_returns: int = 0
    last_gap: float = 0.0
    gap_sum: float = 0.0
    session_watched_s: float = 0.0
    bait_lately: float = 0.0


_encoder = msgspec.msgpack.Encoder()

_decoder = msgspec.msgpack.Decoder(UserState)


def newcomer(profile: Profile) -> UserState:
    """Return the state of a user of whom nothing but a profile is known."""
    return register(UserState(profile), profile)


def register(state: UserState, profile: Profile) -> UserState:
    """Return the state with another profile, analysed."""
    return msgspec.structs.replace(
        state,
        profile=profile,
        declared=_halves(tags_vector(profile.tags)) if profile.tags else b"",
        apps=_halves(hash_apps(profile.apps)) if profile.apps else b"",
    )


def hash_apps(apps: Iterable[str]) -> Float32s:
    """Return how many of the installed apps fall into each of N_APPS buckets, at unit length.

    The names are the caller's own words, so there is no list of them: a name's bucket is that of
    its hash (feature hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask
    Learning", ICML 2009, without signs, as there are few). Shape (N_APPS,); zero without apps.
    """
    names = {app.strip().casefold() for app in apps} - {""}
    buckets = np.array([bucket_of("app", name, N_APPS) for name in names], dtype=np.int64)
    counts = np.bincount(buckets, minlength=N_APPS)
    return np.asarray(counts / max(math.sqrt(float(np.sum(counts**2))), 1.0), dtype=np.float32)


def encode_state(state: UserState) -> bytes:
    """Return a state as it stands in a database row: 14 KB of a busy user, 41 at the most.

    The most holds for names of creators, tags and sounds of about ten letters, a profile not
    counted; it is that of a user who has blocked as much as is kept, 1,000 creators and as many
    tags, which is 23 KB of it. Names stand in the row, and not short keys of them, since a user
    can ask what they have blocked.
    """
    return _encoder.encode(state)


def decode_state(data: bytes) -> UserState:
    """Return the state of a row.

    Raises:
        msgspec.DecodeError: the bytes are no state.
    """
    return _decoder.decode(data)


def come_back(state: UserState, at_ms: int) -> UserState:
    """Return the state with the gap counted where a user comes back at this time, else as it is.

    A page of a new session is asked for before the fold hears of it, so features count the gap
    themselves; a session that begins without a silence before it is no return.
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
    """Return the long-term interest as expected signals, shape (VECTOR_DIM,).

    With t the vector of the registration's tags, p that of what users of the same scene play, s
    the decayed sum of signal x vector and n the evidence, it is

        (s + PRIOR_CARDS * (DECLARED_SIGNAL * t + SCENE_SIGNAL * p)) / (RIDGE + n / DIRECTIONS)

    So both speak from the first page on, the user's own words louder than their neighbours',
    and the user's own answers outgrow them: what eight cards said in one direction weighs as
    much. How strongly they speak does not hang on how answers are shrunk.

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
    """Return the same of this session alone, shape (VECTOR_DIM,), 0 at its beginning."""
    return read_interest(state.session_sum, state.session_evidence)


def scene_interest(state: UserState, prior: Float32s) -> Float32s:
    """Return what users of a scene play as far as it still speaks for one, shape (VECTOR_DIM,).

    It fades as a prior mean does: half of it is left after `RIDGE` x `DIRECTIONS` answers.

    Args:
        state: of the user.
        prior: `env.items.popularity.Popularity.interest` of the scene.
    """
    return prior * np.float32(scene_weight(state.evidence))


def scene_weight(evidence: Reals) -> Reals:
    """Return how far what a scene plays still speaks where there is this evidence, in (0, 1]."""
    return RIDGE / (RIDGE + evidence / DIRECTIONS)


def usual_watch(state: UserState) -> float:
    """Return what this user's watching is by now, in [0, 1], shrunk to the typical."""
    return float(shrink_rate(state.watch, state.evidence, TYPICAL_WATCH))


def seen_keys(state: UserState) -> ShortKeys:
    """Return what is known of the keys of the last `MAX_SEEN` items seen, oldest first."""
    return np.frombuffer(state.seen, dtype="<u4")


def unwanted_keys(state: UserState) -> ShortKeys:
    """Return the same of the last items that were not of interest, oldest first."""
    return np.frombuffer(state.unwanted, dtype="<u4")


def delivered_keys(state: UserState, now_ms: int) -> ShortKeys:
    """Return the same of the items on pages that are still open."""
    pages = (page for page in state.pages if is_open(page, now_ms))
    keys = [card.key for page in pages for card in page.cards]
    return np.array(keys, dtype=np.uint64).astype(np.uint32)


def blocked_creators(state: UserState) -> tuple[CreatorId, ...]:
    """Return of whom nothing is shown: whom this user blocked, then whom their answers did."""
    return (*state.blocked, *state.avoided)


def followed(state: UserState) -> frozenset[CreatorId]:
    """Return the creators that this user follows, by registration or by feedback."""
    declared = frozenset(state.profile.follows).difference(blocked_creators(state))
    return declared.union(state.follows)


def live_session(state: UserState, now_ms: int) -> SessionId | None:
    """Return the session that is still under way, None where the next page begins another."""
    silent = now_ms - state.last_ms > SESSION_SILENCE_MS
    return None if silent or not state.session else state.session


def _halves(values: Float32s) -> bytes:
    return values.astype("<f2").tobytes()
