"""The arguments of a VowpalPolicy: how it explores, how it learns, what it refuses to learn from.

Apart from the policy, so that a configuration can be read without loading VW.

`nextswipe bench learner` compares the arguments on the people of one simulated world. Fitted to
KuaiRand-Pure (20,000 swipes a setting, seed 1; draws differ from run to run, and with them the
gains, by some .05), the correlation of prediction and reward was .123 with learning_rate .25 and
power_t 0, .136 with (.25, .25), .108 with (.1, 0), .136 with (1, 0), .128 with (4, .25); a ridge
regression on all at once reached .172. In closed loops the defaults gained .33 over uniformly drawn
cards, a learning_rate of 1 gained .38, gamma 1,000 .25, gamma 100,000 .40, and epsilon .1 .49: in
that world the defaults are on the cautious side.

`clip_p` 1 gives every event of lists of equal length the same weight: the plain regression that
SquareCB is proved for (Foster and Rakhlin 2020). With `clip_p` 0 the same loops gained .11, .11 and
.21 (learning_rate .25, .025 and .0025): VW stays finite at propensities of 1e-3 (its updates are
invariant to importance), but there an event weighs 1,000 times what a sure one does, so the model
follows the noise of a few. The price: where the features cannot express the reward, the fit is best
for what the policy shows, not for all candidates alike; lower `clip_p` for the latter.

The step is `learning_rate` * (events / actions) / max(propensity, clip_p), so the rate belongs to
lists of about 100: halve it for lists of 50, and divide it by 100 with `clip_p` .01 to keep the
largest step.
"""

import msgspec
import numpy as np

from env.features import N_ACTION, N_SHARED
from env.records import unpack_halves
from env.vocabulary import Interaction
from policies.explorers import AnyExplorer, SquareCB


class VowpalArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a VowpalPolicy explores, learns, and what it refuses to learn from.

    Attributes:
        explorer: turns scores into a pmf.
        bits: the model has 2^bits weights, 4 bytes each in a replica and 16 in the learner.
        learning_rate: above 0; for about 100 candidates, see the module's docstring.
        power_t: in [0, 1]; how fast the learning rate falls with the evidence of a feature.
        clip_p: in [0, 1]; an importance weight is 1 / max(propensity, clip_p).
        max_feature: a feature further from 0 is refused.
        max_reward: a reward further from 0 is refused.
        max_score: a prediction further from 0 means that the model is poisoned.
    """

    explorer: AnyExplorer = SquareCB(gamma=10_000.0)
    bits: int = 18
    learning_rate: float = 0.25
    power_t: float = 0.0
    clip_p: float = 1.0
    max_feature: float = 100.0
    max_reward: float = 100.0
    max_score: float = 1000.0

    def __post_init__(self) -> None:
        _require(8 <= self.bits <= 28, "bits", "in [8, 28]", self.bits)
        _require(0.0 < self.learning_rate < np.inf, "learning_rate", "above 0", self.learning_rate)
        _require(0.0 <= self.power_t <= 1.0, "power_t", "in [0, 1]", self.power_t)
        _require(0.0 <= self.clip_p <= 1.0, "clip_p", "in [0, 1]", self.clip_p)

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

    def refusal(self, interaction: Interaction) -> str:
        """Return why an interaction must not reach VW; empty if it may.

        One bad number (a propensity of 0, an infinite reward, a huge feature) would make every
        later prediction of the model worthless, without an error.
        """
        if not abs(interaction.reward) <= self.max_reward:
            return "reward"
        if not 0.0 < interaction.propensity <= 1.0:
            return "propensity"
        if interaction.n_actions < 1:
            return "n_actions"
        if not _is_sound(interaction.shared, N_SHARED, self.max_feature):
            return "shared"
        if not _is_sound(interaction.action, N_ACTION, self.max_feature):
            return "action"
        return ""


def _is_sound(halves: bytes, width: int, bound: float) -> bool:
    if len(halves) != 2 * width:
        return False
    return bool((np.abs(unpack_halves(halves)) <= bound).all())


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")
