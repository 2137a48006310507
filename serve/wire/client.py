"""A client of the HTTP API: aiohttp and msgpack, typed responses, safe repeats.

It uses the `msgpack` package, which the server does not, so that the two implementations check each
other. Requests that are safe to repeat are sent again when the connection fails or the server sends
Retry-After. Rejected alternatives: `docs/decisions/serve-http-api.md`.
"""

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace, TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgpack
import msgspec

from env.vocabulary import Item
from serve.wire.access import TokenRequest, TokenResponse
from serve.wire.feed import (
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
    Health,
    Problem,
)
from serve.wire.items import FoundResponse, ItemBody, ItemsRequest, ItemsResponse
from serve.wire.users import (
    BlocksRequest,
    BlocksResponse,
    ProfileBody,
    UserResponse,
    UsersRequest,
    UsersResponse,
)

MSGPACK = "application/msgpack"
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 10.0
_BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
T = TypeVar("T")


class ClientError(Exception):
    """A request that failed.

    Attributes:
        problem: the problem that the server returned, if any.
        again_s: seconds after which the server asks for a repeat, if it does.
    """

    def __init__(
        self, message: str, problem: Problem | None = None, again_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.again_s = again_s


class FeedClient:
    """Connections to one server; use it as an async context manager.

    >>> async def first_card() -> str:
    ...     async with Client("http://127.0.0.1:8000") as client:
    ...         page = await client.feed(FeedRequest(user_id="me"))
    ...         return page.items[0].item.title
    """

    def __init__(
        self,
        address: str,
        *,
        repeats: int = 3,
        timeout_s: float = 30.0,
        connections: int = 100,
        key: str | Callable[[], str] = "",
    ) -> None:
        """Prepare a client, which connects at its first request.

        Args:
            address: URL of the server, for example "http://127.0.0.1:8000".
            repeats: maximum number of repeats of one request.
            timeout_s: time limit of one request.
            connections: maximum number of open connections.
            key: API key or token, or a function that returns one for each request; empty: the
                server asks for none.
        """
        self._key = key if callable(key) else lambda: key
        self._address = address.rstrip("/")
        self._repeats = repeats
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections)
        sends = aiohttp.TraceConfig()
        sends.on_request_headers_sent.append(_note_send)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, trace_configs=[sends]
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page; a request without an id gets one, so that a repeat finds the same page."""
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=secrets.token_hex(12))
        return await self._ask("POST", "/v1/feed", FeedResponse, request)

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Report events; return once the accepted ones are on disk."""
        return await self._ask("POST", "/v1/feedback", FeedbackResponse, request)

    async def put_items(self, request: ItemsRequest) -> ItemsResponse:
        """Put items, all or none."""
        return await self._ask("POST", "/v1/items", ItemsResponse, request)

    async def put_item(self, item_id: str, body: ItemBody) -> Item:
        """Put an item and return it."""
        return await self._ask("PUT", f"/v1/items/{quote(item_id, safe='')}", Item, body)

    async def get_item(self, item_id: str) -> Item:
        """Return an item."""
        return await self._ask("GET", f"/v1/items/{quote(item_id, safe='')}", Item)

    async def delete_item(self, item_id: str) -> None:
        """Take an item down for good."""
        await self._send("DELETE", f"/v1/items/{quote(item_id, safe='')}", None)

    async def search_items(self, text: str, limit: int = 20) -> FoundResponse:
        """Find items by words."""
        return await self._ask("GET", f"/v1/items?q={quote(text)}&limit={limit}", FoundResponse)

    async def put_users(self, request: UsersRequest) -> UsersResponse:
        """Register users or change their profiles."""
        return await self._ask("POST", "/v1/users", UsersResponse, request)

    async def make_token(self, request: TokenRequest) -> TokenResponse:
        """Return a token with which a browser acts for one user."""
        return await self._ask("POST", "/v1/tokens", TokenResponse, request)

    async def put_user(self, user_id: str, body: ProfileBody) -> UserResponse:
        """Register a user or change their profile."""
        return await self._ask("PUT", f"/v1/users/{quote(user_id, safe='')}", UserResponse, body)

    async def get_user(self, user_id: str) -> UserResponse:
        """Return a user's profile."""
        return await self._ask("GET", f"/v1/users/{quote(user_id, safe='')}", UserResponse)

    async def delete_user(self, user_id: str) -> None:
        """Forget a user."""
        await self._send("DELETE", f"/v1/users/{quote(user_id, safe='')}", None)

    async def put_blocks(self, user_id: str, body: BlocksRequest) -> BlocksResponse:
        """Block or unblock creators and tags for a user; return all their blocks."""
        path = f"/v1/users/{quote(user_id, safe='')}/blocks"
        return await self._ask("POST", path, BlocksResponse, body)

    async def get_blocks(self, user_id: str) -> BlocksResponse:
        """Return a user's blocks."""
        path = f"/v1/users/{quote(user_id, safe='')}/blocks"
        return await self._ask("GET", path, BlocksResponse)

    async def ready(self) -> Health:
        """Return whether feeds can be answered."""
        return await self._ask("GET", "/readyz", Health)

    async def _ask(
        self, method: str, path: str, kind: type[T], body: msgspec.Struct | None = None
    ) -> T:
        """Send a request and return its typed response.

        Raises:
            ClientError: no connection, a problem, or a response of another type.
        """
        content = await self._send(method, path, body)
        try:
            return msgspec.convert(msgpack.unpackb(content), kind)
        except (ValueError, msgspec.ValidationError) as error:
            raise ClientError(f"{method} {path}: unexpected answer: {error}") from error

    async def _send(self, method: str, path: str, body: msgspec.Struct | None) -> bytes:
        data = None if body is None else msgpack.packb(msgspec.to_builtins(body))
        repeats = 0
        sent: list[str] = []
        while True:
            try:
                return await self._send_once(method, path, data, sent)
            except _BROKEN as error:
                pause_s = FIRST_PAUSE_S * 2**repeats
                if repeats == self._repeats:
                    what = str(error) or type(error).__name__
                    raise ClientError(f"{method} {path}: {what}") from error
            except ClientError as error:
                if method == "DELETE" and len(sent) > 1 and _is_not_found(error):
                    return b""
                if error.again_s is None or repeats == self._repeats:
                    raise
                pause_s = error.again_s
            await asyncio.sleep(pause_s)
            repeats += 1

    async def _send_once(
        self, method: str, path: str, data: bytes | None, sent: list[str]
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("expected an open client; use `async with Client(...)`")
        url, key = f"{self._address}{path}", self._key()
        headers = {"Accept": MSGPACK, "Content-Type": MSGPACK}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        async with self._session.request(
            method, url, data=data, headers=headers, trace_request_ctx=sent
        ) as response:
            content = await response.read()
        if response.status >= 400:
            again = response.headers.get("Retry-After", "")
            again_s = min(float(again), MAX_PAUSE_S) if again.isdecimal() else None
            raise _refused(method, path, response.status, content, again_s)
        return content


async def _note_send(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    """Note each time a request goes out: aiohttp itself repeats deletes whose response was lost."""
    context.trace_request_ctx.append(params.method)


def _is_not_found(error: ClientError) -> bool:
    return error.problem is not None and error.problem.status == HTTPStatus.NOT_FOUND


def _refused(
    method: str, path: str, status: int, content: bytes, again_s: float | None
) -> ClientError:
    try:
        problem = msgspec.json.decode(content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ClientError(f"{method} {path}: {status}: {content[:200]!r}", again_s=again_s)
    where = f" ({problem.field})" if problem.field else ""
    return ClientError(f"{method} {path}: {status}: {problem.detail}{where}", problem, again_s)
