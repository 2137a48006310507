"""Assignment of users to the arms of the experiment, and the arms' policies.

The arm is a pure function of the user's pseudonym: it needs no table, stays the same as long as the
arms do, and is independent between experiments of different names. Derivation and rejected
alternatives: `docs/decisions/serve-ids-and-keys.md`.
"""

import hashlib
from itertools import accumulate

from env.interface import Policy
from env.vocabulary import UserKey
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from serve.config import Arm, Experiment, MixtureSettings


def assign(experiment: Experiment, user: UserKey) -> Arm:
    """Return the arm of a user, drawn in proportion to the arms' shares.

    >>> both = Experiment("half", (Arm("control", "uniform"), Arm("treated", "vowpal")))
    >>> {assign(both, UserKey(f"u{i}")).name for i in range(20)} == {"control", "treated"}
    True
    """
    edges = list(accumulate(arm.share for arm in experiment.arms))
    point = _uniform(experiment.name, user) * edges[-1]
    return next(
        (arm for arm, edge in zip(experiment.arms, edges, strict=True) if point < edge),
        experiment.arms[-1],
    )


def baseline(arm: Arm) -> Policy | None:
    """Return the policy of an arm that needs no learner; None for a learned policy."""
    match arm.policy:
        case "uniform":
            return UniformPolicy()
        case "popularity":
            return PopularityPolicy()
        case "mixture":
            mixture = arm.mixture or MixtureSettings()
            return mixture_policy(mixture.uniform_share, mixture.temperature)
        case "vowpal" | "blend":
            return None


def _uniform(name: str, user: UserKey) -> float:
    """Return a number in [0, 1) with 53 bits, the same everywhere for the same name and user."""
    message = f"{name}\0{user}".encode()
    digest = hashlib.blake2b(message, digest_size=8, person=b"arm").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
