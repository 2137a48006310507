"""HTTP request and response types for users; see `serve.wire.feed` and `serve.wire.users`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from env.vocabulary import CreatorId, Profile, UserId
from serve.limits import MAX_BLOCKS, Country, Creator, Language, Ms, Word, Year


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


class ProfileBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A user's profile, as it is registered.

    Attributes:
        os: with its version or without, as "Android 14".
        time_zone: IANA name; empty: the country's most populous zone.
        registered_ms: 0: the time when the server first sees the user.
        birth_year: 0 if unknown; the market's least age then applies.
    """

    country: Country = ""
    language: Language = ""
    time_zone: Word = ""
    device: Word = ""
    os: Word = ""
    apps: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=500)] = ()
    cohort: Word = ""
    tags: Annotated[tuple[Word, ...], Meta(max_length=100)] = ()
    registered_ms: Ms = 0
    follows: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=1000)
    ] = ()
    birth_year: Year = 0
    device_model: Word = ""

    def profile(self) -> Profile:
        """Return the profile of this description."""
        return Profile(
            country=self.country,
            language=self.language,
            time_zone=self.time_zone,
            device=self.device,
            os=self.os,
            apps=self.apps,
            cohort=self.cohort,
            tags=self.tags,
            registered_ms=self.registered_ms,
            follows=tuple(CreatorId(creator) for creator in self.follows),
            birth_year=self.birth_year,
            device_model=self.device_model,
        )


class UserResponse(msgspec.Struct, frozen=True):
    """A user's id and present profile."""

    user_id: UserId
    profile: Profile
