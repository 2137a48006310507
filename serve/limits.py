"""Limits of all values that come over HTTP or from a file, and the definition of an id.

Every string, number and list of `serve.wire.feed` is made of these types, so that decoded values
are safe to store, to encode as features and to send back.
"""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

MAX_BODY_BYTES = 1 << 20
QUEUE = 128
"""Maximum number of requests in flight, per replica."""

RETRY_AFTER_S = 1
"""Seconds after which a refused client may ask again."""

MAX_PAGE = 50
MAX_EVENTS = 500
MAX_ITEMS = 1000
MAX_USERS = 1000
MAX_MS = 4_102_444_799_999
"""The last millisecond of 2099: a valid date in every time zone, and too small for nanoseconds."""

MAX_DWELL_S = 86_400.0
MAX_VECTOR_LENGTH = 1e6
MAX_RATING = 21
MAX_COUNTRIES = 250
MAX_ADDRESS = 2000
MAX_BLOCKS = 100
"""Maximum number of creators, and of tags, that one request may block."""

MAX_ID = 128
ID_RULE = "no control characters, no U+FFFD, and not . or .."
_ID = r"^(?!\.{1,2}$)(?![\s\S]*[\u0000-\u001f\u007f-\u009f\ufffd])"
_SURROGATE = re.compile("[\ud800-\udfff]")
BLOCKS_PATH = "/blocks"
USER_ID_RULE = f"{ID_RULE}; not ending in {BLOCKS_PATH}"
_PERSON_ID = rf"^(?![\s\S]*{BLOCKS_PATH}$){_ID.removeprefix('^')}"
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID, pattern=_ID, description=ID_RULE)]

ExternalUserId = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_ID, pattern=_PERSON_ID, description=USER_ID_RULE),
]
"""An id may hold slashes, so a user's id must not end like the path of the user's blocks."""

Word = Annotated[str, Meta(max_length=64)]
Creator = Annotated[str, Meta(max_length=128)]
ADDRESS_RULE = "an address that can be parsed"
Address = Annotated[str, Meta(max_length=MAX_ADDRESS, description=ADDRESS_RULE)]

Country = Annotated[
    str, Meta(max_length=2, pattern="^([A-Z]{2})?$", description="ISO 3166 alpha-2")
]

Language = Annotated[
    str,
    Meta(max_length=35, pattern="^([A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*)?$", description="ISO 639"),
]

IpAddress = Annotated[
    str,
    Meta(
        max_length=45,
        extra_json_schema={
            "anyOf": [
                {"type": "string", "format": "ipv4"},
                {"type": "string", "format": "ipv6"},
                {"type": "string", "const": ""},
            ]
        },
    ),
]

Market = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166 alpha-2")]
Ms = Annotated[int, Meta(ge=0, le=MAX_MS, description="Unix milliseconds")]
Year = Annotated[int, Meta(ge=0, le=2099)]
Number = Annotated[float, Meta(ge=-1e6, le=1e6)]


def is_id(text: str) -> bool:
    r"""Return whether a text from a path or a file is an `Id`.

    The rule excludes text that a path cannot carry: servers read broken UTF-8 as U+FFFD, clients
    drop dot segments, proxies refuse control characters.

    >>> is_id("family \N{WOMAN}\u200d\N{GIRL}/7"), is_id("a\n"), is_id("..")
    (True, False, False)
    """
    return _is_like(_ID, text)


def is_external_user_id(text: str) -> bool:
    """Return whether a text from a path or a file is an `ExternalUserId`.

    >>> is_external_user_id("ann/b"), is_external_user_id("ann/blocks")
    (True, False)
    """
    return _is_like(_PERSON_ID, text)


def is_address(text: str) -> bool:
    """Return whether an address can be taken apart into host, path and query.

    >>> is_address("clips/a b.mp4"), is_address("http://[::1]/a.mp4"), is_address("http://[")
    (True, True, False)
    """
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True


def _is_like(pattern: str, text: str) -> bool:
    # A decoded body holds no surrogates, so the pattern need not exclude them; if it did,
    # JavaScript without its flag "u" would refuse every emoji.
    fits = 0 < len(text) <= MAX_ID and re.search(pattern, text) is not None
    return fits and _SURROGATE.search(text) is None
