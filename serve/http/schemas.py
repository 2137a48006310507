"""This module turns the wire types into JSON schemas from which generators make correct types.

A field is required if every document has it. Defaults stand in the descriptions, since
openapi-typescript takes a field with a `default` for one that is always there. The docstrings of
the types describe their fields. Rejected alternatives: `docs/decisions/serve-http-api.md`.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import msgspec
from msgspec import inspect as types

REF = "#/components/schemas/{name}"
_ATTRIBUTE = re.compile(r"^    (\w+): ", re.MULTILINE)
Schema = dict[str, Any]


def components(kinds: list[type], records: Mapping[type, type]) -> dict[str, Schema]:
    """Return the schemas of types and of all types inside them, by name.

    `records` gives the record that a body becomes: its docstring describes the fields of the same
    name that the body's does not.
    """
    _, made = msgspec.json.schema_components(kinds, ref_template=REF)
    structs = {
        info.cls.__name__: info for kind in kinds for info in _structs(types.type_info(kind))
    }
    return {name: _improve(schema, structs[name], records) for name, schema in made.items()}


def _structs(info: Any) -> Iterator[types.StructType]:
    """Yield the structs inside a type, itself included."""
    match info:
        case types.StructType():
            yield info
            inner = [field.type for field in info.fields]
        case types.Metadata():
            inner = [info.type]
        case types.UnionType():
            inner = list(info.types)
        case types.VarTupleType() | types.ListType():
            inner = [info.item_type]
        case types.DictType():
            inner = [info.value_type]
        case _:
            inner = []
    for kind in inner:
        yield from _structs(kind)


def _improve(schema: Schema, info: types.StructType, records: Mapping[type, type]) -> Schema:
    about, fields = describe(info.cls)
    for base in info.cls.__mro__[1:]:
        fields = describe(base)[1] | fields
    if info.cls in records:
        fields = describe(records[info.cls])[1] | fields
    properties = schema["properties"]
    always = not info.cls.__struct_config__.omit_defaults
    return {
        **schema,
        "description": about,
        "required": list(properties) if always else schema["required"],
        "properties": {
            field.encode_name: _property(properties[field.encode_name], fields.get(field.name, ""))
            for field in info.fields
        },
    }


def _property(schema: Schema, about: str) -> Schema:
    """Return a property's schema with its meaning and default in words."""
    schema = _lists(schema)
    if "enum" in schema:
        schema["type"] = "string"
    rules = [kind.pop("description", "") for kind in (schema, *schema.get("anyOf", []))]
    said = [_sentence(text) for text in (about, *rules) if text]
    if "default" in schema:
        said.append(f"Default: {msgspec.json.encode(schema.pop('default')).decode()}.")
    return {**schema, "description": " ".join(said)} if said else schema


def _lists(schema: Schema) -> Schema:
    """Return a schema whose tuples are lists of a fixed length, which every generator knows."""
    schema = deepcopy(schema)
    if kinds := schema.pop("prefixItems", None):
        distinct = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
        schema["items"] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    return schema


def describe(kind: type) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of its class, and of each attribute.

    >>> from serve.wire.feed import Refusal
    >>> describe(Refusal)
    ('An event that was refused; sending it again does not help.', {...})
    """
    about, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
    pieces = _ATTRIBUTE.split(listed)[1:]
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    return _line(about), {name: _line(text) for name, text in pairs}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _line(text: str) -> str:
    return " ".join(text.split())
