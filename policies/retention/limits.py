"""What a trained policy may not do whatever it earns, and the multipliers that hold it to that.

    most_hate       at most this share of cards is answered by "not interested"
    least_exposure  at least this share of cards is of the tail: items that had no more exposures
                    so far than half of the items (`env.supply.Stock.is_tail`)

Training maximises the reward subject to these, by the Lagrangian: each limit has a multiplier of at
least 0, which rises while the limit is broken and falls while there is slack. With f the share that
an iteration's cards had, b the bound and s = 1 for "at most", -1 for "at least",

    v = clip(s (f - b) / b, -1, 1)    I <- max(0, I + INTEGRAL v)    l = max(0, I + PROPORTIONAL v)

which is the controller of Stooke, Achiam and Abbeel (Responsive Safety in Reinforcement Learning
by PID Lagrangian Methods, ICML 2020, algorithm 2). Dual ascent alone, which is I, oscillates, since
the share follows the multiplier with a lag; the proportional term damps that. Their derivative is
left out: of a share that is counted from some dozens of events it is noise. v is relative, so that
one pair of gains serves both limits, and cut, so that a bound far out of reach moves no faster. Of
what is rare an iteration shows next to nothing, so f is a running mean from b on that goes
n b / ENOUGH of the way to the n cards of an iteration, all of it where they are to have ENOUGH
events.

Why the tail: of fairness of exposure (Singh and Joachims, Fairness of Exposure in Rankings, KDD
2018) it is the group that popularity takes it from (Abdollahpouri, Burke and Mobasher, Managing
Popularity Bias in Recommender Systems, FLAIRS 2019, whose measure of the long tail in lists this
is). The world's uploads begin in it with no exposure, so one bound is a quota for new items too.
What an item had is observed, in the world's columns and in the feed's. Rejected: a floor for each
creator, whose exposures a ranker cannot see (a creator gives up when uploads stay unseen, which the
items' floor prevents); one for each topic (32 multipliers, and a topic is no party that is owed
something). A uniform policy gives the tail about half.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Floats

INTEGRAL = 0.1
PROPORTIONAL = 1.0
ENOUGH = 100.0
"""Events from which a share is known to about a tenth."""
_STATE = ("_integral", "_shares", "_multipliers")


class Limit(NamedTuple):
    """A bound on a share of cards.

    Attributes:
        name: of it in `Limits`.
        event: which cards are counted, by the name that `info` has.
        bound: in (0, 1).
        sign: 1 if the share must be at most the bound, -1 if at least.
        is_chance: whether the event is up to chance when the card is chosen.
    """

    name: str
    event: str
    bound: float
    sign: float
    is_chance: bool

    def is_met(self, share: float) -> bool:
        """Whether a share is within the bound.

        >>> Limit("least_exposure", "tail", 0.2, -1.0, False).is_met(0.15)
        False
        """
        return self.sign * (share - self.bound) <= 0.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on a policy; None: none.

    Attributes:
        most_hate: of cards answered by "not interested", in (0, 1).
        least_exposure: of cards of the tail, in (0, 1).
    """

    most_hate: float | None = None
    least_exposure: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no share.

        Raises:
            ValueError: a bound is outside (0, 1).
        """
        for name in self.__struct_fields__:
            bound = getattr(self, name)
            if bound is not None and not 0.0 < bound < 1.0:
                raise ValueError(f"expected {name} in (0, 1), got {bound}")

    def listed(self) -> tuple[Limit, ...]:
        """Return those that there are."""
        limits = []
        if self.most_hate is not None:
            limits.append(Limit("most_hate", "not_interested", self.most_hate, 1.0, True))
        if self.least_exposure is not None:
            limits.append(Limit("least_exposure", "tail", self.least_exposure, -1.0, False))
        return tuple(limits)


class Held(NamedTuple):
    """How a limit was kept in an iteration.

    Attributes:
        name: of the limit.
        share: running mean of it, of the cards before they were learned from.
        multiplier: after it.
    """

    name: str
    share: float
    multiplier: float


class Multipliers:
    """Those of a training's limits; live as long as it and are saved with it."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        """Begin with multipliers of 0.

        Args:
            limits: at least one.
        """
        self._names = tuple(limit.name for limit in limits)
        self._bounds = np.array([limit.bound for limit in limits])
        self._signs = np.array([limit.sign for limit in limits])
        self._integral, self._multipliers = np.zeros((2, len(limits)))
        self._shares: Floats = self._bounds

    @property
    def held(self) -> tuple[Held, ...]:
        """How limits were kept in the last iteration; before the first, as if just met."""
        told = (self._names, self._shares.tolist(), self._multipliers.tolist())
        return tuple(Held(*held) for held in zip(*told, strict=True))

    def follow(self, events: Floats) -> Floats:
        """Return the multipliers after an iteration, shape (n_limits,), at least 0.

        Args:
            events: 1 where a card of it had a limit's event, else 0, shape (n, n_limits).
        """
        step = np.minimum(len(events) * self._bounds / ENOUGH, 1.0)
        self._shares = self._shares + step * (events.mean(axis=0) - self._shares)
        broken = self._signs * (self._shares - self._bounds) / self._bounds
        error = np.clip(broken, -1.0, 1.0)
        self._integral = np.maximum(self._integral + INTEGRAL * error, 0.0)
        self._multipliers = np.maximum(self._integral + PROPORTIONAL * error, 0.0)
        return self._multipliers

    def state(self) -> dict[str, Any]:
        """Return the multipliers and what they came from."""
        return {name: np.array(getattr(self, name)) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of another one."""
        for name in _STATE:
            setattr(self, name, np.array(state[name]))
