"""Activations of rankers: rows of the store, the last of which names the current ranker.

An activation names its predecessor, so one of two concurrent activations is refused. Activating an
older ranker, or none, is an activation too, so a rollback removes nothing. Rejected alternatives:
`docs/decisions/serve-rankers.md`.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serve.store import Transaction


class RankerMove(NamedTuple):
    """The activation of a ranker."""

    move: int = 0  # number of the activation, from 1; 0: there was none yet
    version: int = 0  # of the ranker; 0: none is current
    digest: str = ""  # of its manifest; empty without a ranker


class StaleMove(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """Another ranker was activated meanwhile."""


def move_ranker(
    transaction: "Transaction", known: RankerMove, version: int, digest: str
) -> RankerMove:
    """Activate a ranker (version 0: none) and return the activation.

    Raises:
        StaleMove: `known` is not the last activation; nothing was written.
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
