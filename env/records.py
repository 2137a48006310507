"""What a line of the event log is: pages, feedback, items, people, and ticks of the clock.

Everything that nextswipe knows is a fold of these records, so each is complete in itself: a page
carries its features as they were (not a way to compute them again), its slot rules and the exact
probabilities; a person is named by a pseudonym everywhere but in `UserRecord.user_id`, so that
forgetting somebody overwrites one field and every fold stays as it was.

A page of 100 candidates takes about 6 KB: half of it ids, the rest float16 columns. The static
block of a candidate stands in the log once, in its `ItemRecord`, and is referred to by content
hash; the drawn cards carry theirs, so that profiles and the join need no second source.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np

from env.vocabulary import (
    Bools,
    Context,
    CreatorId,
    Decision,
    DecisionId,
    Features,
    Float32s,
    Item,
    ItemId,
    Keys,
    Page,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserId,
    UserKey,
    decision_id,
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


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a shown item was at the time: all that folds need of it.

    Attributes:
        block: the item's static feature block, float16 bytes.
        duration_s: 0 where unknown.
    """

    item_id: ItemId
    block: bytes
    creator: CreatorId = CreatorId("")
    tags: tuple[str, ...] = ()
    duration_s: float = 0.0


class Drawn(msgspec.Struct, frozen=True, array_like=True):
    """One decision of a page: its slot, the candidate's index, and the exact probability."""

    slot: int
    action: int
    propensity: float


class RuleRecord(msgspec.Struct, frozen=True, array_like=True):
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
        feature_schema: `env.features.SCHEMA` under which they were encoded.
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


class FeedbackRecord(
    msgspec.Struct, frozen=True, tag="feedback", tag_field="t", omit_defaults=True
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
    """An upload, a change or (item None) a takedown for good."""

    item_id: ItemId
    at_ms: int
    item: Item | None = None
    block: bytes = b""


class UserRecord(msgspec.Struct, frozen=True, tag="user", tag_field="t", omit_defaults=True):
    """A registration, a change of profile or (profile None) the forgetting of a person.

    Attributes:
        user_id: the caller's id; empty once the person is forgotten.
    """

    user: UserKey
    at_ms: int
    user_id: UserId = UserId("")
    profile: Profile | None = None


class TickRecord(msgspec.Struct, frozen=True, tag="tick", tag_field="t"):
    """Time passed and nothing else: it lets the join close what it waits for in a quiet log."""

    at_ms: int


Record = PageRecord | FeedbackRecord | ItemRecord | UserRecord | TickRecord

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


def page_record(
    page: Page,
    *,
    blocks: bytes,
    n_static: int,
    feature_schema: int,
    cards: tuple[Card, ...],
    reasons: tuple[str, ...],
    arm: str = "",
    degraded: str = "",
) -> PageRecord:
    """Return the log record of a page; `Blocks.page` is its inverse.

    Args:
        page: as `fill_page` returned it; holds at least one decision.
        blocks: content hashes of the candidates' static blocks, 8 bytes each.
        n_static: width of a static block; the columns after it are dynamic.
        feature_schema: of the features.
        cards: what each drawn item was, in slot order.
        reasons: why each drawn item was a candidate, in slot order.
        arm: of the experiment.
        degraded: why the page is less than asked for.
    """
    context = page.context
    rules, slots = _distinct_rules(page.slots)
    return PageRecord(
        page_id=context.page_id,
        at_ms=context.scene.at_ms,
        user=context.user,
        session=context.session,
        scene=context.scene,
        candidates=context.candidates,
        blocks=blocks,
        dynamic=pack_halves(context.features.actions[:, n_static:]),
        shared=pack_halves(context.features.shared),
        feature_schema=feature_schema,
        rules=rules,
        slots=slots,
        drawn=tuple(Drawn(d.slot, d.action, d.propensity) for d in page.decisions),
        cards=cards,
        reasons=reasons,
        policy=page.decisions[0].policy,
        explorer=page.explorer,
        eps=page.eps,
        arm=arm,
        degraded=degraded,
    )


class Blocks:
    """The static blocks that items had, by content hash: a fold of the log's `ItemRecord`s."""

    def __init__(self) -> None:
        """Start empty, as before the first record."""
        self._blocks: dict[bytes, Float32s] = {}

    def fold(self, record: Record) -> None:
        """Remember the block of an item record; other records change nothing."""
        if isinstance(record, ItemRecord) and record.block:
            self.add(record.block)

    def add(self, block: bytes) -> None:
        """Remember a static block, float16 bytes."""
        self._blocks.setdefault(block_hash(block), unpack_halves(block))

    def __contains__(self, content_hash: bytes) -> bool:
        return content_hash in self._blocks

    def block(self, content_hash: bytes) -> bytes:
        """Return the static block of a content hash, float16 bytes.

        Raises:
            KeyError: it was never added.
        """
        return pack_halves(self._blocks[content_hash])

    def page(self, record: PageRecord) -> Page:
        """Return the page that a record was made of, equal to the last bit.

        Raises:
            KeyError: a candidate's block is not in the part of the log that was folded.
        """
        n = len(record.candidates)
        hashes = (record.blocks[8 * i : 8 * i + 8] for i in range(n))
        static = np.stack([self._blocks[h] for h in hashes])
        dynamic = unpack_halves(record.dynamic).reshape(n, -1)
        features = Features(
            shared=unpack_halves(record.shared),
            actions=np.concatenate([static, dynamic], axis=1),
            keys=_keys(record.candidates),
        )
        context = Context(
            page_id=record.page_id,
            user=record.user,
            session=record.session,
            scene=record.scene,
            candidates=record.candidates,
            features=features,
        )
        rules = [_rule(rule, n) for rule in record.rules]
        slots = tuple(rules[i] for i in record.slots)
        return Page(context, slots, decisions_of(record), record.eps, record.explorer)


def decisions_of(record: PageRecord) -> tuple[Decision, ...]:
    """Return the decisions of a logged page."""
    return tuple(
        Decision(
            decision_id=decision_id(record.page_id, drawn.slot),
            slot=drawn.slot,
            action=drawn.action,
            item_id=record.candidates[drawn.action],
            propensity=drawn.propensity,
            policy=record.policy,
        )
        for drawn in record.drawn
    )


def _keys(candidates: tuple[ItemId, ...]) -> Keys:
    return np.array([item_key(item_id) for item_id in candidates], dtype=np.uint64)


def _pack_bits(mask: Bools) -> bytes:
    return np.packbits(mask, bitorder="little").tobytes()


def _rule(record: RuleRecord, n: int) -> SlotRule:
    def unpack(data: bytes) -> Bools:
        bits = np.frombuffer(data, dtype=np.uint8)
        return np.unpackbits(bits, count=n, bitorder="little").astype(np.bool_)

    return SlotRule(unpack(record.mask), unpack(record.eligible), record.name)


def _distinct_rules(
    slots: tuple[SlotRule, ...],
) -> tuple[tuple[RuleRecord, ...], tuple[int, ...]]:
    by_identity: dict[int, int] = {}
    rules: list[RuleRecord] = []
    for rule in slots:
        if id(rule) not in by_identity:
            by_identity[id(rule)] = len(rules)
            rules.append(RuleRecord(rule.name, _pack_bits(rule.mask), _pack_bits(rule.eligible)))
    return tuple(rules), tuple(by_identity[id(rule)] for rule in slots)
