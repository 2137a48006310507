"""Arguments of an offline training: the method, the reward, the learner's hyperparameters.

Torch is not imported, so that commands and tests can read and write them.
"""

from typing import Literal, get_args

import msgspec

from env.pages.lives import LifeReward

Method = Literal["bc", "marwil", "iql", "cql"]
Credit = Literal["life", "session"]
_COUNTS = ("prior_passes", "critic_passes", "policy_passes", "minibatch", "hidden", "embed")


class OfflineArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All arguments of an offline training, except the log."""

    # Behaviour cloning, MARWIL, or Q-learning with an expectile (iql) or with a penalty on actions
    # outside the log (cql).
    method: Method = "iql"
    seed: int = 0  # seed of weights and draws
    reward: LifeReward = LifeReward()  # worth of a card and of a return
    # Whether a session's cards get credit for later sessions beyond the return paid at its end.
    # "session" has the noise of one session instead of a life.
    credit: Credit = "session"
    # Lambda of the returns, in [0, 1]: 1 uses the log's returns, 0 the critic's next value.
    lambda_: float = 0.0
    # Greatest distance of the policy from the log's, in nats a card, so that another log can
    # evaluate it; above 0.
    kl: float = 0.1
    expectile: float = 0.7  # of the state's value over the log's actions, in (0, 1); "iql" only
    # Log-probability per standard deviation of advantage, before the policy is moved back towards
    # the log's; above 0.
    beta: float = 3.0
    penalty: float = 1.0  # weight of the conservative loss; "cql" only
    prior_passes: int = 3  # passes over the log to clone the logging policy
    critic_passes: int = 4  # passes to learn values
    policy_passes: int = 3  # passes to learn the policy
    minibatch: int = 1024  # cards in a gradient
    lr: float = 1e-3  # learning rate
    weight_decay: float = 1.0  # of the value networks, relative to lr at each gradient step
    grad_clip: float = 1.0  # of the gradient's norm
    hidden: int = 32  # units of a hidden layer
    embed: int = 16  # length of an embedding

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        _require_known("method", self.method, get_args(Method))
        _require_known("credit", self.credit, get_args(Credit))
        least = dict.fromkeys(_COUNTS, 1.0) | dict.fromkeys(("penalty", "seed"), 0.0)
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(
                    f"expected {name} of at least {bound:g}, got {getattr(self, name)}"
                )
        for name in ("kl", "beta", "lr", "grad_clip"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"expected {name} above 0, got {getattr(self, name)}")
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expected expectile in (0, 1), got {self.expectile}")
        if not 0.0 <= self.lambda_ <= 1.0:
            raise ValueError(f"expected lambda_ in [0, 1], got {self.lambda_}")


def _require_known(name: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise ValueError(f"expected {name} of {', '.join(known)}, got {got!r}")
