"""A feed replica's view of the current ranker: followed beside the bandit's versions.

As with these (`serve.follower`), the row in the store is the truth, a ranker is loaded beside
serving and takes its place by one assignment, and one that cannot be used is left alone and said
once. But there is no older one to fall back to: without a ranker the bandit serves alone, which
is always right, while an older ranker may be just what somebody wanted to get rid of.
"""

import logging
from collections.abc import Callable
from threading import Event

from policies.snapshots import SnapshotCorruption, SnapshotStore
from serve.polling import keep_polling
from serve.ranker_rows import RankerMove
from serve.rankers import Ranking, load_ranking
from serve.store import Store

logger = logging.getLogger(__name__)


class RankerFollower:
    """Watches which ranker is current and hands each new one on."""

    def __init__(
        self, store: Store, rankers: SnapshotStore, swap: Callable[[Ranking | None], None]
    ) -> None:
        """Follow the moves in a store.

        Args:
            store: holds the moves.
            rankers: that are kept.
            swap: called with each new one, on the thread that polls; None: none is current.
        """
        self._store, self._kept, self._swap = store, rankers, swap
        self._seen, self._refused = RankerMove(), RankerMove()
        self._n_refused = 0

    @property
    def version(self) -> int:
        """Of the ranker that was handed on last; 0: none."""
        return self._seen.version

    @property
    def n_refused(self) -> int:
        """How many rankers could not be used, each counted once."""
        return self._n_refused

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Poll until told to stop; a store that is away for a while is asked again."""
        keep_polling(self.poll, stop, poll_s=poll_s, kept=lambda: f"ranker={self._seen.version}")

    def poll(self) -> bool:
        """Hand the current ranker on if it is new; return whether there was one.

        One that cannot be used is tried again each time: its disk may have failed for a moment.
        """
        with self._store.view() as view:
            move = view.ranker_move()
        if move.move <= self._seen.move:
            return False
        try:
            ranking = self._load(move)
        except (SnapshotCorruption, FileNotFoundError) as error:
            self._refuse(move, error)
            return False
        self._swap(ranking)
        self._seen = move
        return True

    def _load(self, move: RankerMove) -> Ranking | None:
        if not move.version:
            return None
        return load_ranking(self._kept, move.version, move.digest)

    def _refuse(self, move: RankerMove, error: Exception) -> None:
        if move != self._refused:
            logger.warning(
                "kept ranker=%d, refused ranker=%d: %s", self._seen.version, move.version, error
            )
            self._refused = move
            self._n_refused += 1
