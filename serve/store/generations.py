"""Rows of published versions, which only the learner of the newest epoch writes.

A learner begins an epoch when it starts, and older epochs can then no longer publish. A learner
that was paused and resumes cannot overwrite its successor. Rejected alternatives:
`docs/decisions/serve-versions.md`.

See also `docs/decisions/serve-rankers.md`.
"""

from serve.store.store import RankerActivation, Store, Transaction, Version, View


class ActivationConflict(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """Another ranker was activated meanwhile."""


def move_ranker(
    transaction: Transaction, known: RankerActivation, version: int, digest: str
) -> RankerActivation:
    """Activate a ranker (version 0: none) and return the activation.

    Raises:
        ActivationConflict: `known` is not the last activation; nothing was written.
    """
    last = transaction.ranker_move()
    if last != known:
        raise ActivationConflict(
            f"expected ranker {known.version} to be current (move {known.move}), got "
            f"{last.version} (move {last.move}): another was made current meanwhile"
        )
    move = RankerActivation(known.move + 1, version, digest)
    transaction.add_ranker_move(move)
    return move


class StaleEpoch(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """A newer learner has taken over: this one must not publish and should stop."""


def begin_epoch(transaction: Transaction) -> int:
    """Begin the next epoch and return it; older epochs can no longer publish."""
    epoch = transaction.newest_epoch() + 1
    transaction.set_epoch(epoch)
    return epoch


def require_epoch(view: View, epoch: int) -> None:
    """Raise `StaleEpoch` unless an epoch is the newest."""
    newest = view.newest_epoch()
    if epoch != newest:
        raise StaleEpoch(f"expected epoch {newest}, got {epoch}: another learner runs")


def publish_version(transaction: Transaction, version: Version) -> None:
    """Make a version the current one; raises `StaleEpoch` unless its epoch is the newest."""
    require_epoch(transaction, version.epoch)
    transaction.add_version(version)


def current_version(store: Store) -> Version | None:
    """Return the newest version of the newest epoch that published; None: there is none."""
    with store.view() as view:
        return view.current_version()


def all_versions(store: Store) -> list[Version]:
    """Return all versions ever published, ordered by log offset."""
    with store.view() as view:
        return view.versions()
