"""Which version is current, of the policy and of the ranker: one row kind, guarded by epochs.

A writer begins an epoch, and older epochs can then activate nothing. So a learner that was paused
and resumes cannot overwrite its successor, and of two operators who activate a ranker at the same
time one is refused. Rejected alternatives: `docs/decisions/serve-versions.md`.

See also `docs/decisions/serve-rankers.md`.
"""

from serve.store.store import Activation, ActivationName, Store, Transaction, View

NOTHING = Activation()
"""What is current before anything was activated."""


class ActivationConflict(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """Another writer has begun a newer epoch: this one must not activate anything."""


def begin_epoch(transaction: Transaction, name: ActivationName = "policy") -> int:
    """Begin the next epoch and return it; older epochs can no longer activate."""
    epoch = transaction.newest_epoch(name) + 1
    transaction.set_epoch(name, epoch)
    return epoch


def require_epoch(view: View, epoch: int, name: ActivationName = "policy") -> None:
    """Raise `ActivationConflict` unless an epoch is the newest."""
    newest = view.newest_epoch(name)
    if epoch != newest:
        raise ActivationConflict(
            f"expected epoch {epoch} of the {name} to be the newest, got {newest}: another writer "
            "has made one current since, or is about to"
        )


def activate(
    transaction: Transaction, activation: Activation, name: ActivationName = "policy"
) -> None:
    """Make a version current; raises `ActivationConflict` unless its epoch is the newest."""
    require_epoch(transaction, activation.epoch, name)
    transaction.add_activation(name, activation)


def activate_after(
    transaction: Transaction, known: Activation, version: int, digest: str, name: ActivationName
) -> Activation:
    """Make a version current in an epoch of its own, and return the activation.

    Args:
        known: the activation that the caller takes for the current one.
        version: 0: nothing is current any more.
        digest: of its manifest.
        name: of what is activated.

    Raises:
        ActivationConflict: `known` is not current; nothing was written.
    """
    require_epoch(transaction, known.epoch, name)
    activation = Activation(version, begin_epoch(transaction, name), digest=digest)
    activate(transaction, activation, name)
    return activation


def current_activation(view: View, name: ActivationName) -> Activation | None:
    """Return the newest version of the newest epoch that activated one; None: there is none."""
    return next(iter(view.activations_after(name, 0, 0, limit=1)), None)


def current_version(store: Store) -> Activation | None:
    """Return the current version of the policy; None: there is none."""
    with store.view() as view:
        return current_activation(view, "policy")


def all_versions(store: Store) -> list[Activation]:
    """Return all versions of the policy ever published, ordered by log offset."""
    with store.view() as view:
        return view.activations("policy")
