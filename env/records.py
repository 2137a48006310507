"""The records of the event log: pages, feedback, items, users, imported history, clock ticks.

All state is a fold of these records, so each is complete in itself: a page carries its features,
slot rules and exact probabilities. Users appear by pseudonym except in `UserRecord.user_id`, so
that forgetting a user overwrites one field. Sizes and design: `docs/decisions/event-records.md`.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

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

FeedbackKind = str
"""Name of a signal: a row of `env.feedback.ROWS`, or one of the settings of its time."""

Kind = Literal["page", "feedback", "item", "projection", "user", "block", "history", "tick"]
"""Kind of a log line: the tag of its record."""


class Card(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Description of a shown item at the time: all that folds need of it."""

    item_id: ItemId
    block: bytes  # the item's, see `ItemRecord.block`
    creator: CreatorId = CreatorId("")
    tags: tuple[str, ...] = ()
    duration_s: float = 0.0  # 0 where unknown
    sound: str = ""  # id of the music; empty where unknown
    bait: float | None = None  # `Item.bait`; None where unknown
    language: str = ""  # lower-case, without its region; empty where unknown or without words


class Drawn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision of a page: slot, index of the candidate, exact probability."""

    slot: int
    action: int
    propensity: float


class RuleRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A SlotRule with its masks as packed bits."""

    name: str
    mask: bytes
    eligible: bytes


class PageRecord(msgspec.Struct, frozen=True, tag="page", tag_field="t", omit_defaults=True):
    """A page as it was drawn."""

    page_id: PageId
    at_ms: int  # server time
    user: UserKey
    session: SessionId
    scene: Scene
    candidates: tuple[ItemId, ...]
    blocks: bytes  # content hash of each candidate's static block (`block_hash`), 8 bytes each
    dynamic: bytes  # float16, (n, N_DYNAMIC) row by row
    shared: bytes  # float16, (N_SHARED,)
    feature_schema: int  # `env.columns.schema.SCHEMA` of the features
    rules: tuple[RuleRecord, ...]  # the distinct slot rules
    slots: tuple[int, ...]  # index of each slot's rule
    drawn: tuple[Drawn, ...]  # the decisions, in slot order
    cards: tuple[Card, ...]  # description of each drawn item, in the same order
    reasons: tuple[str, ...]  # retrieval source that proposed each drawn card
    policy: str  # `name@version`
    explorer: dict[str, object]  # arguments of the explorer
    eps: float  # the exploration floor
    arm: str = ""  # of the experiment; empty without one
    degraded: str = ""  # why the page falls short of the request; empty if it does not
    removed: dict[str, int] = {}  # number of retrieved items that the filters removed, by reason
    # Number of sources that proposed each drawn card, in slot order; empty in older logs.
    proposers: tuple[int, ...] = ()


class FeedbackRecord(
    msgspec.Struct, frozen=True, tag="feedback", tag_field="t", omit_defaults=True, gc=False
):
    """One event that a client reported about one decision.

    `interest` and `undoes` are None where the signal has them as shipped, see `env.feedback`.
    """

    event_id: str  # keyed hash of the client's id; makes the event idempotent within its page
    decision_id: DecisionId
    at_ms: int  # server time of receipt, which all folds use
    user: UserKey
    session: SessionId
    kind: FeedbackKind
    value: float = 0.0  # seconds for "dwell", the number or amount of others; 0 without one
    client_ms: int = 0  # client time; kept, not trusted
    interest: float | None = None  # what the event says about interest
    undoes: FeedbackKind | None = None  # the signal that it takes back; empty: none


class ItemRecord(msgspec.Struct, frozen=True, tag="item", tag_field="t", omit_defaults=True):
    """An upload, a change or (item None) a permanent takedown.

    `debut` marks a launch: the item is new to the public, so it gets the delivery guarantee and
    starts in the first pool. Items published before they came here have none.
    """

    item_id: ItemId
    at_ms: int
    item: Item | None = None
    # Float16: the static feature block, then what its content vector has beyond those columns.
    block: bytes = b""
    debut: bool = False
    encoding: int = 0  # number of the block's encoding, see `env.items.projections`


class ProjectionRecord(
    msgspec.Struct, frozen=True, tag="projection", tag_field="t", omit_defaults=True
):
    """A learned projection of embeddings; items are encoded with it from now on, and once anew."""

    space: str  # `env.items.projections.Space`
    number: int  # one more than that of the projection before
    at_ms: int
    weights: bytes  # float16, (CONTENT_DIM, m) row by row
    n_items: int = 0  # with an embedding, when it was learned
    n_answers: int = 0  # that it was learned from


class UserRecord(msgspec.Struct, frozen=True, tag="user", tag_field="t", omit_defaults=True):
    """A registration, a change of profile or (profile None) the forgetting of a user.

    `user_id` is the caller's id; it is emptied once the user is forgotten.
    """

    user: UserKey
    at_ms: int
    user_id: UserId = UserId("")
    profile: Profile | None = None


class BlockRecord(msgspec.Struct, frozen=True, tag="block", tag_field="t", omit_defaults=True):
    """A user blocks these creators and tags, or (wanted) unblocks them."""

    user: UserKey
    at_ms: int
    creators: tuple[CreatorId, ...] = ()
    tags: tuple[str, ...] = ()
    wanted: bool = False


class PastEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One act of a user in an imported history."""

    row: int  # of the view in its `HistoryRecord`
    kind: str  # one of `env.feedback.REACTIONS`
    interest: float | None = None  # as in `FeedbackRecord`


class HistoryRecord(msgspec.Struct, frozen=True, tag="history", tag_field="t", omit_defaults=True):
    """Cards that one user saw elsewhere before, imported: views in columns, by time.

    It is no page and no decision: nobody knows with which probability its cards were drawn, so no
    policy learns from it and no estimator has a row of it. Use: `env.history`.
    """

    user: UserKey
    at_ms: int  # server time of the import
    source: str  # name of the import
    scene: Scene  # what the user's profile said of it at the import
    cards: tuple[Card, ...]  # the distinct items; one unknown to the catalogue has no block
    items: bytes  # uint16, (n,) index of each view's card
    times: bytes  # int64, (n,) Unix milliseconds, ascending
    dwells: bytes  # float32, (n,) seconds; NaN where unknown
    events: tuple[PastEvent, ...] = ()  # by row


class TickRecord(msgspec.Struct, frozen=True, tag="tick", tag_field="t", omit_defaults=True):
    """A clock tick, which lets the join close what it waits for in a quiet log.

    The learner also says by one how it learns from here on, so that every fold of the log does as
    it did.
    """

    at_ms: int
    # For how long after its page late feedback corrects a card; 0: never, None: as before.
    corrects_ms: int | None = None


Record = (
    PageRecord
    | FeedbackRecord
    | ItemRecord
    | ProjectionRecord
    | UserRecord
    | BlockRecord
    | HistoryRecord
    | TickRecord
)
CatalogueRecord = ItemRecord | ProjectionRecord
"""Records that change the catalogue."""

CATALOGUE_KINDS: tuple[Kind, ...] = ("item", "projection")

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record with its offset in the log.

    `written_ms` is the wall clock at the commit: for measurements, and part of no fold.
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
    """Return the id by which a record is idempotent; empty if every append counts."""
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
    """Return quantised features as float16 bytes, without loss."""
    return values.astype("<f2").tobytes()


def unpack_halves(data: bytes) -> Float32s:
    """Return float16 bytes as flat float32, the inverse of `pack_halves`."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)
