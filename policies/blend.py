"""Bandit and retention ranker in one page: each candidate is scored by whom the evidence supports.

    f_i = (1 - g_i) mu_i + g_i q_i            g_i = weight * n_i / (n_i + n0) * c / (c + c0)
    q_i = m_mu + s_mu (v_i - m_v) / max(s_v, s0)

with mu the bandit's scores, v the ranker's values in nats, n_i the rewarded impressions of the item
and c the answered cards of the person. m and s are mean and standard deviation over the page's
candidates, weighted by g. So the ranker deals out anew the very scores that the bandit gave those
candidates of which it knows enough; the sum of the page's scores stays what it was, and new videos
are neither pushed out nor let in by the ranker's level or temper, which differ between rankers. A
person or an item without evidence has the bandit's score to the last bit.

Everything is read from the page's logged features and the policy's logged arguments, so a page can
be drawn again and asked about other policies. Sessions are not in the features, so a person's
evidence is counted in answered cards: `env.features` logs a decayed count of them, from which the
count is recovered.

Rejected: the ranker's values as they are (a confident network would leave no slot to new videos, a
timid one all), standardising over all candidates (values of items that it never learned about move
those of all others), a scale fitted offline (one more generation to keep in step), and a coin a
page between both policies (its propensity would depend on what is not in the page).
"""

import math
from typing import Protocol

import msgspec
import numpy as np

from env.features import DYNAMIC, N_STATIC
from env.interface import Policy
from env.user_fold import LONG_DECAY
from env.vocabulary import Bools, Context, Features, Float32s, Floats
from policies.explorers import AnyExplorer, SquareCB, explorer_args, has_support
from policies.optimism import EVIDENCE, EVIDENCE_SCALE

ITEM_EVIDENCE = N_STATIC + DYNAMIC.index("item_evidence")
LOG_MUCH = math.log1p(1000.0)
"""What `env.features` divides log1p(rewarded impressions) by."""

MOST_CARDS = 2_000.0
"""More answered cards than this cannot be told apart."""


class Values(Protocol):
    """What the blend asks of a ranker."""

    def scores(self, user: Float32s, items: Float32s) -> Floats:
        """Return each candidate's value in nats, shape (n,)."""
        ...


class Retention(msgspec.Struct, frozen=True):
    """How a ranker is blended in, as it is configured; unknown arguments pass, see `BlendArgs`.

    Attributes:
        weight: what g is at most, in [0, 1]; 0 is the bandit.
        item_half: n0, rewarded impressions at which half of an item's part is reached, above 0.
        person_half: c0, the same in answered cards of a person, above 0.
        least_spread: s0 in nats, above 0: values that differ by less are not spread out further.
        explorer: turns the blended scores into a pmf.
    """

    weight: float = 1.0
    item_half: float = 30.0
    person_half: float = 60.0
    least_spread: float = 0.05
    explorer: AnyExplorer = SquareCB(gamma=100_000.0)

    def __post_init__(self) -> None:
        above = (self.item_half, self.person_half, self.least_spread)
        if not (0.0 <= self.weight <= 1.0 and all(0.0 < one < math.inf for one in above)):
            raise ValueError(
                "weight must be in [0, 1], item_half, person_half and least_spread above 0, got "
                f"{self.weight}, {', '.join(map(str, above))}"
            )
        if not has_support(self.explorer):
            raise ValueError(
                "explorer must give every candidate a probability: "
                f"got {explorer_args(self.explorer)}; take one with some exploration of its own"
            )


class BlendArgs(msgspec.Struct, frozen=True, tag="blend", tag_field="kind"):
    """All that a blended page depends on besides the bandit's version: its explorer arguments.

    As with explorers, what is not known passes, so that pages of a later release can be read.

    Attributes:
        ranker: generation of the ranker, from 1.
        digest: sha256 of its bytes, in hex.
        settings: of the blend.
    """

    ranker: int
    digest: str
    settings: Retention = Retention()


def blend_args(args: dict[str, object]) -> BlendArgs:
    """Return what a blended page's logged arguments say.

    Raises:
        msgspec.ValidationError: they are of another policy, or out of range.
    """
    return msgspec.convert(args, BlendArgs)


class BlendedPolicy:
    """A frozen bandit and a frozen ranker as one policy; pure."""

    def __init__(self, bandit: Policy, ranker: Values, args: BlendArgs) -> None:
        """Blend these.

        Args:
            bandit: of which the scores, and the version in the name, are used.
            ranker: the one that `args` name.
            args: of the blend.
        """
        self._bandit, self._ranker, self.args = bandit, ranker, args

    @property
    def name(self) -> str:
        """`blend@VERSION`, the version being the bandit's."""
        return f"blend@{self._bandit.name.partition('@')[2]}"

    @property
    def explorer(self) -> dict[str, object]:
        """The arguments, as the log gives them back."""
        args: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(self.args))
        return args

    def gates(self, features: Features) -> Floats:
        """Return the ranker's part of each candidate's score, shape (n,) in [0, 1)."""
        cards = answered_cards(features.shared)
        impressions = rewarded_impressions(features.actions)
        person = cards / (cards + self.args.settings.person_half)
        gates: Floats = self.args.settings.weight * person * impressions
        gates /= impressions + self.args.settings.item_half
        return gates

    def score(self, context: Context) -> Floats:
        """Return the blended scores, shape (n,), in the bandit's unit: expected reward."""
        features, scores = context.features, self._bandit.score(context)
        gates = self.gates(features)
        if not gates.any():
            return scores
        values = self._ranker.scores(features.shared, features.actions)
        least = self.args.settings.least_spread
        blended: Floats = scores + gates * (_dealt(scores, values, gates, least) - scores)
        return blended

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self.args.settings.explorer.pmf(scores, mask)


def answered_cards(shared: Float32s) -> float:
    """Return how many cards a person has answered, at most `MOST_CARDS`.

    The column holds e = (1 - d^c) / (1 - d) of c cards, d being the decay a card.

    Args:
        shared: a page's shared columns.
    """
    decayed = math.expm1(min(max(EVIDENCE_SCALE * float(shared[EVIDENCE]), 0.0), 50.0))
    left = 1.0 - (1.0 - LONG_DECAY) * decayed
    if left <= LONG_DECAY**MOST_CARDS:
        return MOST_CARDS
    return math.log(left) / math.log(LONG_DECAY)


def rewarded_impressions(actions: Float32s) -> Floats:
    """Return of how many impressions of each candidate the reward is known, shape (n,)."""
    coded = LOG_MUCH * actions[:, ITEM_EVIDENCE].astype(np.float64)
    return np.asarray(np.expm1(np.clip(coded, 0.0, 50.0)))


def _dealt(scores: Floats, values: Floats, gates: Floats, least: float) -> Floats:
    """Return the values in the scores' unit: of their mean and spread where the gates are open."""
    weights = gates / gates.sum()
    middle, spread = _moments(scores, weights)
    value_middle, value_spread = _moments(values, weights)
    scale = spread / max(value_spread, least)
    dealt: Floats = middle + scale * (values - value_middle)
    return dealt


def _moments(values: Floats, weights: Floats) -> tuple[float, float]:
    """Return weighted mean and standard deviation, summed in one order whatever the machine."""
    middle = float(np.add.reduce(weights * values))
    return middle, math.sqrt(float(np.add.reduce(weights * (values - middle) ** 2)))
