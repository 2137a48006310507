"""The blended policy combines the bandit's scores with the retention ranker's values.

Each candidate's score moves from the bandit towards the ranker as evidence about the user and the
item grows. A page can be recomputed from its logged features and arguments alone. Derivation and
rejected alternatives: `docs/decisions/score-blending.md`.
"""

import math
from typing import Protocol

import msgspec
import numpy as np

from env.columns import schema
from env.columns.scales import EVIDENCE_SCALE, REWARDED_SCALE
from env.columns.schema import action_index
from env.interface import Policy
from env.users.fold import LONG_DECAY
from env.vocabulary import Bools, Context, Features, Float32s, Floats
from policies.bandit.item_effects import EVIDENCE
from policies.explorers import SHIPPED, AnyExplorer, explorer_args, has_support

ITEM_EVIDENCE = action_index(schema.ITEM_EVIDENCE)
MOST_CARDS = 2_000.0
"""The evidence column cannot tell larger counts of answered cards apart."""


class RankerValues(Protocol):
    """The part of a ranker that the blend uses."""

    def scores(self, user: Float32s, items: Float32s) -> Floats:
        """Return each candidate's value in nats, shape (n,)."""
        ...


class BlendSettings(msgspec.Struct, frozen=True):
    """Settings of the blend."""

    weight: float = 1.0  # greatest share of the ranker, in [0, 1]; 0 leaves the bandit alone
    item_half: float = 30.0  # n0, an item's rewarded impressions at half of its share, above 0
    person_half: float = 60.0  # c0, a user's answered cards at half of their share, above 0
    least_spread: float = 0.05  # s0 in nats, above 0; a smaller spread is not widened
    explorer: AnyExplorer = SHIPPED  # turns the blended scores into a pmf

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
    """Logged arguments of a blended page; with the bandit's version they determine its scores.

    Unknown fields are ignored, so that pages of a later release can be read.
    """

    ranker: int  # generation of the ranker, from 1
    digest: str  # sha256 of its bytes, in hex
    settings: BlendSettings = BlendSettings()


def blend_args(args: dict[str, object]) -> BlendArgs:
    """Return the blend arguments that a page logged.

    Raises:
        msgspec.ValidationError: they belong to another policy, or one is out of range.
    """
    return msgspec.convert(args, BlendArgs)


class BlendedPolicy:
    """A frozen bandit and a frozen ranker as one pure policy."""

    def __init__(self, bandit: Policy, ranker: RankerValues, args: BlendArgs) -> None:
        """Blend a bandit, whose version stays in the name, with the ranker that `args` name."""
        self._bandit, self._ranker, self.args = bandit, ranker, args

    @property
    def name(self) -> str:
        """`blend@VERSION`, with the bandit's version."""
        return f"blend@{self._bandit.name.partition('@')[2]}"

    @property
    def explorer(self) -> dict[str, object]:
        """The arguments, as the log returns them."""
        args: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(self.args))
        return args

    def gates(self, features: Features) -> Floats:
        """Return the ranker's share of each candidate's score, shape (n,) in [0, 1)."""
        cards = answered_cards(features.shared)
        impressions = rewarded_impressions(features.actions)
        user = cards / (cards + self.args.settings.person_half)
        gates: Floats = self.args.settings.weight * user * impressions
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
    """Return the number of cards a user has answered, at most `MOST_CARDS`.

    The column holds e = (1 - d^c) / (1 - d) for c cards, where d is the decay per card.
    """
    decayed = math.expm1(min(max(EVIDENCE_SCALE.by * float(shared[EVIDENCE]), 0.0), 50.0))
    left = 1.0 - (1.0 - LONG_DECAY) * decayed
    if left <= LONG_DECAY**MOST_CARDS:
        return MOST_CARDS
    return math.log(left) / math.log(LONG_DECAY)


def rewarded_impressions(actions: Float32s) -> Floats:
    """Return the number of rewarded impressions of each candidate, shape (n,)."""
    coded = REWARDED_SCALE.by * actions[:, ITEM_EVIDENCE].astype(np.float64)
    return np.asarray(np.expm1(np.clip(coded, 0.0, 50.0)))


def _dealt(scores: Floats, values: Floats, gates: Floats, least: float) -> Floats:
    """Return the values rescaled to the scores' gate-weighted mean and spread."""
    weights = gates / gates.sum()
    middle, spread = _moments(scores, weights)
    value_middle, value_spread = _moments(values, weights)
    scale = spread / max(value_spread, least)
    dealt: Floats = middle + scale * (values - value_middle)
    return dealt


def _moments(values: Floats, weights: Floats) -> tuple[float, float]:
    """Return weighted mean and standard deviation; the order of summation is always the same."""
    middle = float(np.add.reduce(weights * values))
    return middle, math.sqrt(float(np.add.reduce(weights * (values - middle) ** 2)))
