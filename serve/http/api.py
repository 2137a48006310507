"""The HTTP edge: one plain ASGI app that checks requests and calls the engine.

It validates size, format, types, ranges and browser origin, so that nothing behind it has to. Tests
drive the app without a server, and Ray Serve mounts the same app. Rejected alternatives:
`docs/decisions/serve-http-api.md`. Admission control: `docs/decisions/serve-admission.md`.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from serve.access.callers import ANYBODY, AccessDenied, Caller, KeyRing
from serve.feed.engine import Engine
from serve.http.endpoints import OPERATIONS, Operation, Parameters
from serve.http.openapi import openapi
from serve.http.scrape import CONTENT_TYPE, scrape
from serve.limits import MAX_BODY_BYTES, QUEUE, RETRY_AFTER_S
from serve.monitoring.metrics import Metrics
from serve.store.store import StoreUnavailable
from serve.wire.codec import (
    JSON,
    PROBLEM,
    Decoder,
    ProblemError,
    answer_format,
    body_format,
    encode,
    problem,
)
from serve.wire.feed import Problem


class FullError(Exception):
    """The maximum number of requests is in flight; the client may ask again later."""


class Admission:
    """The request slots of one app; `async with` takes one and gives it back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_in_hand = 0

    def check(self) -> None:
        """Raise `FullError` if no slot is free now."""
        if self._n_in_hand >= self._limit:
            raise FullError

    async def __aenter__(self) -> None:
        """Take a slot, then let every request that has arrived be counted.

        Raises:
            FullError: no slot is free.
        """
        self.check()
        self._n_in_hand += 1
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._n_in_hand -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._n_in_hand -= 1


logger = logging.getLogger(__name__)
WEB = Path(__file__).with_name("web")
REFERENCE = Path(__file__).with_name("reference")
PREFLIGHT_S = 600
"""Seconds for which a browser remembers that another site's page may call the API."""
BODY_TIMEOUT_S = 30.0
UNROUTED = "none"
"""Operation label, in the metrics, of requests that match no operation of the API."""

_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; media-src *; img-src * data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_MEDIA = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Awaitable[Response]]


def make_app(
    engine: Engine,
    keys: KeyRing,
    metrics: Metrics | None = None,
    *,
    web: Path = WEB,
    queue: int = QUEUE,
    origins: tuple[str, ...] = (),
    hosts: frozenset[str] | None = None,
) -> Starlette:
    """Return the app that serves an engine, which its owner closes.

    Args:
        engine: answers the requests.
        keys: says who may call which operation; its owner keeps it current.
        metrics: counts the requests; the app makes its own if None.
        web: folder of the page at `/`; each file in it is served as `/web/NAME`.
        queue: maximum number of requests in flight, at least 1; further ones are answered 429.
        origins: further sites whose pages may call the API from a browser.
        hosts: names by which requests may call this server; None: any.
    """
    metrics = metrics or Metrics()
    admission = Admission(queue)
    routes = [
        Route(
            operation.path.replace("}", ":path}"),
            _endpoint(operation, engine, keys, metrics, admission, origins),
            methods=[operation.method],
        )
        for operation in OPERATIONS
    ]
    return Starlette(
        routes=[
            *routes,
            *_documents(engine, keys, metrics),
            *_pages(web, "/", "/web"),
            *_pages(REFERENCE, "/docs", "/docs"),
        ],
        middleware=[*_naming(hosts), *_sharing(origins)],
        exception_handlers={
            HTTPException: _counted(_refuse, metrics),
            Exception: _counted(_apologise, metrics),
        },
    )


def _sharing(origins: tuple[str, ...]) -> list[Middleware]:
    """Return what tells browsers that pages of these sites may read the answers."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=sorted({operation.method for operation in OPERATIONS}),
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
            max_age=PREFLIGHT_S,
        )
    ]


def _endpoint(
    operation: Operation[Any],
    engine: Engine,
    keys: KeyRing,
    metrics: Metrics,
    admission: Admission,
    origins: tuple[str, ...],
) -> Endpoint:
    read = operation.read or Decoder(operation.body).decode
    # Health checks are never refused: they matter most under load.
    places = admission if operation.path.startswith("/v1/") else Admission(sys.maxsize)

    async def answer(request: Request) -> tuple[Response, object]:
        form, raw, body = JSON, b"", None
        _check_origin(request, origins)
        caller = _admit(request, operation, keys)
        if operation.body is not type(None):
            form = body_format(request.headers.get("content-type", ""))
            form_out = answer_format(request.headers.get("accept", ""), form)
            places.check()
            raw = await _read_body(request)
        else:
            form_out = answer_format(request.headers.get("accept", ""), form)
        async with places:
            if operation.body is not type(None):
                body = read(raw, form)
            _check_query(request, operation)
            values = {**request.query_params, **request.path_params}
            parameters = Parameters(values, caller, keys)
            result = await operation.call(engine, body, parameters)
            content = b"" if operation.answer is None else encode(result, form_out)
        media = None if operation.answer is None else form_out
        return Response(content, operation.status, media_type=media), result

    async def endpoint(request: Request) -> Response:
        began = perf_counter()
        result: object = None
        try:
            response, result = await answer(request)
        except Exception as error:  # noqa: BLE001 - every client gets an answer
            response = _answer_to(error, operation.name)
        metrics.answered(operation.name, response.status_code, perf_counter() - began, result)
        return response

    return endpoint


def _answer_to(error: Exception, operation: str) -> Response:
    match error:
        case ProblemError() if error.problem.status == 429:
            return _again(429, error.problem.detail, error.problem.field)
        case ProblemError():
            return _problem(error.problem)
        case AccessDenied():
            return _deny(error)
        case FullError():
            return _again(429, "the server has as much in hand as it takes; ask again")
        case ClientDisconnect():
            return Response(status_code=400)  # the client is gone
        case StoreUnavailable():
            logger.error("operation=%s store=unavailable", operation, exc_info=error)
            return _again(503, "the store is busy, away or its disk is full; ask again")
        case _:
            logger.error("operation=%s", operation, exc_info=error)
            return _mistake()


def _admit(request: Request, operation: Operation[Any], keys: KeyRing) -> Caller:
    """Return the caller of a request, or raise `AccessDenied`."""
    if operation.scope is None:
        return ANYBODY
    caller = keys.admit(_authorization(request), operation.scope)
    if caller.user is not None and not operation.for_users:
        raise AccessDenied(403, f"expected a key for {operation.name}, got the token of a user")
    return caller


def _authorization(request: Request) -> str:
    return request.headers.get("authorization", "")


def _documents(engine: Engine, keys: KeyRing, metrics: Metrics) -> list[Route]:
    document = encode(openapi(engine.signals), JSON)

    async def describe(request: Request) -> Response:
        return Response(document, media_type=JSON)

    async def measure(request: Request) -> Response:
        try:
            keys.admit(_authorization(request), "admin")
        except AccessDenied as error:
            return _deny(error)
        overview = await asyncio.to_thread(engine.lookout.look)
        if overview.readings is not None:
            await engine.shelf.refresh(overview.readings.catalogue_offset)
        text = scrape(metrics, overview, engine.shelf.n_listed)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return [Route("/openapi.json", describe), Route("/metrics", measure)]


def _pages(folder: Path, page: str, below: str) -> list[Route]:
    """Return the routes of a folder's files under a path, and of its index at the page's."""
    files = sorted(path for path in folder.glob("*") if path.suffix in _MEDIA)
    names = [(f"{below}/{path.name}", path) for path in files]
    names += [(page, path) for path in files if path.name == "index.html"]
    return [Route(name, _file(path)) for name, path in names]


def _file(path: Path) -> Endpoint:
    async def send(request: Request) -> Response:
        return FileResponse(path, media_type=_MEDIA[path.suffix], headers=_SECURITY)

    return send


async def _read_body(request: Request) -> bytes:
    """Return a body that is not too large, not compressed and not too slow in coming."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise ProblemError(415, f"expected no encoding, got {encoding}", "Content-Encoding")
    announced = request.headers.get("content-length", "0")
    if len(announced) > 10 or (announced.isdecimal() and int(announced) > MAX_BODY_BYTES):
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_stream(request)
    except TimeoutError as error:
        raise ProblemError(408, f"expected the body within {BODY_TIMEOUT_S:g} s") from error


async def _read_stream(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _check_origin(request: Request, origins: tuple[str, ...]) -> None:
    """Refuse a request that a page of an unknown site makes a browser send to this server."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if request.method in ("GET", "HEAD") or origin in origins:
        return
    foreign = origin is not None and not _is_of(origin, request.headers.get("host"))
    # "same-site" is another port or a neighbour's subdomain. A proxy may have changed the host, so
    # a browser's word that it is the same origin counts for more than the names.
    if site in ("cross-site", "same-site") or (site is None and foreign):
        raise ProblemError(
            403, "expected a request from this site's pages or one of server.origins", "Origin"
        )


def _is_of(origin: str, host: str | None) -> bool:
    """Return whether an Origin names this host; one that cannot be parsed names none."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


class _HostCheck:
    """Answers 421 to a request that calls the server by a name that is none of its own.

    Otherwise a page of another site could call a server on this machine in its own name, by a DNS
    entry that changes to 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "http" and not self._is_known(scope):
            reason = "expected one of this server's names (server.hosts)"
            await _problem(problem(421, reason, "Host"))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_known(self, scope: ASGIScope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"host"]
        return not given or _host_name(given[0].decode("latin-1")) in self._hosts


def _naming(hosts: frozenset[str] | None) -> list[Middleware]:
    return [] if hosts is None else [Middleware(_HostCheck, hosts=hosts)]


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port.

    >>> _host_name("Feed.Example:80"), _host_name("[::1]:80"), _host_name("[::1]")
    ('feed.example', '[::1]', '[::1]')
    """
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower()


def _check_query(request: Request, operation: Operation[Any]) -> None:
    """Refuse a parameter that the operation does not have: it is most likely misspelt."""
    known = [name for name, _ in operation.query]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no query parameter"
            raise ProblemError(400, f"expected {expected}, got {name}", name)
        if given.count(name) > 1:
            raise ProblemError(400, f"expected it once, got it {given.count(name)} times", name)


def _too_large() -> ProblemError:
    return ProblemError(413, f"expected at most {MAX_BODY_BYTES} bytes")


def _problem(about: Problem) -> Response:
    return Response(encode(about, JSON), about.status, media_type=PROBLEM)


def _deny(error: AccessDenied) -> Response:
    if error.status == 429:
        return _again(429, str(error))
    response = _problem(problem(error.status, str(error), "Authorization"))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _again(status: int, reason: str, field: str = "") -> Response:
    """Return a problem response that asks the client to repeat the request a little later."""
    response = _problem(problem(status, reason, field))
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _mistake() -> Response:
    return _problem(problem(500, "the mistake is in the server's log"))


def _counted(handler: Handler, metrics: Metrics) -> Handler:
    async def count(request: Request, error: Exception) -> Response:
        began = perf_counter()
        response = await handler(request, error)
        metrics.answered(UNROUTED, response.status_code, perf_counter() - began, None)
        return response

    return count


async def _refuse(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = _problem(problem(status, f"{request.method} {request.url.path}"))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _apologise(request: Request, error: Exception) -> Response:
    """Answer after an internal error outside the operations; Starlette logs the error."""
    return _mistake()
