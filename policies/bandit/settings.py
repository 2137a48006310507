"""Arguments of the hybrid bandit: exploration, learning, and bounds on its inputs.

They stand apart from the policy, so that a configuration can be read without loading VW. How the
defaults were chosen, and how the arguments interact: `docs/decisions/hybrid-bandit.md`.

See also `docs/decisions/exploration.md`.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.columns.schema import N_ACTION, N_SHARED
from env.records import unpack_halves
from env.vocabulary import Interaction
from policies.bandit.item_effects import ExplorationBonus
from policies.explorers import SHIPPED, AnyExplorer


class HybridBanditArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of a HybridBandit."""

    explorer: AnyExplorer = SHIPPED  # turns scores into a pmf
    bits: int = 18  # the model has 2^bits weights, 4 bytes each in a replica and 16 in the learner
    # Above 0, for lists of about 100 candidates; halve it for lists of 50, and divide it by 100
    # with `clip_p` .01.
    learning_rate: float = 0.25
    # In [0, 1]; how fast the learning rate falls with the evidence of a feature.
    power_t: float = 0.5
    clip_p: float = 1.0  # in [0, 1]; an importance weight is 1 / max(propensity, clip_p)
    main_sd: float = 0.15  # above 0; prior sd of a column's weight, in sds of the noise
    match_sd: float = 0.6  # above 0; the same for the columns of user and item together
    main_memory: float = 100_000.0  # interactions that main effects remember, at least 1
    item_sd: float = 0.2  # above 0; prior sd of items' own effects, in sds of the noise
    item_memory: float = 500.0  # impressions of an item that are remembered, at least 1
    optimism: float = 0.8  # at least 0; sds of its effect that an item's score is raised by
    newcomer_optimism: float = -1.0  # at least -1; relative increase of this for a new user
    # Above 0; answered cards of a user at which half of the increase is left.
    newcomer_evidence: float = 20.0
    max_feature: float = 100.0  # a feature further from 0 is refused
    max_reward: float = 100.0  # a reward further from 0 is refused
    max_score: float = 1000.0  # a prediction further from 0 means that the model is poisoned

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

        >>> " ".join(HybridBanditArgs(bits=20).command()[:7])
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
        """Return the arguments that a fold depends on: VW's and those of both kinds of effects."""
        names = ("main_sd", "match_sd", "main_memory", "item_sd", "item_memory")
        return [*self.command(), *(f"{name}={getattr(self, name)}" for name in names)]

    def exploration_bonus(self) -> ExplorationBonus:
        """Return the exploration bonus, on which scores depend and learning does not."""
        return ExplorationBonus(self.optimism, self.newcomer_optimism, self.newcomer_evidence)

    def refusals(self, interactions: Sequence[Interaction]) -> list[str]:
        """Return for each interaction the reason why it must not be learned from; empty if it may.

        One bad number (a propensity of 0, an infinite reward, a huge feature) would make every
        later prediction worthless, without an error.
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
    """Return which rows have the expected width and all numbers within the bound."""
    nothing = bytes(2 * width)
    fits = [len(row) == 2 * width for row in halves]
    rows = b"".join(row if fit else nothing for row, fit in zip(halves, fits, strict=True))
    values = np.abs(unpack_halves(rows)).reshape(len(fits), width)
    within: list[bool] = np.all(values <= bound, axis=1).tolist()
    return [fit and small for fit, small in zip(fits, within, strict=True)]


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")
