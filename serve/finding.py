"""The result type of a machine check."""

from typing import Literal

import msgspec

Verdict = Literal["well", "look", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        check: name of the check.
        verdict: "well"; "look": it works, but could work better; "wrong": it does not work.
        says: the observation, and the remedy where the verdict is not "well".
    """

    check: str
    verdict: Verdict
    says: str
