"""Records: what goes into the log comes back equal to the last bit."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED, N_STATIC, SCHEMA
from env.feedback import KINDS
from env.interface import fill_page, page_seed
from env.pages.records import Blocks, page_record
from env.pages.verify import audit_page
from env.records import (
    Card,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    TickRecord,
    UserRecord,
    block_hash,
    decode_record,
    encode_record,
    item_key,
    pack_halves,
    record_key,
    unpack_halves,
)
from env.vocabulary import (
    Context,
    CreatorId,
    DecisionId,
    Features,
    Float32s,
    Item,
    ItemId,
    Page,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserId,
    UserKey,
    decision_id,
    split_decision_id,
)
from policies.baselines import mixture_policy

N = 100
POLICY = mixture_policy(0.5)
SEED = page_seed(b"key", PageId("p1"))


def halves(shape: tuple[int, ...], seed: int) -> Float32s:
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype(np.float16).astype(np.float32)


STATIC = halves((N, N_STATIC), 1)
ITEMS = tuple(ItemId(f"video-{i:06d}") for i in range(N))


def page() -> Page:
    actions = np.concatenate([STATIC, halves((N, N_ACTION - N_STATIC), 2)], axis=1)
    features = Features(
        halves((N_SHARED,), 3), actions, np.array([item_key(i) for i in ITEMS], dtype=np.uint64)
    )
    context = Context(
        PageId("p1"),
        UserKey("u"),
        SessionId("s"),
        Scene(1_700_000_000_000, country="TH", language="th", hour=6, position=3),
        ITEMS,
        features,
    )
    rng = np.random.default_rng(4)
    open_slot = SlotRule(np.ones(N, dtype=np.bool_), rng.random(N) < 0.2)
    reserved = SlotRule(rng.random(N) < 0.2, rng.random(N) < 0.5, "fresh")
    rules = [open_slot] * 4 + [reserved] + [open_slot] * 4 + [reserved]
    return fill_page(context, POLICY, rules, 0.05, SEED)


PAGE = page()


def record_of(drawn: Page) -> PageRecord:
    return page_record(
        drawn,
        blocks=b"".join(block_hash(pack_halves(row)) for row in STATIC),
        n_static=N_STATIC,
        feature_schema=SCHEMA,
        cards=tuple(
            Card(d.item_id, pack_halves(STATIC[d.action]), CreatorId("c"), ("t",), 12.5)
            for d in drawn.decisions
        ),
        reasons=("popular",) * len(drawn.decisions),
        arm="treated",
        removed={"seen": 12, "creator": 3},
    )


RECORD = record_of(PAGE)
PROFILE = Profile(country="GB", follows=(CreatorId("c"),))
RECORDS: list[Record] = [
    RECORD,
    FeedbackRecord("e", DecisionId("p1:0"), 5, UserKey("u"), SessionId("s"), "dwell", 9.25, 4),
    ItemRecord(ItemId("i"), 6, Item(ItemId("i"), vector=(0.1, 0.2)), b"\x00\x3c"),
    ItemRecord(ItemId("i"), 7),
    UserRecord(UserKey("u"), 8, UserId("me"), PROFILE),
    UserRecord(UserKey("u"), 9),
    TickRecord(10),
]


def blocks() -> Blocks:
    known = Blocks()
    for item_id, row in zip(ITEMS, STATIC, strict=True):
        known.fold(ItemRecord(item_id, 0, Item(item_id), pack_halves(row)))
    return known


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_comes_back_from_its_payload(record: Record) -> None:
    payload = encode_record(record)

    assert decode_record(payload) == record
    assert encode_record(decode_record(payload)) == payload


def test_a_page_comes_back_from_the_log_to_the_last_bit() -> None:
    logged = decode_record(encode_record(RECORD))
    assert isinstance(logged, PageRecord)

    again = blocks().page(logged)

    assert again.decisions == PAGE.decisions
    assert (again.eps, again.explorer) == (PAGE.eps, PAGE.explorer)
    for name in ("page_id", "user", "session", "scene", "candidates"):
        assert getattr(again.context, name) == getattr(PAGE.context, name)
    for name in ("shared", "actions", "keys"):
        one, other = getattr(again.context.features, name), getattr(PAGE.context.features, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    for one, other in zip(again.slots, PAGE.slots, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.mask, other.mask)
        assert np.array_equal(one.eligible, other.eligible)


def test_a_page_from_the_log_passes_the_audit() -> None:
    logged = decode_record(encode_record(RECORD))
    assert isinstance(logged, PageRecord)

    assert audit_page(blocks().page(logged), POLICY, SEED) == []


def test_a_page_logged_before_removed_items_were_counted_is_read() -> None:
    fields = msgspec.msgpack.decode(encode_record(RECORD))
    assert fields.pop("removed") == {"seen": 12, "creator": 3}
    older = decode_record(msgspec.msgpack.encode(fields))
    assert older == msgspec.structs.replace(RECORD, removed={})


def test_equal_slot_rules_stand_in_the_log_once() -> None:
    assert len(RECORD.rules) == 2
    assert RECORD.slots == (0, 0, 0, 0, 1, 0, 0, 0, 0, 1)


def test_a_page_of_a_hundred_candidates_takes_about_9_kb() -> None:
    assert 8_000 < len(encode_record(RECORD)) < 9_500


def test_a_rule_whose_length_is_no_multiple_of_8_survives() -> None:
    n = 11
    context = replace(
        PAGE.context,
        candidates=ITEMS[:n],
        features=Features(
            PAGE.context.features.shared,
            PAGE.context.features.actions[:n],
            PAGE.context.features.keys[:n],
        ),
    )
    mask = np.arange(n) % 3 == 0
    drawn = fill_page(context, POLICY, [SlotRule(mask, ~mask)] * 4, 0.1, 1)
    record = msgspec.structs.replace(record_of(drawn), blocks=RECORD.blocks[: 8 * n])

    again = blocks().page(record)

    assert np.array_equal(again.slots[0].mask, mask)
    assert np.array_equal(again.slots[0].eligible, ~mask)
    assert again.decisions == drawn.decisions


def test_a_candidate_whose_block_is_not_in_the_log_is_an_error() -> None:
    with pytest.raises(KeyError):
        Blocks().page(RECORD)


def test_a_block_that_has_changed_is_kept_beside_the_old_one() -> None:
    known = blocks()
    known.fold(ItemRecord(ITEMS[0], 1, Item(ITEMS[0]), pack_halves(STATIC[0] * 0 + 1)))
    known.fold(ItemRecord(ITEMS[1], 2))

    assert np.array_equal(known.page(RECORD).context.features.actions[:, :N_STATIC], STATIC)


def test_every_value_of_half_precision_survives_packing() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32)

    assert np.array_equal(unpack_halves(pack_halves(finite)), finite)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (RECORD, "p/p1"),
        (RECORDS[1], "f/p1/e"),
        (RECORDS[2], ""),
        (RECORDS[4], ""),
        (RECORDS[6], ""),
    ],
)
def test_pages_are_idempotent_by_id_and_feedback_by_event_within_its_page(
    record: Record, key: str
) -> None:
    assert record_key(record) == key


def test_hashes_are_the_same_for_ever() -> None:
    assert item_key("i0") == 12901799172319015802
    assert block_hash(b"block").hex() == "049a3c8654f8ca03"


@pytest.mark.parametrize("kind", tuple(KINDS))
def test_each_kind_of_feedback_is_decoded(kind: str) -> None:
    payload = {"t": "feedback", "event_id": "e", "decision_id": "p:0", "at_ms": 1, "user": "u"}
    decoded = decode_record(msgspec.msgpack.encode({**payload, "session": "s", "kind": kind}))

    assert isinstance(decoded, FeedbackRecord)
    assert decoded.kind == kind


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"t": "feedback", "at_ms": 1}, "missing required field"),
        ({"t": "tick", "at_ms": "now"}, "at_ms"),
        ({"t": "smile"}, "smile"),
        ({"at_ms": 1}, "`t`"),
        ([1, 2], "Expected `object`"),
    ],
)
def test_what_is_no_record_is_refused(payload: object, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        decode_record(msgspec.msgpack.encode(payload))


def test_what_is_no_msgpack_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(encode_record(RECORD)[:-1])


def test_a_decision_id_splits_into_what_it_was_made_of() -> None:
    for page_id, slot in (("p", 0), ("a:b", 12), ("9f", 3)):
        assert split_decision_id(decision_id(PageId(page_id), slot)) == (page_id, slot)


@pytest.mark.parametrize(
    "text", ["", "p", ":", ":1", "p:", "p:x", "p:-1", "p:1.0", "p:\u00b2", "p:\u0661"]
)
def test_what_is_no_decision_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a decision id"):
        split_decision_id(text)
