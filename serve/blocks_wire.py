"""HTTP request and response types for users' blocks; see `serve.wire`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from env.vocabulary import CreatorId, UserId
from serve.limits import MAX_BLOCKS, Creator, Word


class BlocksRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Creators and tags that a user blocks or unblocks.

    Attributes:
        creators: ids of the creators; the user is no longer shown their items.
        tags: the user is no longer shown items with these; compared without case and a leading #.
        wanted: true unblocks these creators and tags.
    """

    creators: Annotated[
        tuple[Annotated[Creator, Meta(min_length=1)], ...], Meta(max_length=MAX_BLOCKS)
    ] = ()
    tags: Annotated[
        tuple[Annotated[Word, Meta(min_length=1)], ...], Meta(max_length=MAX_BLOCKS)
    ] = ()
    wanted: bool = False


class BlocksResponse(msgspec.Struct, frozen=True):
    """All blocks of a user.

    Attributes:
        creators: blocked ones, oldest first, then creators with two cards marked "not interested".
        tags: blocked ones in the form in which they are compared, oldest first.
    """

    user_id: UserId
    creators: tuple[CreatorId, ...]
    tags: tuple[str, ...]
