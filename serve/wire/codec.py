"""Decoding and encoding of bodies as JSON or msgpack, with RFC 9457 problems for misfits.

The Content-Type names the format of a body, and Accept the format of the response; without a
preference both are the same. A body of unnamed format is taken for JSON, so a plain `curl -d`
works. Rejected alternatives: `docs/decisions/serve-http-api.md`.
"""

import re
from http import HTTPStatus
from typing import Annotated, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from serve.limits import MAX_EVENTS, Id
from serve.wire.feed import Event, FeedbackRequest, Problem, Refusal

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"

# Defaults of `curl -d` and `sendBeacon`.
_AS_JSON = {"", JSON, "application/x-www-form-urlencoded", "text/plain"}
_AS_MSGPACK = {MSGPACK, "application/x-msgpack", "application/vnd.msgpack"}

_NAMES = {
    JSON: {JSON, "application/*", "*/*"},
    MSGPACK: {*_AS_MSGPACK, "application/*", "*/*"},
}

_MAX_DETAIL = 300
_FIELD = re.compile(r"field `([^`]*)`")
T = TypeVar("T")


class ProblemError(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.problem = problem(status, detail, field)


def problem(status: int, detail: str, field: str = "") -> Problem:
    """Return the problem of a status; its type is the status alone (RFC 9457, 4.2.1).

    >>> problem(404, "no item 7", "item_id").title
    'Not Found'
    """
    return Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail[:_MAX_DETAIL],
        field=field[:_MAX_DETAIL],
    )


def body_format(content_type: str) -> str:
    """Return `JSON` or `MSGPACK` for a Content-Type header.

    Raises:
        ProblemError: 415, the format is neither.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media in _AS_MSGPACK:
        return MSGPACK
    if media in _AS_JSON or media.endswith("+json"):
        return JSON
    raise ProblemError(415, f"expected {JSON} or {MSGPACK}, got {media}", "Content-Type")


def answer_format(accept: str, question: str) -> str:
    """Return `JSON` or `MSGPACK` for an Accept header; the request's format if both are welcome.

    >>> answer_format("application/json;q=0.5, application/msgpack", JSON)
    'application/msgpack'

    Raises:
        ProblemError: 406, neither is welcome.
    """
    welcome = {JSON: 0.0, MSGPACK: 0.0} if accept.strip() else {JSON: 1.0, MSGPACK: 1.0}
    for part in accept.split(","):
        media, quality = _preference(part)
        for name, before in welcome.items():
            if media in _NAMES[name]:
                welcome[name] = max(before, quality)
    best = max(welcome.values())
    if best <= 0.0:
        raise ProblemError(406, f"expected {JSON} or {MSGPACK}, got {accept}", "Accept")
    return question if welcome[question] == best else max(welcome, key=lambda name: welcome[name])


def encode(answer: object, form: str) -> bytes:
    """Return a response as JSON or msgpack bytes."""
    return msgspec.msgpack.encode(answer) if form == MSGPACK else msgspec.json.encode(answer)


class Decoder(Generic[T]):
    """Decodes bodies of one type, strictly, in both formats."""

    def __init__(self, kind: type[T]) -> None:
        self._json = msgspec.json.Decoder(kind)
        self._msgpack = msgspec.msgpack.Decoder(kind)

    def decode(self, body: bytes, form: str) -> T:
        """Return a decoded body.

        Raises:
            ProblemError: 400, it is not of the format; 422, a field does not fit.
        """
        try:
            return self._msgpack.decode(body) if form == MSGPACK else self._json.decode(body)
        except msgspec.ValidationError as error:
            raise misfit(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProblemError(400, f"expected {form}: {error}") from error


_Lists = dict[str, Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_EVENTS)]]
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LISTS_JSON = msgspec.json.Decoder(_Lists)
_LISTS_MSGPACK = msgspec.msgpack.Decoder(_Lists)


class ReadEvents(NamedTuple):
    """The events of a body that fit their type, and refusals of the others."""

    request: FeedbackRequest
    refused: tuple[Refusal, ...] = ()


class EventsDecoder:
    """Decodes events as a whole and, where one of them does not fit, each on its own."""

    def __init__(self) -> None:
        self._whole = Decoder(FeedbackRequest)
        self._event = Decoder(Event)

    def read(self, body: bytes, form: str) -> ReadEvents:
        """Return the events of a body.

        Raises:
            ProblemError: 400, it is not of the format; 422, it is no list of events.
        """
        try:
            return ReadEvents(self._whole.decode(body, form))
        except ProblemError:
            pieces = _pieces(body, form)
            if pieces is None:
                raise
        events, refused = list[Event](), list[Refusal]()
        for place, piece in enumerate(pieces):
            try:
                events.append(self._event.decode(piece, form))
            except ProblemError as error:
                field = f"events[{place}].{error.problem.field}".rstrip(".")
                refused.append(Refusal(_event_id(piece, form), f"{field}: {error.problem.detail}"))
        return ReadEvents(FeedbackRequest(tuple(events)), tuple(refused))


def _pieces(body: bytes, form: str) -> tuple[msgspec.Raw, ...] | None:
    """Return the bytes of each event; None if the body is no list of events."""
    decoder = _LISTS_MSGPACK if form == MSGPACK else _LISTS_JSON
    try:
        lists = decoder.decode(body)
    except _UNREADABLE:
        return None
    return lists.get("events") if len(lists) == 1 else None


def _event_id(piece: bytes, form: str) -> str:
    """Return the id of an event that does not fit, empty if it has none that fits."""
    decode = msgspec.msgpack.decode if form == MSGPACK else msgspec.json.decode
    try:
        return decode(piece, type=_Named).event_id
    except _UNREADABLE:
        return ""


class _Named(msgspec.Struct):
    event_id: Id


def misfit(error: msgspec.ValidationError) -> ProblemError:
    """Return the problem of a value that does not fit its type, with the path of the field."""
    reason, _, place = str(error).partition(" - at `")
    key = _FIELD.search(reason)
    if place.startswith("key` in `"):
        place = place.removeprefix("key` in `")
    path = place.rstrip("`").removeprefix("$")
    if key is not None:
        path = f"{path}.{key[1]}"
    return ProblemError(422, reason, path.lstrip("."))


def _preference(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if match := re.fullmatch(r"q=([01](?:\.\d{0,3})?)", parameter):
            return media, float(match[1])
    return media, 1.0
