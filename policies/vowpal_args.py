"""The arguments of a VowpalPolicy: how it explores, how it learns, what it refuses to learn from.

Apart from the policy, so that a configuration can be read without loading VW.

Chosen in the cold start world of `serve.bench.coldstart_world` and in SwipeEnv
(`serve.bench.coldstart_swipe`): `nextswipe bench coldstart` compares the defaults with linear
bandits and with other explorers over the same scores, and docs/fair-start.md has what it printed.
Worse there: one prior sd for all columns, with more optimism to make up for it, and a gamma of
10,000. Not told apart from the defaults: a `learning_rate` of .1 or .5, an `item_sd` of .15 or .25,
an `item_memory` of 2,000, a gamma of 1,000,000.

A newcomer's optimism goes the other way than usual: none on a first page (`nextswipe bench
newcomers`). In closed loops in which everybody is new (`nextswipe bench learner`) half as much
again for newcomers earned less.

`clip_p` 1 gives every event of lists of equal length the same weight: the plain regression that
SquareCB is proved for (Foster and Rakhlin 2020). With `clip_p` 0 VW stays finite at propensities of
1e-3 (its updates are invariant to importance), but there an event weighs 1,000 times what a sure
one does, so the model follows the noise of a few. The price: where the features cannot express the
reward, the fit is best for what the policy shows, not for all candidates alike; lower `clip_p` for
the latter.

The step is `learning_rate` * (events / actions) / max(propensity, clip_p), so the rate belongs to
lists of about 100: halve it for lists of 50, and divide it by 100 with `clip_p` .01 to keep the
largest step.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.features import N_ACTION, N_SHARED
from env.records import unpack_halves
from env.vocabulary import Interaction
from policies.explorers import AnyExplorer, SquareCB
from policies.optimism import Optimism


class VowpalArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a VowpalPolicy explores, learns, and what it refuses to learn from.

    Attributes:
        explorer: turns scores into a pmf.
        bits: the model has 2^bits weights, 4 bytes each in a replica and 16 in the learner.
        learning_rate: above 0; for about 100 candidates, see the module's docstring.
        power_t: in [0, 1]; how fast the learning rate falls with the evidence of a feature.
        clip_p: in [0, 1]; an importance weight is 1 / max(propensity, clip_p).
        main_sd: above 0; sd of a column's weight in sds of the noise, before it is known.
        match_sd: above 0; the same of the columns of person and item together.
        main_memory: interactions that main effects are learned from, at least 1.
        item_sd: above 0; sd between the effects of items in sds of the noise, before it is known.
        item_memory: impressions of an item that are remembered, at least 1.
        optimism: at least 0; sds of its effect that an item is credited with.
        newcomer_optimism: at least -1; share that this is larger by for a person yet unknown.
        newcomer_evidence: above 0; answered cards of a person at which half of that share is left.
        max_feature: a feature further from 0 is refused.
        max_reward: a reward further from 0 is refused.
        max_score: a prediction further from 0 means that the model is poisoned.
    """

    explorer: AnyExplorer = SquareCB(gamma=100_000.0)
    bits: int = 18
    learning_rate: float = 0.25
    power_t: float = 0.5
    clip_p: float = 1.0
    main_sd: float = 0.15
    match_sd: float = 0.6
    main_memory: float = 100_000.0
    item_sd: float = 0.2
    item_memory: float = 500.0
    optimism: float = 0.8
    newcomer_optimism: float = -1.0
    newcomer_evidence: float = 20.0
    max_feature: float = 100.0
    max_reward: float = 100.0
    max_score: float = 1000.0

    def __post_init__(self) -> None:
        _require(8 <= self.bits <= 28, "bits", "in [8, 28]", self.bits)
        _require(0.0 < self.learning_rate < np.inf, "learning_rate", "above 0", self.learning_rate)
        _require(0.0 <= self.power_t <= 1.0, "power_t", "in [0, 1]", self.power_t)
        _require(0.0 <= self.clip_p <= 1.0, "clip_p", "in [0, 1]", self.clip_p)
        _require(0.0 < self.main_sd <= 1e3, "main_sd", "in (0, 1e3]", self.main_sd)
        _require(0.0 < self.match_sd <= 1e3, "match_sd", "in (0, 1e3]", self.match_sd)
        _require(1.0 <= self.main_memory <= 1e9, "main_memory", "in [1, 1e9]", self.main_memory)
        _require(0.0 < self.item_sd <= 10.0, "item_sd", "in (0, 10]", self.item_sd)
        _require(1.0 <= self.item_memory <= 1e6, "item_memory", "in [1, 1e6]", self.item_memory)
        _require(0.0 <= self.optimism <= 100.0, "optimism", "in [0, 100]", self.optimism)
        _require(
            -1.0 <= self.newcomer_optimism <= 100.0,
            "newcomer_optimism",
            "in [-1, 100]",
            self.newcomer_optimism,
        )
        _require(
            0.0 < self.newcomer_evidence < np.inf,
            "newcomer_evidence",
            "above 0",
            self.newcomer_evidence,
        )

    def command(self) -> list[str]:
        """Return VW's arguments.

        >>> " ".join(VowpalArgs(bits=20).command()[:7])
        '--cb_adf --cb_type mtr --quadratic UA --bit_precision 20'
        """
        options = {
            "--cb_type": "mtr",
            "--quadratic": "UA",
            "--bit_precision": self.bits,
            "--learning_rate": self.learning_rate,
            "--power_t": self.power_t,
            "--clip_p": self.clip_p,
        }
        words = [str(word) for option in options.items() for word in option]
        # Without its counters a reloaded model serialises to other bytes than one that ran on.
        return ["--cb_adf", *words, "--quiet", "--preserve_performance_counters"]

    def learned_under(self) -> list[str]:
        """Return what a fold depends on: VW's arguments and those of both kinds of effects."""
        names = ("main_sd", "match_sd", "main_memory", "item_sd", "item_memory")
        return [*self.command(), *(f"{name}={getattr(self, name)}" for name in names)]

    def hopes(self) -> Optimism:
        """Return the part that scores depend on, and learning does not."""
        return Optimism(self.optimism, self.newcomer_optimism, self.newcomer_evidence)

    def refusals(self, interactions: Sequence[Interaction]) -> list[str]:
        """Return for each interaction why it must not reach VW; empty if it may.

        One bad number (a propensity of 0, an infinite reward, a huge feature) would make every
        later prediction of the model worthless, without an error.
        """
        shared = _are_sound([i.shared for i in interactions], N_SHARED, self.max_feature)
        action = _are_sound([i.action for i in interactions], N_ACTION, self.max_feature)
        return [
            self._refusal(interaction, shared=s, action=a)
            for interaction, s, a in zip(interactions, shared, action, strict=True)
        ]

    def _refusal(self, interaction: Interaction, *, shared: bool, action: bool) -> str:
        if not abs(interaction.reward) <= self.max_reward:
            return "reward"
        if not 0.0 < interaction.propensity <= 1.0:
            return "propensity"
        if interaction.n_actions < 1:
            return "n_actions"
        if not shared:
            return "shared"
        return "" if action else "action"


def _are_sound(halves: Sequence[bytes], width: int, bound: float) -> list[bool]:
    """Return which are as many numbers as expected, all within the bound."""
    nothing = bytes(2 * width)
    fits = [len(row) == 2 * width for row in halves]
    rows = b"".join(row if fit else nothing for row, fit in zip(halves, fits, strict=True))
    values = np.abs(unpack_halves(rows)).reshape(len(fits), width)
    within: list[bool] = np.all(values <= bound, axis=1).tolist()
    return [fit and small for fit, small in zip(fits, within, strict=True)]


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")
