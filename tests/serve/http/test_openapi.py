"""The OpenAPI document: a field is required if it is always there, and has its meaning in words."""

from typing import Any

import msgspec
import pytest

from env.feedback import KINDS, Signal, Signals
from serve.audit.response import DayBody, GuaranteeBody
from serve.http.endpoints import OPERATIONS
from serve.http.openapi import openapi
from serve.wire.feed import CardBody, FeedRequest, FeedResponse

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Any:
    return msgspec.json.decode(msgspec.json.encode(openapi()))


def schema_of(document: Any, kind: type) -> Schema:
    schema: Schema = document["components"]["schemas"][kind.__name__]
    return schema


def test_the_document_lists_the_signals_of_the_settings() -> None:
    gift = Signal("money", currency="EUR", most=9.0)
    event: Any = openapi(Signals({"gift": gift}))["components"]
    properties = event["schemas"]["Event"]["properties"]
    assert properties["kind"]["enum"] == [*KINDS, "gift"]
    assert "gift: 0 to 9 EUR" in properties["value"]["description"]


def test_a_field_that_is_left_out_at_its_default_is_optional(document: Any) -> None:
    assert schema_of(document, FeedRequest)["required"] == ["user_id"]
    assert schema_of(document, FeedResponse)["required"] == ["page_id", "items"]


def test_a_field_that_is_always_sent_is_required(document: Any) -> None:
    schema = schema_of(document, GuaranteeBody)
    assert schema["required"] == list(schema["properties"])
    assert "unreachable" in schema["required"]


def test_every_body_of_a_request_leaves_out_what_has_a_default(document: Any) -> None:
    for operation in OPERATIONS:
        if operation.body is not type(None):
            fields = msgspec.structs.fields(operation.body)
            needed = [field.encode_name for field in fields if field.required]
            assert schema_of(document, operation.body)["required"] == needed, operation.name


def test_no_schema_has_what_a_generator_misreads(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, inner in schema["properties"].items():
            assert not {"default", "prefixItems"} & set(inner), (name, field)
            assert {"type", "$ref", "anyOf"} & set(inner), (name, field)


def test_a_tuple_is_a_list_of_its_length(document: Any) -> None:
    promoted = schema_of(document, DayBody)["properties"]["promoted"]
    assert promoted["items"] == {"type": "integer"}
    assert (promoted["minItems"], promoted["maxItems"]) == (3, 3)


def test_meaning_and_default_stand_in_the_description(document: Any) -> None:
    request = schema_of(document, FeedRequest)
    assert request["description"] == "Asks for a page."
    assert request["properties"]["size"]["description"] == "Number of cards wanted. Default: 10."
    card = schema_of(document, CardBody)
    assert card["properties"]["propensity"]["description"].startswith("The exact probability")
    item = document["components"]["schemas"]["ItemBody"]["properties"]
    assert item["title"]["description"] == 'As shown on the card. Default: "".'
    scene = document["components"]["schemas"]["SceneBody"]["properties"]
    assert scene["at"]["description"].startswith("Used only if the server's clock is simulated.")
