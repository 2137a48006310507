"""The follower of the current ranker, which pages are blended with beside the bandit's version.

It works like `serve.follower`, except that it falls back to no older ranker: without one the bandit
serves alone, which is always valid. Derivation: `docs/decisions/serve-rankers.md`.
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
    """Polls for the current ranker and hands each new one on."""

    def __init__(
        self, store: Store, rankers: SnapshotStore, swap: Callable[[Ranking | None], None]
    ) -> None:
        """Hand each new ranker to `swap` on the thread that polls; None: no ranker is current."""
        self._store, self._kept, self._swap = store, rankers, swap
        self._seen, self._refused = RankerMove(), RankerMove()
        self._n_refused = 0

    @property
    def version(self) -> int:
        """Version of the last ranker that was handed on; 0: none."""
        return self._seen.version

    @property
    def n_refused(self) -> int:
        """The number of rankers that could not be used, each counted once."""
        return self._n_refused

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Poll until told to stop, also while the store is unavailable."""
        keep_polling(self.poll, stop, poll_s=poll_s, kept=lambda: f"ranker={self._seen.version}")

    def poll(self) -> bool:
        """Hand the current ranker on if it is new; return whether there was one.

        An unusable ranker is tried again at each poll: its disk may have failed for a moment.
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
