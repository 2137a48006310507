"""This module builds the OpenAPI document from the table of operations and the wire types."""

import re
from typing import Any

import msgspec

from env.feedback import SHIPPED, Signals
from env.vocabulary import Item, Profile
from serve.http.endpoints import OPERATIONS, Operation
from serve.http.schemas import REF, Schema, components
from serve.limits import ExternalUserId, Id
from serve.wire.codec import JSON, MSGPACK, PROBLEM
from serve.wire.feed import Problem
from serve.wire.items import ItemBody
from serve.wire.users import ProfileBody, UserBody

_RECORDS: dict[type, type] = {ItemBody: Item, ProfileBody: Profile, UserBody: Profile}
_PATH_PARAMETERS = {"item_id": Id, "user_id": ExternalUserId}
BEARER = "key"
_ABOUT = (
    "A feed that learns from every swipe. Bodies are JSON or msgpack, by Content-Type and Accept. "
    "A field at its default may be left out, and is left out of answers."
)


def openapi(signals: Signals = SHIPPED) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of the API, with the signals that it takes."""
    named = [kind for op in OPERATIONS for kind in (op.body, op.answer) if kind is not None]
    types = [kind for kind in dict.fromkeys(named) if kind is not type(None)]
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nextswipe",
            "version": "1",
            "description": _ABOUT,
        },
        "paths": paths,
        "components": {
            "schemas": _with_signals(components([*types, Problem], _RECORDS), signals),
            "securitySchemes": {BEARER: {"type": "http", "scheme": "bearer"}},
        },
    }


def _with_signals(schemas: dict[str, Schema], signals: Signals) -> dict[str, Schema]:
    """Return the schemas with the names and values of signals in that of an event."""
    kind, value = (schemas["Event"]["properties"][name] for name in ("kind", "value"))
    kind["enum"] = list(signals.rows)
    told = [
        f"{name}: {row.least:g} to {row.most:g} {row.currency or row.unit}"
        for name, row in signals.rows.items()
        if row.value != "none"
    ]
    value["description"] += f" {'; '.join(told)}."
    return schemas


def _describe(operation: Operation[Any]) -> dict[str, object]:
    failures = {str(status): _problem(meaning) for status, meaning in operation.failures}
    if operation.path.startswith("/v1/"):
        failures["421"] = _problem("The server has no such name (`server.hosts`).")
        failures["429"] = _problem(
            "The server is full, or the key or the user asks too often; `Retry-After` says when to "
            "ask again."
        )
    if operation.scope is not None:
        failures["401"] = _problem("The key or token is missing, unknown, revoked or has ended.")
        failures["403"] = _problem(
            f"The key lacks the scope {operation.scope}, or the token is of another user."
        )
    described: dict[str, object] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_tag(operation.path)],
        "responses": {
            str(operation.status): _answer(operation.answer),
            **failures,
            "default": _problem("What was wrong, and with which field."),
        },
    }
    if operation.scope is not None:
        described["security"] = [{BEARER: []}, {}]  # a server without keys asks for none
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if operation.body is not type(None):
        # openapi-python-client refuses a body in a second format; the answers have both.
        described["requestBody"] = {
            "required": True,
            "description": f"Or the same as {MSGPACK}.",
            "content": {JSON: {"schema": _ref(operation.body)}},
        }
    return described


def _tag(path: str) -> str:
    """Return the noun under which an operation is listed.

    >>> _tag("/v1/items/{item_id}"), _tag("/healthz")
    ('items', 'health')
    """
    return path.split("/")[2] if path.startswith("/v1/") else "health"


def _parameters(operation: Operation[Any]) -> list[dict[str, object]]:
    names = re.findall(r"\{(\w+)\}", operation.path)
    path: list[dict[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": _schema(name)} for name in names
    ]
    query: list[dict[str, object]] = [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in operation.query
    ]
    return path + query


def _schema(name: str) -> dict[str, Any]:
    return msgspec.json.schema(_PATH_PARAMETERS[name])


def _answer(kind: type | None) -> dict[str, object]:
    if kind is None:
        return {"description": "Done."}
    return {"description": "Done.", "content": _content(kind)}


def _problem(meaning: str) -> dict[str, object]:
    return {"description": meaning, "content": {PROBLEM: {"schema": _ref(Problem)}}}


def _content(kind: type) -> dict[str, object]:
    schema = {"schema": _ref(kind)}
    return {JSON: schema, MSGPACK: schema}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}
