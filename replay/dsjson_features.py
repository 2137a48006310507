"""Numbers of a dsjson context, by hashing names: enough for a reward model and a policy of ours.

A line's features are names and texts of any depth, as VW takes them: a number counts as itself
under the names above it, a text as one feature, a name that begins with an underscore as none. They
are added up, with a sign, in a few columns by a hash of the name (Weinberger, Dasgupta, Langford,
Smola and Attenberg, "Feature Hashing for Large Scale Multitask Learning", ICML 2009). What falls
into one column cannot be told apart: a reward model knows less than VW would, and doubly robust
estimates stay unbiased whatever it knows.
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
"""Beyond it a number is cut, so that one time in milliseconds does not drown its column."""

_KEPT = 8_192
"""Candidates whose columns are kept: they come again and again."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])


def context_features(context: bytes) -> tuple[Floats, list[Floats]]:
    """Return the columns of a context.

    Args:
        context: `c` as it stands, with its candidates in `_multi`.

    Returns:
        shared: shape (N_SHARED,).
        actions: of each candidate, shape (N_ACTION,).
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
    """Yield each feature below a name with its amount; a null is none."""
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
    """Yield what is below a name; objects of a list share its name, as in VW."""
    if isinstance(value, list):
        for place, part in enumerate(value):
            yield (name if isinstance(part, dict) else f"{name}[{place}]"), part
    else:
        for key, part in value.items():
            if not key.startswith("_"):
                yield f"{name}.{key}", part
