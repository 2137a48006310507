"""How far an item's score is raised by what is not known of it, and for whom further.

It is a part of the score, so it goes through the explorer like the rest: every candidate keeps a
positive probability, and that is what is logged. Rejected: the upper bound alone (a deterministic
choice, which no log can evaluate), and a wider explorer for newcomers (it tries what is known to be
bad as well).

Who pays for it is a choice of its own: with a `newcomer` of -1 what is new is tried out on those
who are known, and not on the first page of somebody who may not come back.
"""

import math

import msgspec

from env.features import SHARED
from env.vocabulary import Float32s

EVIDENCE = SHARED.index("evidence")
EVIDENCE_SCALE = 5.0
"""What `env.features` divides log1p(evidence) by."""

MOST_LOG_EVIDENCE = 50.0


class Optimism(msgspec.Struct, frozen=True, array_like=True):
    """How many sds of its effect an item is credited with.

    To a newcomer the width is (1 + newcomer) times as large; the difference fades with their
    evidence, by n0 / (n0 + evidence).

    Attributes:
        width: in [0, 100], for a person well known.
        newcomer: in [-1, 100], the share that a newcomer's width is larger by; -1: it is 0.
        newcomer_evidence: n0 above 0, answered cards at which half of that is left.
    """

    width: float = 0.0
    newcomer: float = 0.0
    newcomer_evidence: float = 20.0

    def __post_init__(self) -> None:
        sizes = 0.0 <= self.width <= 100.0 and -1.0 <= self.newcomer <= 100.0
        if not (sizes and 0.0 < self.newcomer_evidence < math.inf):
            raise ValueError(
                "width must be in [0, 100], newcomer in [-1, 100] and newcomer_evidence above 0, "
                f"got {self}"
            )

    def towards(self, shared: Float32s) -> float:
        """Return the width for the person whose shared columns these are."""
        coded = min(max(EVIDENCE_SCALE * float(shared[EVIDENCE]), 0.0), MOST_LOG_EVIDENCE)
        left = self.newcomer_evidence / (self.newcomer_evidence + math.expm1(coded))
        return self.width * (1.0 + self.newcomer * left)
