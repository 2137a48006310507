"""What one check of a machine came to."""

from typing import Literal

import msgspec

Verdict = Literal["well", "look", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One check and what came of it.

    Attributes:
        check: what was looked at.
        verdict: "well"; "look": it works, but not as well as it could; "wrong": it does not.
        says: what was found, and what to do where it is not well.
    """

    check: str
    verdict: Verdict
    says: str
