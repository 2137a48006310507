"""The versioned reward function, from the Feedback of one Decision to a number.

Simulation, online learning and replay share it, so a policy is trained on the quantity that it is
evaluated by. It is a weighted sum of signals with two watch thresholds, the valid play and the long
view. Why linear, and rejected alternatives: `docs/decisions/reward.md`.
"""

from collections.abc import Collection, Iterator
from operator import attrgetter

import msgspec

from env.feedback import REACTIONS, SHIPPED, Signals, SignalTally
from env.vocabulary import Feedback

REWARD_VERSION = 1
VALID_PLAY_S = 7.0
LONG_VIEW_S = 18.0


class Reward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the signals; `version` changes whenever the formula does.

    Reactions have a field each, which the closed forms of the simulated world read; all other
    signals have a tally.
    """

    valid_play: float = 0.5
    long_view: float = 0.5
    like: float = 0.5
    comment: float = 0.5
    share: float = 1.0
    follow: float = 1.0
    product_click: float = 0.5
    not_interested: float = -1.0
    version: int = REWARD_VERSION
    tallies: tuple[SignalTally, ...] = SHIPPED.tallies

    @classmethod
    def weighing(
        cls, signals: Signals, *, valid_play: float, long_view: float, version: int
    ) -> "Reward":
        """Return the reward with the weights of a table of signals."""
        return cls(
            valid_play=valid_play,
            long_view=long_view,
            version=version,
            tallies=signals.tallies,
            **{kind: signals.weight(kind) for kind in REACTIONS},
        )

    def of(self, feedback: Feedback, duration_s: float) -> float:
        """Return the reward of the feedback on a seen card; duration 0 means unknown.

        >>> Reward().of(Feedback(seen=True, left=True, dwell_s=9.0, like=True), 30.0)
        1.0
        """
        reward = self.valid_play * is_valid_play(feedback.dwell_s, duration_s)
        reward += self.long_view * is_long_view(feedback.dwell_s, duration_s)
        for weight, did in zip(_weights_of(self), _reactions_of(feedback), strict=True):
            reward += weight * did
        if feedback.others:
            said = dict(feedback.others)
            for tally in self.tallies:
                if tally.name in said:
                    reward += tally.worth(said[tally.name])
        return reward

    def low(self, said: Collection[str] = ()) -> float:
        """Return the smallest possible reward of a card, of which only `said` has a tally."""
        return sum(low for low, _ in self._extremes(said))

    def high(self, said: Collection[str] = ()) -> float:
        """Return the largest possible reward of a card, of which only `said` has a tally."""
        return sum(high for _, high in self._extremes(said))

    def _extremes(self, said: Collection[str]) -> Iterator[tuple[float, float]]:
        for weight in (self.valid_play, self.long_view, *_weights_of(self)):
            yield min(weight, 0.0), max(weight, 0.0)
        for tally in self.tallies:
            if tally.name in said:
                ends = 0.0, tally.worth(tally.least), tally.worth(tally.most)
                yield min(ends), max(ends)


REWARDED = tuple(name for name in Reward.__struct_fields__ if name in REACTIONS)
"""Reactions in the order in which their rewards are added, which the last bit depends on."""

_weights_of = attrgetter(*REWARDED)
_reactions_of = attrgetter(*REWARDED)


def is_valid_play(dwell_s: float, duration_s: float) -> bool:
    """Return whether a view counts as played; duration 0 means unknown.

    >>> is_valid_play(5.0, 5.0), is_valid_play(7.0, 60.0), is_valid_play(7.1, 60.0)
    (True, False, True)
    """
    if 0.0 < duration_s <= VALID_PLAY_S:
        return dwell_s >= duration_s
    return dwell_s > VALID_PLAY_S


def is_long_view(dwell_s: float, duration_s: float) -> bool:
    """Return whether a view counts as long; duration 0 means unknown.

    >>> is_long_view(12.0, 12.0), is_long_view(17.9, 60.0), is_long_view(18.0, 60.0)
    (True, False, True)
    """
    if 0.0 < duration_s <= LONG_VIEW_S:
        return dwell_s >= duration_s
    return dwell_s >= LONG_VIEW_S


def is_censored(feedback: Feedback, duration_s: float) -> bool:
    """Return whether the dwell is unknown: the end was never reported and it was not long yet.

    Learning and estimation leave censored cards out; they are no negatives.
    """
    return not feedback.left and not is_long_view(feedback.dwell_s, duration_s)
