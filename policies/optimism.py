"""The exploration bonus raises an item's score by a multiple of its posterior sd.

The bonus is part of the score, so every candidate keeps a positive, logged probability. It may
differ between new and well-known users. Rejected alternatives: `docs/decisions/exploration.md`.
"""

import math

import msgspec

from env.features import SHARED
from env.vocabulary import Float32s

EVIDENCE = SHARED.index("evidence")
EVIDENCE_SCALE = 5.0
"""The encoder divides log1p(evidence) by this."""

MOST_LOG_EVIDENCE = 50.0


class Optimism(msgspec.Struct, frozen=True, array_like=True):
    """Number of posterior sds that are added to an item's score.

    For a new user it is (1 + newcomer) times as large; the difference fades by n0 / (n0 +
    evidence).
    """

    width: float = 0.0  # in [0, 100], for a well-known user
    newcomer: float = 0.0  # in [-1, 100], relative difference for a new user; -1 gives no bonus
    newcomer_evidence: float = 20.0  # n0 > 0, answered cards that halve the difference

    def __post_init__(self) -> None:
        sizes = 0.0 <= self.width <= 100.0 and -1.0 <= self.newcomer <= 100.0
        if not (sizes and 0.0 < self.newcomer_evidence < math.inf):
            raise ValueError(
                "width must be in [0, 100], newcomer in [-1, 100] and newcomer_evidence above 0, "
                f"got {self}"
            )

    def towards(self, shared: Float32s) -> float:
        """Return the width for the user with these shared columns."""
        coded = min(max(EVIDENCE_SCALE * float(shared[EVIDENCE]), 0.0), MOST_LOG_EVIDENCE)
        left = self.newcomer_evidence / (self.newcomer_evidence + math.expm1(coded))
        return self.width * (1.0 + self.newcomer * left)
