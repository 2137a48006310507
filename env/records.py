"""What a line of the event log is: pages, feedback, items, users, and ticks of the clock.

Everything that nextswipe knows is a fold of these records, so each is complete in itself: a page
carries its features as they were (not a way to compute them again), its slot rules and the exact
probabilities; a user is named by a pseudonym everywhere but in `UserRecord.user_id`, so that
forgetting a user overwrites one field and every fold stays as it was.

A page of 100 candidates takes about 7 KB: half of it ids, the rest float16 columns. The static
block of a candidate stands in the log once, in its `ItemRecord`, and is referred to by content
hash; the drawn cards carry theirs, so that profiles and the join need no second source.

Records hold numbers, strings and each other, never a cycle, so those that come in thousands are
left alone by the garbage collector (`gc=False`), which would look at each of them several times.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np

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

FORMAT_VERSION = 1

FeedbackKind = Literal[
    "impression",
    "dwell",
    "like",
    "comment",
    "share",
    "follow",
    "not_interested",
    "product_click",
    "leave",
]

FEEDBACK_KINDS: tuple[str, ...] = get_args(FeedbackKind)

Kind = Literal["page", "feedback", "item", "user", "block", "tick"]
"""What a line of the log is about: the tag of its record."""


class Card(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a shown item was at the time: all that folds need of it.

    Attributes:
        block: the item's static feature block, float16 bytes.
        duration_s: 0 where unknown.
        sound: id of the music; empty where unknown.
        bait: `Item.bait`; None where unknown.
    """

    item_id: ItemId
    block: bytes
    creator: CreatorId = CreatorId("")
    tags: tuple[str, ...] = ()
    duration_s: float = 0.0
    sound: str = ""
    bait: float | None = None


class Drawn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision of a page: its slot, the candidate's index, and the exact probability."""

    slot: int
    action: int
    propensity: float


class RuleRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A SlotRule with its masks as packed bits."""

    name: str
    mask: bytes
    eligible: bytes


class PageRecord(msgspec.Struct, frozen=True, tag="page", tag_field="t", omit_defaults=True):
    """A page as it was drawn.

    Attributes:
        at_ms: the server's time.
        blocks: 8 bytes a candidate, content hash of its static block (`block_hash`).
        dynamic: float16, (n, N_DYNAMIC) row by row.
        shared: float16, (N_SHARED,).
        feature_schema: `env.columns.schema.SCHEMA` under which they were encoded.
        rules: the distinct slot rules.
        slots: for each slot the index of its rule.
        drawn: the decisions, in slot order.
        cards: what each drawn item was, in the same order.
        reasons: for each drawn card the retrieval source that proposed it.
        policy: `name@version`.
        explorer: arguments of the explorer.
        eps: the exploration floor.
        arm: of the experiment; empty without one.
        degraded: why the page is less than asked for; empty if it is not.
        removed: by reason, how many of the retrieved items the filters took away.
    """

    page_id: PageId
    at_ms: int
    user: UserKey
    session: SessionId
    scene: Scene
    candidates: tuple[ItemId, ...]
    blocks: bytes
    dynamic: bytes
    shared: bytes
    feature_schema: int
    rules: tuple[RuleRecord, ...]
    slots: tuple[int, ...]
    drawn: tuple[Drawn, ...]
    cards: tuple[Card, ...]
    reasons: tuple[str, ...]
    policy: str
    explorer: dict[str, object]
    eps: float
    arm: str = ""
    degraded: str = ""
    removed: dict[str, int] = {}


class FeedbackRecord(
    msgspec.Struct, frozen=True, tag="feedback", tag_field="t", omit_defaults=True, gc=False
):
    """One event that a client reported about one decision.

    Attributes:
        event_id: a keyed hash of the client's; it makes the event idempotent within its page.
        at_ms: the server's receive time; it rules.
        client_ms: the client's time; kept, not trusted.
        value: seconds for "dwell", 0 for all else.
    """

    event_id: str
    decision_id: DecisionId
    at_ms: int
    user: UserKey
    session: SessionId
    kind: FeedbackKind
    value: float = 0.0
    client_ms: int = 0


class ItemRecord(msgspec.Struct, frozen=True, tag="item", tag_field="t", omit_defaults=True):
    """An upload, a change or (item None) a takedown for good.

    Attributes:
        debut: the item is new to the public, so it is owed its first audience and starts in the
            first pool; what was around before it came here is not.
    """

    item_id: ItemId
    at_ms: int
    item: Item | None = None
    block: bytes = b""
    debut: bool = False


class UserRecord(msgspec.Struct, frozen=True, tag="user", tag_field="t", omit_defaults=True):
    """A registration, a change of profile or (profile None) the forgetting of a user.

    Attributes:
        user_id: the caller's id; empty once the user is forgotten.
    """

    user: UserKey
    at_ms: int
    user_id: UserId = UserId("")
    profile: Profile | None = None


class BlockRecord(msgspec.Struct, frozen=True, tag="block", tag_field="t", omit_defaults=True):
    """A user wants nothing more of these creators and tags, or (wanted) takes that back."""

    user: UserKey
    at_ms: int
    creators: tuple[CreatorId, ...] = ()
    tags: tuple[str, ...] = ()
    wanted: bool = False


class TickRecord(msgspec.Struct, frozen=True, tag="tick", tag_field="t"):
    """Time passed and nothing else: it lets the join close what it waits for in a quiet log."""

    at_ms: int


Record = PageRecord | FeedbackRecord | ItemRecord | UserRecord | BlockRecord | TickRecord

_encoder = msgspec.msgpack.Encoder()

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record with its place in the log.

    `written_ms` is the wall clock at the commit: for measuring, and part of no fold.
    """

    offset: int
    record: Record
    written_ms: int = 0


def encode_record(record: Record) -> bytes:
    """Return the record's msgpack payload."""
    return _encoder.encode(record)


def decode_record(payload: bytes) -> Record:
    """Return the record of a payload.

    Raises:
        msgspec.ValidationError: the payload is not a record of this format.
        msgspec.DecodeError: the payload is not msgpack.
    """
    return _decoder.decode(payload)


def record_key(record: Record) -> str:
    """Return the id by which a record is idempotent; empty: every append counts."""
    match record:
        case PageRecord():
            return f"p/{record.page_id}"
        case FeedbackRecord():
            page_id, _, _ = record.decision_id.rpartition(":")
            return f"f/{page_id}/{record.event_id}"
        case _:
            return ""


def block_hash(block: bytes) -> bytes:
    """Return the 8-byte content hash by which pages refer to a static block."""
    return hashlib.blake2b(block, digest_size=8).digest()


def item_key(item_id: str) -> int:
    """Return the 64-bit key under which policies remember an item."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def pack_halves(values: Float32s) -> bytes:
    """Return quantised features as float16 bytes; exact, since they were quantised before."""
    return values.astype("<f2").tobytes()


def unpack_halves(data: bytes) -> Float32s:
    """Return float16 bytes as flat float32, the inverse of `pack_halves`."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)
