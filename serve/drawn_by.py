"""Reconstructs the policy that drew a logged page, from the name and the arguments in the page.

Verification takes the bandit's versions from the folded log, evaluation from the snapshot store.
Both use this module, so they cover the same pages.
"""

from collections.abc import Callable

from env.interface import Policy
from env.records import PageRecord
from policies import baselines
from policies.blend import BlendedPolicy, blend_args
from policies.explorers import AnyExplorer, explorer_from
from serve.rankers import FindRanker

FindBandit = Callable[[int, AnyExplorer], Policy | None]
"""Finds a version of the bandit with this explorer; None: there is none."""


def bandit_version(policy: str) -> int | None:
    """Return the bandit's version in a policy's name, or None.

    >>> bandit_version("vowpal@7"), bandit_version("blend@7"), bandit_version("uniform@0")
    (7, 7, None)
    """
    kind, _, number = policy.partition("@")
    return int(number) if kind in ("vowpal", "blend") and number.isdecimal() else None


def drawn_by(page: PageRecord, bandit: FindBandit, ranker: FindRanker) -> Policy | None:
    """Return the policy that drew a page; None: it, or a part of it, is missing.

    Args:
        bandit: finds versions of the bandit.
        ranker: finds rankers.

    Raises:
        msgspec.ValidationError: no policy of this release has these arguments.
    """
    version = bandit_version(page.policy)
    if version is None:
        return baselines.baseline(page.policy, explorer_from(page.explorer))
    if page.policy.startswith("vowpal@"):
        return bandit(version, explorer_from(page.explorer))
    args = blend_args(page.explorer)
    base, values = bandit(version, args.settings.explorer), ranker(args.ranker, args.digest)
    return None if base is None or values is None else BlendedPolicy(base, values, args)
