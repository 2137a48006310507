"""Decisions of our own log grouped into sessions, and into each user's sequence of sessions.

An episode's steps are the cards that were seen and whose end is known. An unseen draw is no step:
nothing depends on it, and its weight of mean 1 drops out. A card whose end was never reported is
missing, with its weight; the log's coverage counts these.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.estimators.trajectories import Trajectories
from replay.evaluate.targets import Target
from replay.source import Batch

_DAY_MS = 86_400_000


def read_sessions(batches: Iterable[Batch], target: Target) -> Trajectories:
    """Return a log's sessions, each an episode; raise ValueError without decisions or pages."""
    steps = _read(batches, target)
    steps = steps.sorted_by(steps.user, steps.session)
    begins = _changes(steps.user) | _changes(steps.session)
    return steps.trajectories(begins, np.where(np.append(begins[1:], True), 0.0, 1.0))


def read_lives(batches: Iterable[Batch], target: Target, day_discount: float) -> Trajectories:
    """Return each user's sessions as one episode that ends with the log.

    Steps within a session are not discounted; between sessions the discount is day_discount ** (UTC
    days from one session's first card to the next one's), with day_discount in (0, 1] (else
    ValueError).
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
    """Decisions with their session's code, one per row."""

    user: Ints
    session: Ints
    at_ms: Ints
    slot: Ints
    reward: Floats
    propensity: Floats
    target: Floats

    def sorted_by(self, *first: Ints) -> "_Steps":
        order = np.lexsort((self.slot, self.at_ms, *first[::-1]))
        return _Steps(*(getattr(self, name)[order] for name in _Steps.__slots__))

    def trajectories(self, begins: Bools, discount: Floats) -> Trajectories:
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
    """Return the mask of rows whose code differs from the previous one, shape (n,)."""
    changes: Bools = np.diff(codes, prepend=codes[0] - 1) != 0
    return changes
