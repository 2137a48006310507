"""The result type of a machine check."""

from typing import Literal

import msgspec

Verdict = Literal["well", "look", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: "well", "look" (works, but could work better) or "wrong"."""

    check: str
    verdict: Verdict
    says: str  # the observation, and the remedy where the verdict is not "well"
