"""Strict importer of users' profiles from CSV, JSON lines or Parquet, all or nothing.

Columns and keys are `user_id` and the fields of `Profile`, checked as the API checks them
(`serve.wire.users.UserBody`). In CSV an empty cell is the default and `|` separates values.
"""

from collections.abc import Iterator
from pathlib import Path

from env.vocabulary import Profile, UserId
from serve.errors import BadFile
from serve.importers.items import read_records, to_body
from serve.wire.users import UserBody

FIELDS = ("user_id", *Profile.__struct_fields__)
SEVERAL = frozenset({"apps", "tags", "follows"})


def read(path: Path) -> list[tuple[UserId, Profile]]:
    """Return the users of a file, by its suffix.

    Raises:
        BadFile: the suffix is none of .csv, .jsonl, .ndjson and .parquet, or the file is invalid;
            with line and column.
    """
    users: dict[UserId, tuple[int, Profile]] = {}
    for line, user_id, profile in _read(path):
        before, _ = users.setdefault(user_id, (line, profile))
        if before != line:
            problem = f"expected each id once, got {user_id!r} of line {before} again"
            raise BadFile(path, problem, line, "user_id")
    return [(user_id, profile) for user_id, (_, profile) in users.items()]


def _read(path: Path) -> Iterator[tuple[int, UserId, Profile]]:
    for line, cells, is_text in read_records(path, FIELDS, "user_id", SEVERAL):
        body = to_body(path, line, cells, UserBody, strict=not is_text)
        yield line, UserId(body.user_id), body.profile()
