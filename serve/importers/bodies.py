"""Conversion of external records to bodies of the API, so files and requests have equal limits."""

from pathlib import Path
from typing import TypeVar

import msgspec

from serve.codec import misfit
from serve.importers.bad_file import BadFile
from serve.limits import ID_RULE

B = TypeVar("B", bound=msgspec.Struct)


def to_body(path: Path, line: int, cells: object, kind: type[B], *, strict: bool = True) -> B:
    """Return a record of a file as the API would accept it.

    Args:
        line: line of the record, from 1.
        cells: values by field.
        kind: a body of `serve.items_wire` or `serve.people_wire`.
        strict: False also accepts numbers written as text.

    Raises:
        BadFile: a value does not fit; with line and field.
    """
    try:
        return msgspec.convert(cells, kind, strict=strict)
    except msgspec.ValidationError as error:
        problem = misfit(error).problem
        is_id_rule = problem.field == "item_id" and "regex" in problem.detail
        detail = f"expected {ID_RULE}" if is_id_rule else problem.detail
        raise BadFile(path, detail[:1].lower() + detail[1:], line, problem.field) from None
