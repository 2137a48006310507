"""Which ranker is current: rows of the store, each a move from one ranker to the next.

The last move rules. It is written only by who knows the one before it, so of two that publish at
the same time one is refused, and a follower leaves alone what is no later than what it has. Going
back to an older ranker, or to none, is a move too, so nothing needs to be removed to go back.

Rejected: the newest folder of the store (a ranker would be served the moment it is on disk, nobody
could go back without removing files, and a copied folder would be taken for a publication).
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serve.store import Transaction


class RankerMove(NamedTuple):
    """A ranker became current.

    Attributes:
        move: counts them; 0: there was none yet.
        version: of the ranker; 0: none is current.
        digest: of its manifest; empty if there is none.
    """

    move: int = 0
    version: int = 0
    digest: str = ""


class StaleMove(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """Another ranker became current meanwhile."""


def move_ranker(
    transaction: "Transaction", known: RankerMove, version: int, digest: str
) -> RankerMove:
    """Make a ranker the current one and return the move.

    Args:
        transaction: of the store.
        known: the last move as it was when it was decided to make this one.
        version: of the ranker; 0: none.
        digest: of its manifest.

    Raises:
        StaleMove: there was a later move; nothing was written.
    """
    last = transaction.ranker_move()
    if last != known:
        raise StaleMove(
            f"expected ranker {known.version} to be current (move {known.move}), got "
            f"{last.version} (move {last.move}): another was made current meanwhile"
        )
    move = RankerMove(known.move + 1, version, digest)
    transaction.add_ranker_move(move)
    return move
