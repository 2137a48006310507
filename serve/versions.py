"""Rows of published versions, which only the learner of the newest epoch writes.

A learner begins an epoch when it starts, and older epochs can then no longer publish. A learner
that was paused and resumes cannot overwrite its successor. Rejected alternatives:
`docs/decisions/serve-versions.md`.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serve.store import Store, Transaction, View


class Version(NamedTuple):
    """A published version of the policy.

    Attributes:
        version: number, rising with each publication.
        epoch: epoch of its learner.
        offset: log offset up to which it has learned.
        digest: digest of the snapshot's manifest.
    """

    version: int
    epoch: int
    offset: int
    digest: str


class StaleEpoch(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """A newer learner has taken over: this one must not publish and should stop."""


def begin_epoch(transaction: "Transaction") -> int:
    """Begin the next epoch and return it; older epochs can no longer publish."""
    epoch = transaction.newest_epoch() + 1
    transaction.set_epoch(epoch)
    return epoch


def require_epoch(view: "View", epoch: int) -> None:
    """Check that an epoch is the newest.

    Raises:
        StaleEpoch: it is not.
    """
    newest = view.newest_epoch()
    if epoch != newest:
        raise StaleEpoch(f"expected epoch {newest}, got {epoch}: another learner runs")


def publish_version(transaction: "Transaction", version: Version) -> None:
    """Make a version the current one.

    Raises:
        StaleEpoch: its epoch is not the newest.
    """
    require_epoch(transaction, version.epoch)
    transaction.add_version(version)


def current_version(store: "Store") -> Version | None:
    """Return the newest version of the newest epoch that published; None: there is none."""
    with store.view() as view:
        return view.current_version()


def all_versions(store: "Store") -> list[Version]:
    """Return all versions ever published, ordered by log offset."""
    with store.view() as view:
        return view.versions()
