"""HTTP types of access: the token with which a browser acts for one user."""

from typing import Annotated

import msgspec
from msgspec import Meta

from serve.limits import ExternalUserId

MAX_TTL_S = 86_400


class TokenRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Asks for a token of a user.

    Attributes:
        user_id: the only user whom requests with the token may be about.
        ttl_s: seconds for which it holds, at most a day.
    """

    user_id: ExternalUserId
    ttl_s: Annotated[int, Meta(ge=1, le=MAX_TTL_S)] = 3600


class TokenResponse(msgspec.Struct, frozen=True):
    """A token, for the header `Authorization: Bearer`.

    Attributes:
        ends_ms: when it ends, Unix milliseconds.
    """

    token: str
    ends_ms: int
