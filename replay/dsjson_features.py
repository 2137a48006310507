"""Numeric features of a dsjson context, by feature hashing.

A number counts as itself under its path of names, a text as one indicator; names that begin with an
underscore are skipped. Features are added, with a sign, into a few columns chosen by a hash of the
name (Weinberger, Dasgupta, Langford, Smola and Attenberg, ICML 2009). Consequences:
`docs/decisions/dsjson.md`.
"""

import zlib
from collections.abc import Iterator
from functools import lru_cache

import msgspec
import numpy as np

from env.vocabulary import Floats

N_SHARED = 32
N_ACTION = 32
MAX_VALUE = 1e6
"""Clipping bound of a number, so that a time in milliseconds does not dominate its column."""

_KEPT = 8_192
"""Size of the cache of candidates' columns, since candidates recur."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])


def context_features(context: bytes) -> tuple[Floats, list[Floats]]:
    """Return the shared columns, (N_SHARED,), and each candidate's, (N_ACTION,).

    Args:
        context: `c` as logged, with its candidates in `_multi`.
    """
    members = _members.decode(context)
    candidates = _list.decode(members.pop("_multi"))
    shared = np.zeros(N_SHARED)
    for name, raw in members.items():
        if not name.startswith("_"):
            _add(shared, name, msgspec.json.decode(raw))
    return shared, [_candidate(bytes(raw)) for raw in candidates]


@lru_cache(maxsize=_KEPT)
def _candidate(text: bytes) -> Floats:
    columns = np.zeros(N_ACTION)
    _add(columns, "", msgspec.json.decode(text))
    columns.setflags(write=False)
    return columns


def _add(columns: Floats, name: str, value: object) -> None:
    for feature, amount in _features(name, value):
        place = zlib.crc32(feature.encode())
        columns[(place >> 1) % len(columns)] += amount if place & 1 else -amount


def _features(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Yield each feature below a name with its amount; a null has none."""
    match value:
        case int() | float():
            yield name, min(max(float(value), -MAX_VALUE), MAX_VALUE)
        case str():
            yield f"{name}={value}", 1.0
        case list() | dict():
            for inner, part in _parts(name, value):
                yield from _features(inner, part)
        case _:
            return


def _parts(name: str, value: list[object] | dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the named children of a value; objects of a list share its name, as in VW."""
    if isinstance(value, list):
        for place, part in enumerate(value):
            yield (name if isinstance(part, dict) else f"{name}[{place}]"), part
    else:
        for key, part in value.items():
            if not key.startswith("_"):
                yield f"{name}.{key}", part
