"""HTTP request and response types for users; see `serve.wire.feed` and `serve.wire.users`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from env.vocabulary import CreatorId, Profile, UserId
from serve.limits import (
    MAX_BLOCKS,
    MAX_USERS,
    Country,
    Creator,
    ExternalUserId,
    Language,
    Ms,
    Word,
    Year,
)


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


class UserBody(ProfileBody, frozen=True, kw_only=True, omit_defaults=True):
    """A user and their profile.

    Attributes:
        user_id: the caller's id.
    """

    user_id: ExternalUserId


class UsersRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Users to register or whose profiles to change, each once."""

    users: Annotated[tuple[UserBody, ...], Meta(max_length=MAX_USERS)]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for i, body in enumerate(self.users):
            if body.user_id in seen:
                raise ValueError(
                    f"Expected a new id in field `users[{i}].user_id`, got a repeated one"
                )
            seen.add(body.user_id)


class UsersResponse(msgspec.Struct, frozen=True):
    """Counts of added, changed and unchanged users; all changes are on disk."""

    added: int
    changed: int
    unchanged: int


class UserResponse(msgspec.Struct, frozen=True):
    """A user's id and present profile."""

    user_id: UserId
    profile: Profile
