"""A policy that judges each user by a model that did not learn from that user.

A version asked about on the very pages that it learned from looks better than it is, since it
follows their noise. Here users are split into folds by a hash, and each fold has a model learned
from the others. Derivation and figures: `docs/decisions/held-out-versions.md`.
"""

import hashlib
from collections.abc import Sequence

from env.interface import Policy
from env.vocabulary import Bools, Context, Floats, UserKey


def fold_of(user: UserKey, n_folds: int) -> int:
    """Return the fold of a user, in [0, n_folds).

    >>> fold_of(UserKey("anna"), 5) == fold_of(UserKey("anna"), 5)
    True
    """
    digest = hashlib.blake2b(user.encode(), digest_size=8, person=b"left out").digest()
    return int.from_bytes(digest, "little") % n_folds


class CrossFittedPolicy:
    """A policy in whose place each fold of users has its own."""

    def __init__(self, whole: Policy, folds: Sequence[Policy]) -> None:
        """Stand for `whole`, which gives name and explorer.

        Args:
            whole: learned from everybody.
            folds: at least 2; the k-th learned from nobody of fold k, and has the same explorer.

        Raises:
            ValueError: there are fewer than 2 folds.
        """
        if len(folds) < 2:
            raise ValueError(f"expected at least 2 folds, got {len(folds)}")
        self.whole, self._folds = whole, tuple(folds)

    @property
    def name(self) -> str:
        """The whole policy's name."""
        return self.whole.name

    @property
    def explorer(self) -> dict[str, object]:
        """The whole policy's explorer."""
        return self.whole.explorer

    @property
    def n_folds(self) -> int:
        """The number of folds."""
        return len(self._folds)

    def score(self, context: Context) -> Floats:
        """Return the scores of the model that did not learn from the page's user, shape (n,)."""
        return self._folds[fold_of(context.user, self.n_folds)].score(context)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self.whole.explore(scores, mask)
