"""The operations of the HTTP API, version 1: one table, from which routes and OpenAPI are made.

An operation names its request and response types and calls the engine; it knows no bytes and no
formats. The documentation therefore always matches the served API.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from env.vocabulary import Item, ItemId, UserId
from serve.access.callers import Caller, KeyRing
from serve.access.keys import Scope
from serve.audit.audit import DEFAULT_UPLOADS, MAX_UPLOADS, answer_audit
from serve.audit.response import Audit
from serve.feed.engine import Engine
from serve.limits import BLOCKS_PATH, ID_RULE, MAX_ID, USER_ID_RULE, is_external_user_id, is_id
from serve.wire.access import TokenRequest, TokenResponse
from serve.wire.codec import EventsDecoder, ProblemError, ReadEvents
from serve.wire.cohorts import CohortsResponse
from serve.wire.feed import FeedbackRequest, FeedbackResponse, FeedRequest, FeedResponse, Health
from serve.wire.items import FoundResponse, ItemBody, ItemsRequest, ItemsResponse
from serve.wire.users import (
    BlocksRequest,
    BlocksResponse,
    ProfileBody,
    UserResponse,
    UsersRequest,
    UsersResponse,
)

MAX_QUERY = 200
OF_ANOTHER = "expected a request about the token's user, got one about another user"
MAX_FOUND = 100
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of path and query, and who asks."""

    values: Mapping[str, str]
    caller: Caller
    keys: KeyRing

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def get(self, name: str, default: str) -> str:
        """Return a parameter of the query, or what stands for it where it was left out."""
        return self.values.get(name, default)


@dataclass(frozen=True, slots=True)
class Operation(Generic[B]):
    """One operation of the API; `call` gets the body and the parameters of path and query."""

    name: str  # in OpenAPI and in metrics
    method: str
    path: str  # with parameters in braces
    summary: str  # one sentence
    call: Callable[[Engine, B, Parameters], Awaitable[object]]
    body: type[B]  # of the request; NoneType: no body
    answer: type | None = None  # type of the response's body; None: no body
    status: int = 200  # of success
    query: tuple[tuple[str, str], ...] = ()  # names and meanings of the query's parameters
    failures: tuple[tuple[int, str], ...] = ()  # further statuses and their meanings
    # Reads a body that need not fit as a whole; its result takes the body's place in `call`.
    read: Callable[[bytes, str], object] | None = None
    scope: Scope | None = None  # that a caller needs; None: anybody may call it
    for_users: bool = False  # a user's token may call it, about that user alone


async def _feed(engine: Engine, body: FeedRequest, asked: Parameters) -> FeedResponse:
    if asked.caller.user not in (None, body.user_id):
        raise ProblemError(403, OF_ANOTHER, "user_id")
    return await engine.feed(body)


async def _feedback(engine: Engine, body: ReadEvents, asked: Parameters) -> FeedbackResponse:
    return await engine.feedback(body.request, body.refused, only=asked.caller.user)


async def _put_items(engine: Engine, body: ItemsRequest, _: Parameters) -> ItemsResponse:
    return await engine.shelf.put_many(body)


async def _search_items(engine: Engine, _: None, parameters: Parameters) -> FoundResponse:
    text = parameters.get("q", "")
    if not 0 < len(text) <= MAX_QUERY:
        raise ProblemError(422, f"expected 1 to {MAX_QUERY} characters, got {len(text)}", "q")
    return await engine.shelf.search(text, _limit(parameters.get("limit", "20")))


async def _put_item(engine: Engine, body: ItemBody, parameters: Parameters) -> Item:
    return await engine.shelf.put(ItemId(_id(parameters, "item_id")), body)


async def _get_item(engine: Engine, _: None, parameters: Parameters) -> Item:
    return await engine.shelf.get(ItemId(_id(parameters, "item_id")))


async def _delete_item(engine: Engine, _: None, parameters: Parameters) -> None:
    await engine.shelf.delete(ItemId(_id(parameters, "item_id")))


async def _put_users(engine: Engine, body: UsersRequest, _: Parameters) -> UsersResponse:
    return await engine.put_users(body)


async def _put_user(engine: Engine, body: ProfileBody, parameters: Parameters) -> UserResponse:
    return await engine.put_user(_user_id(parameters), body)


async def _get_user(engine: Engine, _: None, parameters: Parameters) -> UserResponse:
    return await engine.get_user(_user_id(parameters))


async def _delete_user(engine: Engine, _: None, parameters: Parameters) -> None:
    await engine.delete_user(_user_id(parameters))


async def _put_blocks(
    engine: Engine, body: BlocksRequest, parameters: Parameters
) -> BlocksResponse:
    return await engine.blocking.put(_user_id(parameters), body)


async def _get_blocks(engine: Engine, _: None, parameters: Parameters) -> BlocksResponse:
    return await engine.blocking.get(_user_id(parameters))


async def _audit(engine: Engine, _: None, parameters: Parameters) -> Audit:
    return await answer_audit(engine.folds, parameters.values)


async def _cohorts(engine: Engine, _: None, __: Parameters) -> CohortsResponse:
    return engine.cohorts


async def _make_token(_: Engine, body: TokenRequest, asked: Parameters) -> TokenResponse:
    user_id, ttl_s = UserId(body.user_id), body.ttl_s
    return TokenResponse(*asked.keys.make_token(asked.caller, user_id, ttl_s))


async def _healthz(engine: Engine, _: None, __: Parameters) -> Health:
    return engine.lookout.alive()


async def _readyz(engine: Engine, _: None, __: Parameters) -> Health:
    health = await engine.lookout.ready()
    if not health.ready:
        raise ProblemError(503, health.reason)
    return health


_AUDIT = (
    ("market", "home of the uploads that are told of, as GB; else all"),
    ("after", "the upload behind which they begin"),
    ("limit", f"uploads told at most, 0 to {MAX_UPLOADS}, else {DEFAULT_UPLOADS}"),
)

_SEARCH = (("q", "words that begin words of the item"), ("limit", f"1 to {MAX_FOUND}, else 20"))

OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(
        "feed",
        "POST",
        "/v1/feed",
        "Asks for a page of cards.",
        _feed,
        FeedRequest,
        FeedResponse,
        scope="feed",
        for_users=True,
    ),
    Operation(
        "feedback",
        "POST",
        "/v1/feedback",
        "Reports what users did; answered once it is on disk.",
        _feedback,
        FeedbackRequest,
        FeedbackResponse,
        202,
        read=EventsDecoder().read,
        scope="feedback",
        for_users=True,
    ),
    Operation(
        "put_items",
        "POST",
        "/v1/items",
        "Puts items, all or none.",
        _put_items,
        ItemsRequest,
        ItemsResponse,
        scope="catalogue",
    ),
    Operation(
        "search_items",
        "GET",
        "/v1/items",
        "Finds items by words.",
        _search_items,
        type(None),
        FoundResponse,
        query=_SEARCH,
        scope="catalogue",
        failures=((501, "The store keeps no index of words."),),
    ),
    Operation(
        "put_item",
        "PUT",
        "/v1/items/{item_id}",
        "Puts an item.",
        _put_item,
        ItemBody,
        Item,
        scope="catalogue",
    ),
    Operation(
        "get_item",
        "GET",
        "/v1/items/{item_id}",
        "Returns an item.",
        _get_item,
        type(None),
        Item,
        scope="catalogue",
    ),
    Operation(
        "delete_item",
        "DELETE",
        "/v1/items/{item_id}",
        "Takes an item down for good.",
        _delete_item,
        type(None),
        status=204,
        scope="catalogue",
    ),
    Operation(
        "put_users",
        "POST",
        "/v1/users",
        "Registers users or changes their profiles.",
        _put_users,
        UsersRequest,
        UsersResponse,
        scope="users",
    ),
    # Before /users/{user_id}: an id may hold slashes, and the first path that matches is taken.
    Operation(
        "put_blocks",
        "POST",
        f"/v1/users/{{user_id}}{BLOCKS_PATH}",
        "Blocks creators and tags for a user, or takes that back.",
        _put_blocks,
        BlocksRequest,
        BlocksResponse,
        scope="users",
    ),
    Operation(
        "get_blocks",
        "GET",
        f"/v1/users/{{user_id}}{BLOCKS_PATH}",
        "Returns what a user has blocked.",
        _get_blocks,
        type(None),
        BlocksResponse,
        scope="users",
    ),
    Operation(
        "put_user",
        "PUT",
        "/v1/users/{user_id}",
        "Registers a user or changes their profile.",
        _put_user,
        ProfileBody,
        UserResponse,
        scope="users",
    ),
    Operation(
        "get_user",
        "GET",
        "/v1/users/{user_id}",
        "Returns a user's profile.",
        _get_user,
        type(None),
        UserResponse,
        scope="users",
    ),
    Operation(
        "delete_user",
        "DELETE",
        "/v1/users/{user_id}",
        "Forgets a user.",
        _delete_user,
        type(None),
        status=204,
        scope="users",
    ),
    Operation(
        "audit",
        "GET",
        "/v1/audit",
        "Says whether uploads get the audience they are owed, and which break out.",
        _audit,
        type(None),
        Audit,
        query=_AUDIT,
        scope="admin",
    ),
    Operation(
        "cohorts",
        "GET",
        "/v1/cohorts",
        "Lists the cohorts of users by behaviour, named by the tags that they play.",
        _cohorts,
        type(None),
        CohortsResponse,
        scope="admin",
    ),
    Operation(
        "make_token",
        "POST",
        "/v1/tokens",
        "Makes a token with which a browser asks for and reports on one user's cards.",
        _make_token,
        TokenRequest,
        TokenResponse,
        scope="feed",
    ),
    Operation(
        "healthz", "GET", "/healthz", "Says that the process runs.", _healthz, type(None), Health
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Says whether feeds can be answered, and how the learner is.",
        _readyz,
        type(None),
        Health,
        failures=(
            (503, "The database cannot be read, no item is listed, or learning has stopped."),
        ),
    ),
)


def _id(parameters: Parameters, name: str) -> str:
    value = parameters[name]
    if not 0 < len(value) <= MAX_ID:
        raise ProblemError(422, f"expected 1 to {MAX_ID} characters, got {len(value)}", name)
    if not is_id(value):
        raise ProblemError(422, f"expected {ID_RULE}", name)
    return value


def _user_id(parameters: Parameters) -> UserId:
    value = _id(parameters, "user_id")
    if not is_external_user_id(value):
        raise ProblemError(422, f"expected {USER_ID_RULE}", "user_id")
    return UserId(value)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 5 and 1 <= int(text) <= MAX_FOUND):
        raise ProblemError(422, f"expected 1 to {MAX_FOUND}, got {text}", "limit")
    return int(text)
