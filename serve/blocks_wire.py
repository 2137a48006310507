"""What comes and goes over HTTP about what a person wants no more of; see `serve.wire`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from env.vocabulary import CreatorId, UserId
from serve.limits import MAX_BLOCKS, Creator, Word


class BlocksRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a person wants no more of, or again.

    Attributes:
        creators: whose items they are not shown any more.
        tags: of items that they are not shown any more; compared without case and a leading #.
        wanted: true takes the blocks of these creators and tags back.
    """

    creators: Annotated[
        tuple[Annotated[Creator, Meta(min_length=1)], ...], Meta(max_length=MAX_BLOCKS)
    ] = ()
    tags: Annotated[
        tuple[Annotated[Word, Meta(min_length=1)], ...], Meta(max_length=MAX_BLOCKS)
    ] = ()
    wanted: bool = False


class BlocksResponse(msgspec.Struct, frozen=True):
    """What a person is not shown now.

    Attributes:
        creators: blocked, oldest first, then those of two cards that were not of interest.
        tags: blocked, as they are compared; oldest first.
    """

    user_id: UserId
    creators: tuple[CreatorId, ...]
    tags: tuple[str, ...]
