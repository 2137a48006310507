"""Blocks: the creators and tags that a user does not want to see, as the API sets and gets them."""

from collections.abc import Callable
from functools import partial

from env.user_fold import MAX_BLOCKED
from env.users import UserState, blocked_creators
from env.vocabulary import CreatorId, UserId
from serve.blocks_wire import BlocksRequest, BlocksResponse
from serve.codec import ProblemError
from serve.ledger import Ledger, NoRoomError
from serve.reading import read
from serve.store import Store

NO_ROOM = (
    f"expected at most {MAX_BLOCKED} blocked creators and {MAX_BLOCKED} blocked tags of a person "
    "with this request; nothing was blocked: take some back first"
)


class Blocking:
    """Reads and writes users' blocks."""

    def __init__(self, store: Store, ledger: Ledger, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._ledger = ledger
        self._now_ms = now_ms

    async def put(self, user_id: UserId, body: BlocksRequest) -> BlocksResponse:
        """Block or unblock creators and tags; return all of the user's blocks, once on disk.

        No page that is drawn afterwards, on any replica, shows a blocked item to this user.

        Raises:
            ProblemError: 404, the user is unknown; 409, the user would exceed the maximum number of
                blocks, and nothing was blocked.
        """
        work = partial(
            self._ledger.block,
            user_id=user_id,
            creators=tuple(map(CreatorId, body.creators)),
            tags=body.tags,
            wanted=body.wanted,
            at_ms=self._now_ms(),
        )
        try:
            return _response(user_id, await self._ledger.commit(work, durable=True, about=user_id))
        except NoRoomError as error:
            raise ProblemError(409, NO_ROOM) from error

    async def get(self, user_id: UserId) -> BlocksResponse:
        """Return all of a user's blocks.

        Raises:
            ProblemError: 404, the user is unknown.
        """
        person = await read(self._store, lambda view: view.person(user_id), user_id)
        return _response(user_id, person and person.state)


def nobody(user_id: UserId) -> ProblemError:
    """Return the problem for an unknown user id."""
    return ProblemError(404, f"nobody of id {user_id}", "user_id")


def _response(user_id: UserId, state: UserState | None) -> BlocksResponse:
    if state is None:
        raise nobody(user_id)
    return BlocksResponse(user_id, blocked_creators(state), state.blocked_tags)
