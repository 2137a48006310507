"""Who may call what: every operation by every kind of caller, and what one user may be told of.

The numbers are those of OWASP's API Security Top 10 of 2023: 1 objects of others, 3 properties,
4 resources, 5 functions, 9 the inventory of operations.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from servers import JSON, Answer, Server, ask, serving, stocked

from env.vocabulary import UserId
from serve.access.callers import BY_OPERATOR, Caller, KeyRing, operator_token
from serve.access.keys import SCOPES, Scope, create_key, revoke_key
from serve.http.api import make_app
from serve.http.endpoints import OPERATIONS, Operation
from serve.store.store import write_now
from serve.tokens import load_secret
from serve.wire.feed import FeedResponse

BODIES = {
    "feed": b'{"user_id":"ann"}',
    "feedback": b'{"events":[]}',
    "put_items": b'{"items":[]}',
    "put_item": b"{}",
    "put_blocks": b"{}",
    "put_user": b"{}",
    "put_users": b'{"users":[]}',
    "make_token": b'{"user_id":"ann"}',
}
DONE = {"delete_item": 404, "get_item": 404, "delete_user": 404, "get_user": 404}
"""Statuses of operations that are let in but find nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def with_key(text: str) -> tuple[tuple[str, str], ...]:
    return (*JSON, ("authorization", f"Bearer {text}"))


def make_key(server: Server, *scopes: Scope, name: str = "caller") -> tuple[str, str]:
    """Return id and text of a new key, which the server knows."""
    now_ms = server.watch.now_ms
    made = partial(create_key, name=name, scopes=scopes, now_ms=now_ms)
    key, text = write_now(server.store, made)
    server.keys.poll()
    return key.key_id, text


async def call(server: Server, operation: Operation[object], key: str | None) -> Answer:
    path = operation.path.replace("{item_id}", "nothing").replace("{user_id}", "nobody")
    target = f"{path}?q=word" if operation.name == "search_items" else path
    headers = JSON if key is None else with_key(key)
    return await ask(server.app, operation.method, target, BODIES.get(operation.name, b""), headers)


GUARDED = [operation for operation in OPERATIONS if operation.scope is not None]
OPEN = [operation for operation in OPERATIONS if operation.scope is None]


def test_only_health_is_open() -> None:
    assert [operation.name for operation in OPEN] == ["healthz", "readyz"]
    assert all(operation.path.startswith("/v1/") for operation in GUARDED)


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)
async def test_an_operation_is_done_with_its_scope_and_refused_without(
    server: Server, operation: Operation[object]
) -> None:
    assert operation.scope is not None
    others = [scope for scope in SCOPES if scope != operation.scope]
    _, right = make_key(server, operation.scope, name="right")
    _, wrong = make_key(server, *others, name="wrong")
    gone_id, gone = make_key(server, *SCOPES, name="gone")
    write_now(server.store, lambda t: revoke_key(t, gone_id, 1))
    server.keys.poll()
    admitted = await call(server, operation, right)
    assert admitted.status not in (401, 403)
    assert admitted.status in (DONE.get(operation.name, operation.status), 404), admitted
    assert (await call(server, operation, wrong)).problem() == (403, "Authorization")
    for refused in (None, gone, f"{right[:-1]}!", "ns_x_y", "nonsense", "nv_a.b", "no_a.b", "ä"):
        answer = await call(server, operation, refused)
        assert answer.problem() == (401, "Authorization"), refused
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)
async def test_a_token_of_a_user_calls_feed_and_feedback_only(
    server: Server, operation: Operation[object]
) -> None:
    await stocked(server)
    key_id, _ = make_key(server, *SCOPES)
    caller = Caller(key_id, frozenset(SCOPES))
    token, _ = server.keys.make_token(caller, UserId("ann"), 60.0)
    answer = await call(server, operation, token)
    if operation.for_users:
        assert answer.status == operation.status
    else:
        assert answer.problem() == (403, "Authorization")


async def test_without_keys_everybody_may_call(server: Server) -> None:
    await stocked(server)
    assert (await ask(server.app, "POST", "/v1/feed", BODIES["feed"])).status == 200
    assert (await ask(server.app, "GET", "/metrics")).status == 200
    make_key(server, "feed")
    assert (await ask(server.app, "POST", "/v1/feed", BODIES["feed"])).status == 401
    assert (await ask(server.app, "GET", "/metrics")).status == 401
    assert (await ask(server.app, "GET", "/healthz")).status == 200


async def test_revoking_the_last_key_does_not_open_the_server(server: Server) -> None:
    key_id, text = make_key(server, *SCOPES)
    write_now(server.store, lambda t: revoke_key(t, key_id, 1))
    server.keys.poll()
    for key in (None, text):
        assert (await call(server, GUARDED[0], key)).status == 401


async def test_metrics_need_the_scope_admin(server: Server) -> None:
    _, admin = make_key(server, "admin", name="admin")
    _, feed = make_key(server, "feed", name="feed")
    assert (await ask(server.app, "GET", "/metrics", headers=with_key(admin))).status == 200
    assert (await ask(server.app, "GET", "/metrics", headers=with_key(feed))).status == 403


async def shown_to(server: Server, user: str, key: str) -> FeedResponse:
    body = json.dumps({"user_id": user}).encode()
    answer = await ask(server.app, "POST", "/v1/feed", body, with_key(key))
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=FeedResponse)


async def tell(server: Server, decisions: list[str], key: str) -> Answer:
    events = [
        {"event_id": f"e{k}", "decision_id": each, "kind": "impression", "at_ms": 1}
        for k, each in enumerate(decisions)
    ]
    body = json.dumps({"events": events}).encode()
    return await ask(server.app, "POST", "/v1/feedback", body, with_key(key))


async def test_a_token_is_about_its_own_user_only(server: Server) -> None:
    await stocked(server)
    _, backend = make_key(server, "feed", "feedback")
    asked = await ask(server.app, "POST", "/v1/tokens", b'{"user_id":"ann"}', with_key(backend))
    token = json.loads(asked.body)["token"]
    bob = await shown_to(server, "bob", backend)
    ann = await shown_to(server, "ann", token)
    refused = await ask(server.app, "POST", "/v1/feed", b'{"user_id":"bob"}', with_key(token))
    assert refused.problem() == (403, "user_id")
    own, other = ann.items[0].decision_id, bob.items[0].decision_id
    assert (await tell(server, [own], token)).status == 202
    assert (await tell(server, [own, other], token)).problem() == (403, "events")
    forged = await tell(server, [own, "9f:0.forged"], token)
    assert forged.status == 202
    assert len(json.loads(forged.body)["refused"]) == 1
    # The key itself speaks for both.
    assert (await tell(server, [own, other], backend)).status == 202


async def test_a_token_ends_with_its_time_and_with_its_key(server: Server) -> None:
    await stocked(server)
    key_id, backend = make_key(server, "feed")
    body = b'{"user_id":"ann","ttl_s":60}'
    asked = await ask(server.app, "POST", "/v1/tokens", body, with_key(backend))
    token, ends_ms = json.loads(asked.body)["token"], json.loads(asked.body)["ends_ms"]
    assert ends_ms == server.watch.now_ms + 60_000
    assert (await call(server, GUARDED[0], token)).status == 200
    # It has no scope that the key has not.
    assert (await tell(server, [], token)).status == 403
    server.watch.now_ms += 60_000
    assert (await call(server, GUARDED[0], token)).status == 401
    server.watch.now_ms -= 60_000
    write_now(server.store, lambda t: revoke_key(t, key_id, 1))
    server.keys.poll()
    assert (await call(server, GUARDED[0], token)).status == 401


async def test_a_token_of_an_open_server_ends_with_the_first_key(server: Server) -> None:
    await stocked(server)
    asked = await ask(server.app, "POST", "/v1/tokens", b'{"user_id":"ann"}')
    early = json.loads(asked.body)["token"]
    assert (await call(server, GUARDED[0], early)).status == 200
    make_key(server, *SCOPES)
    assert (await call(server, GUARDED[0], early)).status == 401


async def test_a_changed_token_is_refused(server: Server) -> None:
    await stocked(server)
    make_key(server, *SCOPES)
    token, _ = server.keys.make_token(BY_OPERATOR, UserId("ann"), 60.0)
    other, _ = server.keys.make_token(BY_OPERATOR, UserId("bob"), 60.0)
    payload, mac = token.split(".")
    swapped = f"{other.split('.')[0]}.{mac}"
    for changed in (swapped, f"{payload}.", f"{payload}.{mac}A", payload, f"{payload}x.{mac}"):
        assert (await call(server, GUARDED[0], changed)).status == 401, changed
    assert (await call(server, GUARDED[0], token)).status == 200


async def test_the_secret_of_the_folder_opens_its_server_and_no_other(
    server: Server, tmp_path: Path
) -> None:
    await stocked(server)
    make_key(server, "feed")
    own = operator_token(tmp_path, server.watch.now_ms)
    assert (await call(server, GUARDED[0], own)).status == 200
    assert operator_token(tmp_path / "none", 0) == ""
    (tmp_path / "other").mkdir()
    load_secret(tmp_path / "other")
    foreign = operator_token(tmp_path / "other", server.watch.now_ms)
    assert (await call(server, GUARDED[0], foreign)).status == 401
    server.watch.now_ms += 25 * 3_600_000
    assert (await call(server, GUARDED[0], own)).status == 401


async def test_a_key_has_its_rate(server: Server) -> None:
    await stocked(server)
    made = partial(
        create_key, name="slow", scopes=["feed"], now_ms=server.watch.now_ms, per_second=0.2
    )
    _, text = write_now(server.store, made)
    server.keys.poll()
    statuses = [(await call(server, GUARDED[0], text)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = await call(server, GUARDED[0], text)
    assert int(answer.headers["retry-after"]) >= 1
    server.watch.now_ms += 5_000
    assert (await call(server, GUARDED[0], text)).status == 200


async def test_uses_of_keys_are_noted(server: Server) -> None:
    await stocked(server)
    key_id, text = make_key(server, "feed")
    await call(server, GUARDED[0], text)
    server.keys.note_uses()
    ring = KeyRing(server.store, bytes(32), now_ms=server.watch)
    assert ring._keys[key_id].used_ms == server.watch.now_ms


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
async def test_a_server_is_called_by_its_own_names(server: Server, host: str, status: int) -> None:
    names = frozenset({"localhost", "127.0.0.1", "[::1]"})
    app = make_app(server.engine, server.keys, hosts=names)
    answer = await ask(app, "GET", "/healthz", headers=(("host", host),))
    assert answer.status == status
    if status == 421:
        assert answer.problem() == (421, "Host")


@pytest.mark.parametrize(
    ("origin", "site", "status"),
    [
        ("http://127.0.0.1:8000", "same-origin", 200),
        ("http://127.0.0.1:9000", "same-site", 403),
        ("http://127.0.0.1:9000", None, 403),
        ("https://evil.example", "cross-site", 403),
        ("http://[", "same-site", 403),
        ("http://[", None, 403),
        ("null", "cross-site", 403),
        (None, None, 200),
    ],
)
async def test_another_port_of_the_same_site_is_another_origin(
    server: Server, origin: str | None, site: str | None, status: int
) -> None:
    await stocked(server)
    given = {"host": "127.0.0.1:8000", "origin": origin, "sec-fetch-site": site}
    headers = (*JSON, *((name, value) for name, value in given.items() if value is not None))
    assert (await ask(server.app, "POST", "/v1/feed", BODIES["feed"], headers)).status == status
