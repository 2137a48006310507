import contextlib
import math
from string import ascii_uppercase

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.feedback import KINDS
from env.vocabulary import DecisionId, UserKey
from serve.limits import MAX_MS
from serve.tokens import Tokens
from serve.wire.codec import (
    JSON,
    MSGPACK,
    Decoder,
    EventsDecoder,
    ProblemError,
    answer_format,
    body_format,
    encode,
)
from serve.wire.feed import Event, FeedbackRequest, FeedRequest, SceneBody
from serve.wire.items import ItemBody, ItemsRequest
from serve.wire.users import BlocksRequest, ProfileBody

EVENT = {"event_id": "e", "decision_id": "d", "kind": "like", "at_ms": 1}
COUNTRIES = [first + second for first in ascii_uppercase for second in ascii_uppercase[:10]]

BAD = [
    (FeedRequest, {}, "user_id"),
    (FeedRequest, [], ""),
    (FeedRequest, {"user_id": 1}, "user_id"),
    (FeedRequest, {"user_id": ""}, "user_id"),
    (FeedRequest, {"user_id": "u" * 129}, "user_id"),
    (FeedRequest, {"user_id": None}, "user_id"),
    (FeedRequest, {"user_id": "u\n"}, "user_id"),
    (FeedRequest, {"user_id": "u\ufffd"}, "user_id"),
    (FeedRequest, {"user_id": "u", "request_id": "\x85"}, "request_id"),
    (ItemsRequest, {"items": [{"item_id": "a\0"}]}, "items[0].item_id"),
    (ItemsRequest, {"items": [{"item_id": ".."}]}, "items[0].item_id"),
    (FeedbackRequest, {"events": [EVENT | {"event_id": "\x7f"}]}, "events[0].event_id"),
    (FeedRequest, {"user_id": "u", "sise": 3}, "sise"),
    (FeedRequest, {"user_id": "u", "size": 0}, "size"),
    (FeedRequest, {"user_id": "u", "size": 51}, "size"),
    (FeedRequest, {"user_id": "u", "size": 1.5}, "size"),
    (FeedRequest, {"user_id": "u", "size": True}, "size"),
    (FeedRequest, {"user_id": "u", "scene": {"country": "gb"}}, "scene.country"),
    (FeedRequest, {"user_id": "u", "scene": {"country": "GB\n"}}, "scene.country"),
    (FeedRequest, {"user_id": "u", "scene": {"hour": 3}}, "scene.hour"),
    (FeedRequest, {"user_id": "u", "scene": {"at": -1}}, "scene.at"),
    (FeedRequest, {"user_id": "u", "scene": {"at": MAX_MS + 1}}, "scene.at"),
    (FeedRequest, {"user_id": "u", "scene": {"at": 2**63}}, "scene.at"),
    (FeedRequest, {"user_id": "u", "scene": []}, "scene"),
    (FeedRequest, {"user_id": "u", "scene": {"referrer": "r" * 65}}, "scene.referrer"),
    (FeedRequest, {"user_id": "u", "scene": {"address": "192.0.2"}}, "scene.address"),
    (FeedRequest, {"user_id": "u", "scene": {"address": "192.0.2.7/24"}}, "scene.address"),
    (FeedRequest, {"user_id": "u", "scene": {"address": "2001:db8::g"}}, "scene.address"),
    (FeedRequest, {"user_id": "u", "scene": {"address": " "}}, "scene.address"),
    (FeedRequest, {"user_id": "u", "scene": {"address": "1" * 46}}, "scene.address"),
    (FeedRequest, {"user_id": "u/blocks"}, "user_id"),
    (FeedbackRequest, {}, "events"),
    (FeedbackRequest, {"events": [EVENT | {"kind": ""}]}, "events[0].kind"),
    (FeedbackRequest, {"events": [EVENT, EVENT | {"value": 2e9}]}, "events[1].value"),
    (FeedbackRequest, {"events": [EVENT | {"currency": "usd"}]}, "events[0].currency"),
    (FeedbackRequest, {"events": [EVENT | {"at_ms": "now"}]}, "events[0].at_ms"),
    (FeedbackRequest, {"events": [{}]}, "events[0].event_id"),
    (FeedbackRequest, {"events": [EVENT] * 501}, "events"),
    (ItemBody, {"duration_s": 0}, "duration_s"),
    (ItemBody, {"vector": []}, "vector"),
    (ItemBody, {"vector": [1.0, 1e7]}, "vector[1]"),
    (ItemBody, {"vector": [1e6, 1e6]}, "vector"),
    (ItemBody, {"tags": ["t"] * 51}, "tags"),
    (ItemBody, {"tags": "t"}, "tags"),
    (ItemBody, {"title": "t" * 501}, "title"),
    (ItemBody, {"markets": ["GB", "XYZ"]}, "markets[1]"),
    (ItemBody, {"rating": 22}, "rating"),
    (ItemBody, {"rating": -1}, "rating"),
    (ItemBody, {"bait": 1.01}, "bait"),
    (ItemBody, {"bait": -0.01}, "bait"),
    (ItemBody, {"media": "http://["}, "media"),
    (ItemBody, {"media": "//[::1/a.mp4"}, "media"),
    (ItemBody, {"media": "https://host]/a.mp4"}, "media"),
    (ItemBody, {"media": "https://caf\u2100.example/a.mp4"}, "media"),
    (ItemBody, {"products": {"GB": "a", "US": "http://["}}, "products.US"),
    (ItemBody, {"products": {"gb": "a"}}, "products"),
    (ItemBody, {"products": {"": "a"}}, "products"),
    (ItemBody, {"products": {"GB": "a" * 2001}}, "products[...]"),
    (ItemBody, {"products": dict.fromkeys(COUNTRIES, "")}, "products"),
    (ItemsRequest, {"items": [{}]}, "items[0].item_id"),
    (ItemsRequest, {"items": [{"item_id": "a"}, {"item_id": "a"}]}, "items[1].item_id"),
    (ProfileBody, {"follows": [""]}, "follows[0]"),
    (ProfileBody, {"registered_ms": math.pi}, "registered_ms"),
    (ProfileBody, {"birth_year": 2100}, "birth_year"),
    (BlocksRequest, {"creators": ["c"] * 101}, "creators"),
    (BlocksRequest, {"creators": [""]}, "creators[0]"),
    (BlocksRequest, {"tags": ["t" * 65]}, "tags[0]"),
    (BlocksRequest, {"tags": ["t"] * 101}, "tags"),
    (BlocksRequest, {"wanted": 1}, "wanted"),
    (BlocksRequest, {"sounds": []}, "sounds"),
]


@pytest.mark.parametrize("form", [JSON, MSGPACK])
@pytest.mark.parametrize(("kind", "body", "field"), BAD)
def test_a_bad_body_is_refused_with_its_field(
    kind: type, body: object, field: str, form: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        Decoder(kind).decode(encode(body, form), form)
    problem = refused.value.problem
    assert (problem.status, problem.field) == (422, field)
    assert problem.detail


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (FeedbackRequest, {"events": [EVENT | {"kind": "dwell"}]}, "events[0].value"),
        (ItemBody, {}, "duration_s"),
        (ItemBody, {}, "vector[0]"),
    ],
)
def test_a_number_that_is_not_finite_is_refused(
    kind: type, body: dict[str, list[dict[str, object]]], field: str, value: float
) -> None:
    name = field.rpartition(".")[2]
    inside = {name.removesuffix("[0]"): [value] if name.endswith("[0]") else value}
    sent = {"events": [body["events"][0] | inside]} if body else inside
    with pytest.raises(ProblemError) as refused:
        Decoder(kind).decode(msgpack.packb(sent), MSGPACK)
    assert (refused.value.problem.status, refused.value.problem.field) == (422, field)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b'{"user_id":NaN}'),
        (JSON, b'{"user_id":"u"} trailing'),
        (JSON, b'{"user_id":"\\ud800"}'),
        (JSON, b'{"user_id":"\xff"}'),
        (JSON, b"\xef\xbb\xbf{}"),
        (MSGPACK, b""),
        (MSGPACK, b"\x81\xa7user_id"),
        (MSGPACK, b"\x81\xa7user_id\xa1\xff"),
        (MSGPACK, b"\x81\xa7user_id\xa1u\x80"),
    ],
)
def test_what_is_not_of_the_format_is_malformed(form: str, body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        Decoder(FeedRequest).decode(body, form)
    assert refused.value.problem.status == 400


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (JSON, b'{"events":' + b"[" * 500_000),
        (JSON, b'{"user_id":' + b'{"a":' * 100_000),
        (MSGPACK, b"\x81\xa6events" + b"\x91" * 1_000_000),
        (MSGPACK, b"\x81\xa6events\xdd\xff\xff\xff\xff" + b"\xdd\xff\xff\xff\xff" * 10_000),
    ],
)
def test_depth_and_announced_lengths_cost_nothing(form: str, body: bytes) -> None:
    for read in (Decoder(FeedbackRequest).decode, EventsDecoder().read):
        with pytest.raises(ProblemError) as refused:
            read(body, form)
        assert refused.value.problem.status in (400, 422)


def test_an_unknown_field_of_any_length_gives_a_short_problem() -> None:
    body = {"user_id": "u", "x" * 100_000: 1}
    with pytest.raises(ProblemError) as refused:
        Decoder(FeedRequest).decode(encode(body, JSON), JSON)
    assert len(refused.value.problem.field) <= 300
    assert len(refused.value.problem.detail) <= 300


@pytest.mark.parametrize("kind", tuple(KINDS))
def test_every_kind_of_feedback_is_understood(kind: str) -> None:
    body = EVENT | {"kind": kind} | ({"value": 3.5} if kind == "dwell" else {})
    (event,) = Decoder(FeedbackRequest).decode(encode({"events": [body]}, JSON), JSON).events
    assert event.kind == kind


@pytest.mark.parametrize("form", [JSON, MSGPACK])
def test_events_that_do_not_fit_are_refused_alone_and_by_name(form: str) -> None:
    bad: list[object] = [
        EVENT | {"event_id": "late", "at_ms": "now"},
        EVENT | {"event_id": "big", "value": 1e300},
        EVENT | {"event_id": "more", "mood": "good"},
        {"event_id": "bare"},
        {"event_id": 7, "decision_id": "d"},
        {},
        3,
        None,
    ]
    good = [EVENT | {"event_id": f"g{k}"} for k in range(3)]
    body = encode({"events": [good[0], *bad, *good[1:]]}, form)
    request, refused = EventsDecoder().read(body, form)
    assert [event.event_id for event in request.events] == ["g0", "g1", "g2"]
    assert [refusal.event_id for refusal in refused] == ["late", "big", "more", "bare", *[""] * 4]
    fields = ["at_ms", "value", "mood", "decision_id", "event_id", "event_id", "", ""]
    for place, (refusal, field) in enumerate(zip(refused, fields, strict=True), 1):
        assert refusal.reason.startswith(f"events[{place}].{field}".rstrip(".") + ": ")


@pytest.mark.parametrize("form", [JSON, MSGPACK])
@pytest.mark.parametrize(
    "body",
    [{}, [], 3, {"events": 3}, {"events": [EVENT] * 501}, {"events": [{}], "more": [1]}],
)
def test_a_body_that_is_no_list_of_events_is_refused_as_a_whole(body: object, form: str) -> None:
    with pytest.raises(ProblemError) as refused:
        EventsDecoder().read(encode(body, form), form)
    assert refused.value.problem.status == 422


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, MSGPACK]))
def test_no_bytes_make_the_reading_of_events_fail_otherwise_than_by_a_problem(
    body: bytes, form: str
) -> None:
    prefix = b'{"events":[' if form == JSON else b"\x81\xa6events\x92"
    for start in (b"", prefix):
        with contextlib.suppress(ProblemError):
            EventsDecoder().read(start + body, form)


REQUESTS = [
    FeedRequest(user_id="u", request_id="r", size=3, scene=SceneBody(country="GB", at_ms=5)),
    FeedRequest("u", scene=SceneBody(referrer="search", address="2001:db8::7")),
    BlocksRequest(("c",), ("t",), wanted=True),
    ItemBody(rating=18, products={"GB": "https://shop.example/cup", "US": ""}),
    FeedbackRequest((Event("e", "d", "dwell", 1, 2.0), Event("f", "d", "like", 1))),
    ItemsRequest((ItemBody(item_id="a", vector=(0.5, 1.0), markets=("GB", "US")),)),
    ProfileBody(country="MY", follows=("c",), birth_year=1990),
]


@pytest.mark.parametrize("form", [JSON, MSGPACK])
@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_come_back_as_they_were_sent(request_: msgspec.Struct, form: str) -> None:
    assert Decoder(type(request_)).decode(encode(request_, form), form) == request_


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, MSGPACK]))
def test_no_bytes_make_a_decoder_fail_otherwise_than_by_a_problem(body: bytes, form: str) -> None:
    for kind in (FeedRequest, FeedbackRequest, ItemsRequest, ProfileBody, BlocksRequest):
        with contextlib.suppress(ProblemError):
            Decoder(kind).decode(body, form)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("", JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/x-www-form-urlencoded", JSON),
        ("text/plain;charset=UTF-8", JSON),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
    ],
)
def test_a_content_type_names_the_format(content_type: str, form: str) -> None:
    assert body_format(content_type) == form


def test_another_content_type_is_refused() -> None:
    with pytest.raises(ProblemError) as refused:
        body_format("image/png")
    assert (refused.value.problem.status, refused.value.problem.field) == (415, "Content-Type")


@pytest.mark.parametrize(
    ("accept", "question", "form"),
    [
        ("", MSGPACK, MSGPACK),
        ("*/*", MSGPACK, MSGPACK),
        ("*/*", JSON, JSON),
        ("application/json", MSGPACK, JSON),
        ("application/msgpack", JSON, MSGPACK),
        ("application/json;q=0.2, application/msgpack;q=0.3", JSON, MSGPACK),
        ("text/html, application/json", MSGPACK, JSON),
        ("text/html, */*;q=0.1", JSON, JSON),
    ],
)
def test_accept_chooses_the_answers_format(accept: str, question: str, form: str) -> None:
    assert answer_format(accept, question) == form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0"])
def test_an_answer_that_nobody_wants_is_refused(accept: str) -> None:
    with pytest.raises(ProblemError) as refused:
        answer_format(accept, JSON)
    assert (refused.value.problem.status, refused.value.problem.field) == (406, "Accept")


def test_a_signed_decision_comes_back() -> None:
    tokens = Tokens(bytes(32))
    decision = DecisionId("9f:3")
    assert tokens.verify(tokens.sign(decision)) == decision


def test_changing_any_character_of_a_token_makes_it_a_forgery() -> None:
    tokens = Tokens(bytes(32))
    token = tokens.sign(DecisionId("9f00:12"))
    for i in range(len(token)):
        other = "b" if token[i] == "a" else "a"
        assert tokens.verify(token[:i] + other + token[i + 1 :]) is None


@pytest.mark.parametrize("token", ["", ".", "9f:3", "9f:3.", "9f:3.é", "\0", "a" * 256])
def test_what_was_never_signed_is_a_forgery(token: str) -> None:
    assert Tokens(bytes(32)).verify(token) is None


def test_an_event_id_is_the_same_for_the_same_event_of_a_user_only() -> None:
    tokens = Tokens(bytes(32))
    ann, bob = UserKey("a"), UserKey("b")
    assert tokens.event_id(ann, "e") == tokens.event_id(ann, "e")
    ids = {tokens.event_id(ann, "e"), tokens.event_id(bob, "e"), tokens.event_id(ann, "f")}
    assert len(ids | {tokens.session_id(ann, "e")}) == 4


@pytest.mark.parametrize(
    ("one", "other", "are_neighbours"),
    [
        ("192.0.2.0", "192.0.2.255", True),
        ("192.0.2.255", "192.0.3.0", False),
        ("192.0.2.7", "::ffff:192.0.2.8", True),
        ("2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1::", "2001:db8:2::", False),
        ("0.0.1.0", "0:0:1::", False),  # the same bits in front
    ],
)
def test_an_origin_is_that_of_an_addresss_block(one: str, other: str, are_neighbours: bool) -> None:
    tokens = Tokens(bytes(32))
    assert (tokens.origin(one) == tokens.origin(other)) is are_neighbours


def test_an_origin_tells_nothing_without_the_secret() -> None:
    origins = {Tokens(bytes([k]) * 32).origin("192.0.2.7") for k in range(20)}
    assert len(origins) == 20
    assert {len(origin) for origin in origins} == {8}


def test_another_installations_token_is_a_forgery() -> None:
    assert Tokens(bytes(32)).verify(Tokens(b"x" * 32).sign(DecisionId("9f:3"))) is None


def test_ids_of_pages_begin_alike_for_the_same_request_only_and_are_never_given_twice() -> None:
    tokens = Tokens(bytes(32))
    ann, bob = UserKey("a"), UserKey("b")
    requests = [tokens.request(*of) for of in ((ann, "r"), (bob, "r"), (ann, "s"))]
    assert requests[0] == tokens.request(ann, "r")
    requests += [tokens.request(ann, None), tokens.request(ann, None)]
    assert len(set(requests)) == 5
    pages = [tokens.page_id(request) for request in requests * 2]
    assert len(set(pages)) == 10
    assert all(page.startswith(r) for page, r in zip(pages, requests * 2, strict=True))
