import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import JSON, Answer, Server, ask, measured, sample, serving, stocked
from starlette.applications import Starlette

from env.records import PageRecord
from serve.http.api import make_app
from serve.http.endpoints import OPERATIONS
from serve.store.sqlite import SqliteStore
from serve.wire.feed import FeedRequest, FeedResponse

MSGPACK = (("content-type", "application/msgpack"),)
ANN = b'{"user_id":"ann"}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


async def post(server: Server, path: str, body: object) -> Answer:
    return await ask(server.app, "POST", path, json.dumps(body).encode())


async def test_a_newcomer_without_any_header_gets_a_page(server: Server) -> None:
    await stocked(server)
    curl = (("content-type", "application/x-www-form-urlencoded"), ("accept", "*/*"))
    answer = await ask(server.app, "POST", "/v1/feed", ANN, curl)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    page = msgspec.json.decode(answer.body, type=FeedResponse)
    assert len(page.items) == 10
    told = json.loads(answer.body)
    assert set(told) == {"page_id", "items"}
    assert set(told["items"][0]) == {
        "decision_id",
        "item_id",
        "slot",
        "propensity",
        "policy",
        "reason",
        "item",
    }


async def test_msgpack_is_answered_in_msgpack(server: Server) -> None:
    await stocked(server)
    answer = await ask(
        server.app, "POST", "/v1/feed", msgpack.packb({"user_id": "ann", "size": 3}), MSGPACK
    )
    assert answer.headers["content-type"] == "application/msgpack"
    assert len(msgpack.unpackb(answer.body)["items"]) == 3


async def test_accept_decides_the_answers_format(server: Server) -> None:
    await stocked(server)
    headers = (*JSON, ("accept", "application/msgpack"))
    answer = await ask(server.app, "POST", "/v1/feed", ANN, headers)
    assert answer.headers["content-type"] == "application/msgpack"


async def test_feedback_is_acknowledged_with_202(server: Server) -> None:
    await stocked(server)
    page = json.loads((await post(server, "/v1/feed", {"user_id": "ann"})).body)
    like = {
        "event_id": "1",
        "decision_id": page["items"][0]["decision_id"],
        "kind": "like",
        "at_ms": 1,
    }
    forged = like | {"event_id": "2", "decision_id": "forged"}
    answer = await post(server, "/v1/feedback", {"events": [like, like, forged]})
    assert answer.status == 202
    told = json.loads(answer.body)
    assert (told["accepted"], told["duplicates"]) == (1, 1)
    assert [refusal["event_id"] for refusal in told["refused"]] == ["2"]


async def test_an_item_is_put_got_found_and_deleted(server: Server) -> None:
    item = {"title": "A cat", "duration_s": 9.5, "tags": ["pets"], "country": "GB"}
    put = await ask(server.app, "PUT", "/v1/items/a/b", json.dumps(item).encode())
    assert put.status == 200
    got = await ask(server.app, "GET", "/v1/items/a/b")
    assert json.loads(got.body) == item | {"item_id": "a/b", "published_ms": server.watch.now_ms}
    again = await ask(server.app, "PUT", "/v1/items/a/b", got.body)
    assert again.body == got.body
    found = await ask(server.app, "GET", "/v1/items?q=cat&limit=5")
    assert [item["item_id"] for item in json.loads(found.body)["items"]] == ["a/b"]
    gone = await ask(server.app, "DELETE", "/v1/items/a/b")
    assert (gone.status, gone.body) == (204, b"")
    assert (await ask(server.app, "GET", "/v1/items/a/b")).problem() == (404, "item_id")
    assert (await ask(server.app, "DELETE", "/v1/items/a/b")).problem() == (404, "item_id")


async def test_a_batch_with_one_bad_item_puts_none(server: Server) -> None:
    batch = {"items": [{"item_id": "1"}, {"item_id": "2", "duration_s": -1}]}
    answer = await post(server, "/v1/items", batch)
    assert answer.problem() == (422, "items[1].duration_s")
    assert server.records() == []
    answer = await post(server, "/v1/items", {"items": [{"item_id": "1"}, {"item_id": "2"}]})
    assert json.loads(answer.body) == {"added": 2, "changed": 0, "unchanged": 0}


async def test_users_are_put_in_a_batch_each_once(server: Server) -> None:
    users = [{"user_id": "ann", "country": "GB", "tags": ["cats"]}, {"user_id": "bo/b"}]
    answer = await post(server, "/v1/users", {"users": users})
    assert json.loads(answer.body) == {"added": 2, "changed": 0, "unchanged": 0}
    moved = [{"user_id": "ann", "country": "MY"}, users[1]]
    answer = await post(server, "/v1/users", {"users": moved})
    assert json.loads(answer.body) == {"added": 0, "changed": 1, "unchanged": 1}
    got = json.loads((await ask(server.app, "GET", "/v1/users/ann")).body)
    assert got["profile"] == {"country": "MY", "registered_ms": server.watch.now_ms}
    assert server.live_states() == server.folded_states()


@pytest.mark.parametrize(
    ("users", "field"),
    [
        ([{"user_id": "a"}, {"user_id": "b", "country": "Britain"}], "users[1].country"),
        ([{"user_id": "a"}, {"country": "GB"}], "users[1].user_id"),
        ([{"user_id": "a"}, {"user_id": "a"}], "users[1].user_id"),
        ([{"user_id": "a/blocks"}], "users[0].user_id"),
        ([{"user_id": "a", "age": 3}], "users[0].age"),
        ([{"user_id": f"u{k}"} for k in range(1001)], "users"),
    ],
)
async def test_a_batch_with_one_bad_user_puts_none(
    server: Server, users: list[dict[str, object]], field: str
) -> None:
    answer = await post(server, "/v1/users", {"users": users})
    assert answer.problem() == (422, field)
    assert server.records() == []


async def test_a_user_is_put_got_and_deleted(server: Server) -> None:
    path = "/v1/users/ann"
    put = await ask(server.app, "PUT", path, b'{"country":"ID","registered_ms":5}')
    assert json.loads(put.body) == {
        "user_id": "ann",
        "profile": {"country": "ID", "registered_ms": 5},
    }
    assert (await ask(server.app, "GET", path)).body == put.body
    assert (await ask(server.app, "DELETE", path)).status == 204
    assert (await ask(server.app, "GET", path)).problem() == (404, "user_id")


async def test_blocks_are_put_and_got(server: Server) -> None:
    path = "/v1/users/ann/b/blocks"
    assert (await ask(server.app, "GET", path)).problem() == (404, "user_id")
    assert (await ask(server.app, "POST", path, b"{}")).problem() == (404, "user_id")
    await ask(server.app, "PUT", "/v1/users/ann/b", b"{}")
    put = await ask(server.app, "POST", path, b'{"creators": ["c1"], "tags": ["#Dogs"]}')
    assert put.status == 200
    assert json.loads(put.body) == {"user_id": "ann/b", "creators": ["c1"], "tags": ["dogs"]}
    assert (await ask(server.app, "GET", path)).body == put.body
    gone = await ask(server.app, "POST", path, b'{"tags": ["dogs"], "wanted": true}')
    assert json.loads(gone.body) == {"user_id": "ann/b", "creators": ["c1"], "tags": []}


async def test_nobody_is_called_like_a_path_of_blocks(server: Server) -> None:
    body = b'{"user_id":"ann/blocks"}'
    assert (await ask(server.app, "POST", "/v1/feed", body)).problem() == (422, "user_id")
    for method in ("PUT", "DELETE"):
        answer = await ask(server.app, method, "/v1/users/ann/blocks", b"{}")
        assert answer.problem() == (422, "user_id")
    for path in ("/v1/users/ann/blocks/blocks", "/v1/users//blocks"):
        assert (await ask(server.app, "POST", path, b"{}")).problem() == (422, "user_id")


async def test_a_card_offers_its_product_where_it_is_sold(server: Server) -> None:
    shops = {"GB": "https://shop.example/uk", "US": "https://shop.example/us", "FR": "x"}
    item = {"title": "Cup", "products": shops, "vector": [1.0], "rating": 3, "bait": 0.5}
    put = await ask(server.app, "PUT", "/v1/items/cup", json.dumps(item).encode())
    assert json.loads(put.body)["products"] == shops
    await ask(server.app, "PUT", "/v1/users/registered", b'{"country": "GB"}')

    async def card(user: str, country: str) -> dict[str, object]:
        body = {"user_id": user, "scene": {"country": country}}
        (card,) = json.loads((await post(server, "/v1/feed", body)).body)["items"]
        assert "products" not in card["item"]
        assert not {"vector", "bait"} & set(card["item"])
        assert card["item"]["rating"] == 3
        assert isinstance(card, dict)
        return card

    assert (await card("ann", "GB"))["product"] == "https://shop.example/uk"
    assert (await card("bob", "US"))["product"] == "https://shop.example/us"
    assert (await card("registered", ""))["product"] == "https://shop.example/uk"
    for user, country in (("cat", "SG"), ("dan", "FR"), ("eve", "")):
        assert "product" not in await card(user, country)


async def test_health_and_readiness_are_told(server: Server) -> None:
    await stocked(server, 4)
    answer = await ask(server.app, "GET", "/healthz")
    assert json.loads(answer.body) == {"ready": True, "items": 4}
    answer = await ask(server.app, "GET", "/readyz")
    assert json.loads(answer.body) == {"ready": True, "items": 4, "learner": {"state": "none"}}


async def test_a_server_without_any_listed_item_is_alive_but_not_ready(server: Server) -> None:
    for _ in range(2):
        assert (await ask(server.app, "GET", "/healthz")).status == 200
        answer = await ask(server.app, "GET", "/readyz")
        assert answer.problem() == (503, "")
        assert b"the catalogue is empty: put items" in answer.body
        await ask(server.app, "PUT", "/v1/items/a", b'{"listed":false}')
    await ask(server.app, "PUT", "/v1/items/a", b"{}")
    assert (await ask(server.app, "GET", "/readyz")).status == 200


async def test_a_server_without_its_database_is_alive_but_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    assert (await ask(server.app, "GET", "/healthz")).status == 200
    assert (await ask(server.app, "GET", "/readyz")).problem() == (503, "")


async def test_metrics_count_what_was_served(server: Server) -> None:
    await stocked(server)
    await post(server, "/v1/feed", {"user_id": "ann", "size": 7})
    await post(server, "/v1/feed", {"user_id": 3})
    text = (await ask(server.app, "GET", "/metrics")).body.decode()
    assert 'nextswipe_cards_total{policy="uniform"} 7.0' in text
    assert "nextswipe_catalogue_items 60.0" in text
    assert "nextswipe_pages_total 1.0" in text
    assert "ann" not in text
    samples = await measured(server.app)
    for status in ("200", "422"):
        assert sample(samples, "nextswipe_requests_total", operation="feed", status=status) == 1


async def test_openapi_describes_every_operation(server: Server) -> None:
    answer = await ask(server.app, "GET", "/openapi.json")
    document = json.loads(answer.body)
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    schemas = document["components"]["schemas"]
    assert schemas["FeedRequest"]["properties"]["size"]["maximum"] == 50
    assert schemas["FeedRequest"]["additionalProperties"] is False
    assert schemas["LearnerHealth"]["properties"]["state"]["enum"] == [
        "learning",
        "none",
        "silent",
        "stopped",
    ]
    (parameter,) = document["paths"]["/v1/users/{user_id}/blocks"]["get"]["parameters"]
    assert (parameter["name"], parameter["schema"]["maxLength"]) == ("user_id", 128)
    assert not re.match(parameter["schema"]["pattern"], "ann/blocks")
    assert re.match(parameter["schema"]["pattern"], "ann/b")
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]
    for ref in _refs(document):
        assert ref.removeprefix("#/components/schemas/") in schemas


def _refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inside in value.items():
            if key == "$ref":
                yield inside
            else:
                yield from _refs(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _refs(inside)


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status", "field"),
    [
        ("POST", "/v1/feed", b"", JSON, 400, ""),
        ("POST", "/v1/feed", b"{", JSON, 400, ""),
        ("POST", "/v1/feed", b"{}", JSON, 422, "user_id"),
        ("POST", "/v1/feed", b'{"user_id":"a","size":51}', JSON, 422, "size"),
        ("POST", "/v1/feed", ANN, (("content-type", "text/html"),), 415, "Content-Type"),
        ("POST", "/v1/feed", ANN, (*JSON, ("content-encoding", "gzip")), 415, "Content-Encoding"),
        ("POST", "/v1/feed", ANN, (*JSON, ("accept", "text/html")), 406, "Accept"),
        ("POST", "/v1/feed", ANN, (*JSON, ("content-length", "9" * 9)), 413, ""),
        ("POST", "/v1/feed", ANN, (*JSON, ("content-length", "9" * 50)), 413, ""),
        ("POST", "/v1/feed", b'"' + b"a" * (1 << 20), JSON, 413, ""),
        ("POST", "/v1/feed", ANN, (*JSON, ("sec-fetch-site", "cross-site")), 403, "Origin"),
        ("POST", "/v1/feed", ANN, (*JSON, ("origin", "http://evil.example")), 403, "Origin"),
        ("POST", "/v1/feed", ANN, (*JSON, ("origin", "http://[")), 403, "Origin"),
        ("POST", "/v1/feed", ANN, (*JSON, ("origin", "null")), 403, "Origin"),
        ("GET", "/v1/feed", b"", (), 405, ""),
        ("POST", "/v1/nothing", b"{}", JSON, 404, ""),
        ("GET", "/../secret.key", b"", (), 404, ""),
        ("GET", "/web/../config.py", b"", (), 404, ""),
        ("PUT", "/v1/items/a", b'{"item_id":"b"}', JSON, 422, "item_id"),
        ("PUT", "/v1/items/", b"{}", JSON, 422, "item_id"),
        ("PUT", "/v1/items/x", b'{"media":"http://["}', JSON, 422, "media"),
        (
            "POST",
            "/v1/items",
            b'{"items":[{"item_id":"a"},{"item_id":"b","media":"http://["}]}',
            JSON,
            422,
            "items[1].media",
        ),
        ("PUT", "/v1/items/" + "a" * 129, b"{}", JSON, 422, "item_id"),
        ("GET", "/v1/users/a\0b", b"", (), 422, "user_id"),
        ("GET", "/v1/users/\ud800", b"", (), 422, "user_id"),
        ("PUT", "/v1/users/a\ufffd", b"{}", JSON, 422, "user_id"),
        ("PUT", "/v1/items/a\x85", b"{}", JSON, 422, "item_id"),
        ("POST", "/v1/feed", b'{"user_id":"a\\u0000"}', JSON, 422, "user_id"),
        ("GET", "/v1/items", b"", (), 422, "q"),
        ("GET", "/v1/items?q=a&limit=0", b"", (), 422, "limit"),
        ("GET", "/v1/items?q=a&limit=\u0663", b"", (), 422, "limit"),
        ("GET", "/v1/items?q=a&limt=5", b"", (), 400, "limt"),
        ("GET", "/v1/items?q=a&q=b", b"", (), 400, "q"),
        ("GET", "/v1/items/a?item_id=b", b"", (), 400, "item_id"),
        ("GET", "/v1/users/a?verbose", b"", (), 400, "verbose"),
        ("POST", "/v1/feed?size=3", ANN, JSON, 400, "size"),
        ("GET", "/readyz?wait=", b"", (), 400, "wait"),
    ],
)
async def test_a_bad_request_is_a_problem_that_names_the_field(
    server: Server,
    method: str,
    target: str,
    body: bytes,
    headers: tuple[tuple[str, str], ...],
    status: int,
    field: str,
) -> None:
    answer = await ask(server.app, method, target, body, headers)
    assert answer.problem() == (status, field)
    assert server.records() == []


async def test_a_large_body_is_refused_before_it_has_come(server: Server) -> None:
    chunks = [b'{"user_id":"' + b"a" * 1000] + [b"a" * 200_000] * 20
    assert (await ask(server.app, "POST", "/v1/feed", chunks)).problem() == (413, "")


async def test_a_body_in_pieces_is_put_together(server: Server) -> None:
    await stocked(server)
    pieces = [ANN[:5], b"", ANN[5:]]
    assert (await ask(server.app, "POST", "/v1/feed", pieces)).status == 200


async def test_the_site_own_pages_may_post(server: Server) -> None:
    await stocked(server)
    host = ("host", "feed.example:8000")
    for headers in (
        (("origin", "http://feed.example:8000"), host),
        (("origin", "https://outside.example"), ("sec-fetch-site", "same-origin"), host),
    ):
        answer = await ask(server.app, "POST", "/v1/feed", ANN, (*JSON, *headers))
        assert answer.status == 200


async def test_the_page_is_served_with_its_files_only(server: Server, tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_text("<p>hello")
    (web / "app.js").write_text("1")
    (web / "notes.txt").write_text("private")
    app = make_app(server.engine, server.keys, web=web)
    page = await ask(app, "GET", "/")
    assert (page.status, page.body) == (200, b"<p>hello")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    script = await ask(app, "GET", "/web/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert (await ask(app, "GET", "/web/notes.txt")).status == 404


SHOP = "https://shop.example"


@pytest.fixture
def shared(server: Server) -> Starlette:
    return make_app(server.engine, server.keys, origins=(SHOP,))


async def test_a_page_of_a_named_site_may_call_the_api(shared: Starlette) -> None:
    preflight = (
        ("origin", SHOP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    )
    allowed = await ask(shared, "OPTIONS", "/v1/feed", headers=preflight)
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == SHOP
    assert {"POST", "PUT", "DELETE"} <= set(
        allowed.headers["access-control-allow-methods"].split(", ")
    )
    sent = (*JSON, ("origin", SHOP), ("sec-fetch-site", "cross-site"))
    for body, status in ((ANN, 200), (b"{}", 422)):
        answer = await ask(shared, "POST", "/v1/feed", body, sent)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, SHOP)


async def test_a_page_of_another_site_may_not(shared: Starlette, server: Server) -> None:
    other = (*JSON, ("origin", f"{SHOP}.evil.example"), ("sec-fetch-site", "cross-site"))
    answer = await ask(shared, "POST", "/v1/feed", ANN, other)
    assert answer.problem() == (403, "Origin")
    assert "access-control-allow-origin" not in answer.headers
    alone = await ask(server.app, "GET", "/healthz", headers=(("origin", SHOP),))
    assert "access-control-allow-origin" not in alone.headers


async def test_whatever_the_page_names_is_served(server: Server) -> None:
    page = (await ask(server.app, "GET", "/")).body.decode()
    names = set(re.findall(r'(?:href|src)="([a-z]+[a-z./]*)"', page))
    assert "web/app.js" in names
    for name in names:
        assert (await ask(server.app, "GET", f"/{name}")).status == 200, name


async def test_a_mistake_of_ours_is_a_problem_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path) as server:
        pass
    with caplog.at_level(logging.ERROR, "serve.http.api"):
        answer = await ask(server.app, "POST", "/v1/feed", ANN)
    assert answer.problem() == (500, "")
    assert b"closed" not in answer.body
    assert "Traceback" in caplog.text
    assert "is closed" in caplog.text


async def test_a_database_that_cannot_answer_is_a_problem_that_passes(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        # What SQLite says of a full disk comes as this error too.
        assert isinstance(server.store, SqliteStore)
        drop = "DROP TABLE users"
        server.store.write(lambda t: t.connection.execute(drop), durable=True).result()
        answer = await ask(server.app, "POST", "/v1/feed", ANN)
        assert answer.problem() == (503, "")
        assert answer.headers["retry-after"] == "1"
        samples = await measured(server.app)
    assert sample(samples, "nextswipe_requests_total", operation="feed", status="503") == 1


async def test_what_is_refused_or_failed_is_counted_too(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    await ask(server.app, "POST", "/v1/feed", ANN)
    await ask(server.app, "GET", "/v1/feed")
    await ask(server.app, "GET", "/nowhere")
    samples = await measured(server.app)
    for operation, status in (("feed", "500"), ("none", "405"), ("none", "404")):
        of = {"operation": operation, "status": status}
        assert sample(samples, "nextswipe_requests_total", **of) == 1
    assert sample(samples, "nextswipe_database_readable") == 0
    assert "nextswipe_pages_total" not in samples


async def test_any_id_that_one_route_takes_is_reached_by_the_others(server: Server) -> None:
    for name in ("\U0001f469\u200d\U0001f467", "a b/c", "\u00a0", "...", "\u0646\u200c\u0627"):
        await post(server, "/v1/items", {"items": [{"item_id": name}]})
        await post(server, "/v1/feed", {"user_id": name})
        for path in (f"/v1/items/{name}", f"/v1/users/{name}"):
            assert (await ask(server.app, "GET", path)).status == 200, path


Path_ = st.sampled_from(["/v1/feed", "/v1/feedback", "/v1/items", "/v1/users/ann/blocks"])
Text = st.text(max_size=20) | st.just("a" * 200) | st.sampled_from(["GB", "like", "dwell"])
Leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | Text
    | st.binary(max_size=5)
)
Names = st.sampled_from(
    [
        "user_id",
        "request_id",
        "session_id",
        "size",
        "scene",
        "country",
        "at",
        "events",
        "event_id",
        "decision_id",
        "kind",
        "value",
        "at_ms",
        "items",
        "item_id",
        "title",
        "tags",
        "duration_s",
        "vector",
        "markets",
        "published_ms",
        "products",
        "address",
        "creators",
        "wanted",
    ]
)
Body = st.recursive(
    Leaf,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(Names | Text, inside, max_size=5),
    max_leaves=25,
)


def mostly(required: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[object]:
    """Bodies of the right shape with a field or two of any content."""
    return st.fixed_dictionaries(
        {name: good | Leaf for name, good in required.items()},
    ) | st.fixed_dictionaries(required, optional={"size": Leaf, "extra": Leaf, "scene": Body})


Near = (
    mostly({"user_id": Text})
    | st.fixed_dictionaries(
        {
            "events": st.lists(
                mostly(
                    {
                        "event_id": Text,
                        "decision_id": Text,
                        "kind": st.sampled_from(["like", "dwell", "x"]),
                        "at_ms": st.integers(),
                    }
                ),
                max_size=3,
            )
        }
    )
    | st.fixed_dictionaries(
        {
            "items": st.lists(
                mostly({"item_id": Text, "title": Text, "vector": st.lists(st.floats())}),
                max_size=3,
            )
        }
    )
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("fuzzed")) as server:
        yield server


def _pack(body: object, packed: bool) -> bytes | None:
    try:
        return msgpack.packb(body) if packed else json.dumps(body).encode()
    except (TypeError, OverflowError, UnicodeEncodeError):
        return None


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=Path_, body=Body | Near, packed=st.booleans())
async def test_no_body_makes_the_server_fail(
    fuzzed: Server, path: str, body: object, packed: bool
) -> None:
    content = _pack(body, packed)
    if content is None:
        return
    answer = await ask(fuzzed.app, "POST", path, content, MSGPACK if packed else JSON)
    if answer.status >= 400:
        assert answer.problem()[0] in ((400, 404, 413, 422) if "ann" in path else (400, 413, 422))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE"]),
    kind=st.sampled_from(["items", "users"]),
    name=st.text(max_size=140),
    body=st.just(b"{}") | st.binary(max_size=30),
)
async def test_no_path_makes_the_server_fail(
    fuzzed: Server, method: str, kind: str, name: str, body: bytes
) -> None:
    answer = await ask(fuzzed.app, method, f"/v1/{kind}/{name.replace('?', '')}", body)
    if answer.status >= 400:
        assert answer.problem()[0] in (400, 404, 405, 422)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=60), limit=st.text(max_size=4))
async def test_no_search_makes_the_server_fail(fuzzed: Server, text: str, limit: str) -> None:
    target = f"/v1/items?q={quote(text)}&limit={quote(limit)}"
    answer = await ask(fuzzed.app, "GET", target)
    assert answer.status == 200 or answer.problem()[0] == 422


async def test_a_user_with_any_printable_id_is_served(fuzzed: Server) -> None:
    await stocked(fuzzed)
    before = len(fuzzed.of(PageRecord))
    for user_id in ("ann", "Ann", "a/b?c#d", "日本", "😀", "a b", "'; DROP TABLE users"):
        body = msgspec.json.encode(FeedRequest(user_id))
        answer = await ask(fuzzed.app, "POST", "/v1/feed", body)
        assert answer.status == 200
    assert len(fuzzed.of(PageRecord)) == before + 7


async def test_vectors_of_another_length_are_refused_with_their_field(server: Server) -> None:
    async def put(*vectors: str) -> Answer:
        bodies = [f'{{"item_id": "v{k}", "vector": {v}}}' for k, v in enumerate(vectors)]
        return await ask(
            server.app, "POST", "/v1/items", f'{{"items": [{",".join(bodies)}]}}'.encode()
        )

    assert (await put("[1, 0]", "[1, 0, 0]")).problem() == (422, "items[1].vector")
    assert (await ask(server.app, "GET", "/v1/items/v0")).status == 404, "none of them was put"
    assert (await put("[1, 0]", "null", "[0, 1]")).status == 200
    one = await ask(server.app, "PUT", "/v1/items/v3", b'{"vector": [1, 0, 0]}')
    assert one.problem() == (422, "vector")
    assert b"expected 2 numbers as in the catalogue's vectors, got 3" in one.body
    for item_id in ("v0", "v2"):
        assert (await ask(server.app, "DELETE", f"/v1/items/{item_id}")).status == 204
    assert (await ask(server.app, "PUT", "/v1/items/v3", b'{"vector": [1, 0, 0]}')).status == 200
