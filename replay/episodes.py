"""Decisions of our own log in the order in which they were lived: sessions, and lives of sessions.

An episode's steps are the cards that were seen and whose end is known. What a page drew and nobody
saw is no step: nothing hangs on it, so that its weight has mean 1 and is left out. A card whose end
was never reported is missing between its neighbours, and so is its weight; see the log's coverage
for how many these are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.sources import Batch
from replay.targets import Target
from replay.trajectories import Trajectories

_DAY_MS = 86_400_000


def read_sessions(batches: Iterable[Batch], target: Target) -> Trajectories:
    """Return the sessions of a log, each an episode that nothing follows.

    Raises:
        ValueError: no decision, or decisions without pages, as in a foreign log.
    """
    steps = _read(batches, target)
    steps = steps.sorted_by(steps.user, steps.session)
    begins = _changes(steps.user) | _changes(steps.session)
    return steps.trajectories(begins, np.where(np.append(begins[1:], True), 0.0, 1.0))


def read_lives(batches: Iterable[Batch], target: Target, day_discount: float) -> Trajectories:
    """Return what each person of a log lived, each an episode that ends with the log.

    Within a session nothing is discounted; from one to the next, day_discount ** (days from the
    first card of the one to that of the other, by the UTC calendar).

    Args:
        batches: of our own log.
        target: the target policy.
        day_discount: in (0, 1].

    Raises:
        ValueError: as `read_sessions`, or a discount out of range.
    """
    if not 0.0 < day_discount <= 1.0:
        raise ValueError(f"day_discount must be in (0, 1], got {day_discount}")
    steps = _read(batches, target)
    steps = steps.sorted_by(steps.user)
    begins = _changes(steps.user)
    first = np.maximum.accumulate(
        np.where(begins | _changes(steps.session), np.arange(len(begins)), 0)
    )
    gap_days = np.diff(steps.at_ms[first] // _DAY_MS, append=0)
    last = np.append(begins[1:], True)
    discount = np.where(last, 0.0, day_discount ** np.where(last, 0, gap_days))
    return steps.trajectories(begins, discount)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Decisions with their session's code, one row each."""

    user: Ints
    session: Ints
    at_ms: Ints
    slot: Ints
    reward: Floats
    propensity: Floats
    target: Floats

    def sorted_by(self, *first: Ints) -> "_Steps":
        """Return the steps by these keys, then by time and slot."""
        order = np.lexsort((self.slot, self.at_ms, *first[::-1]))
        return _Steps(*(getattr(self, name)[order] for name in _Steps.__slots__))

    def trajectories(self, begins: Bools, discount: Floats) -> Trajectories:
        """Return them as episodes that begin where `begins` is true."""
        episode = np.cumsum(begins) - 1
        user = self.user[np.flatnonzero(begins)]
        return Trajectories(user, episode, self.reward, self.propensity, self.target, discount)


def _read(batches: Iterable[Batch], target: Target) -> _Steps:
    codes: dict[tuple[int, str], int] = {}
    blocks = []
    for batch in batches:
        session = np.full(len(batch), -1)
        for page, rows in batch.pages:
            key = (int(batch.user[rows[0]]), page.context.session)
            session[rows] = codes.setdefault(key, len(codes))
        if (session < 0).any():
            raise ValueError(
                "sessions need a log that says which decisions were one, got decisions without a "
                "page; evaluate a foreign log decision by decision"
            )
        taken = batch.of_chosen(target.probabilities(batch))
        blocks.append(
            (batch.user, session, batch.at_ms, batch.slot, batch.reward, batch.propensity, taken)
        )
    if not blocks:
        raise ValueError("expected a log with decisions, got none")
    return _Steps(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def _changes(codes: Ints) -> Bools:
    """Return where a code differs from the one before, and in the first row, shape (n,)."""
    changes: Bools = np.diff(codes, prepend=codes[0] - 1) != 0
    return changes
