"""Arguments of an offline training: the method, the reward, the learner's hyperparameters.

Torch is not imported, so that commands and tests can read and write them.
"""

from typing import Literal, get_args

import msgspec

from env.lives import LifeReward

Method = Literal["bc", "marwil", "iql", "cql"]
Credit = Literal["life", "session"]

_COUNTS = ("prior_passes", "critic_passes", "policy_passes", "minibatch", "hidden", "embed")


class OfflineArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All arguments of an offline training, except the log.

    Attributes:
        method: behaviour cloning, MARWIL, or Q-learning with an expectile (iql) or with a penalty
            on actions outside the log (cql).
        seed: seed of weights and draws.
        reward: worth of a card and of a return.
        credit: whether a session's cards get credit for later sessions beyond the return paid at
            its end. "session" has the noise of one session instead of a life.
        lambda_: of lambda-returns, in [0, 1]: 1 uses the log's returns, 0 the critic's next value.
        kl: greatest distance of the policy from the log's, in nats a card, so that another log can
            evaluate it; above 0.
        expectile: of the state's value over the log's actions, in (0, 1); "iql" only.
        beta: log-probability per standard deviation of advantage, before the policy is moved back
            towards the log's; above 0.
        penalty: weight of the conservative loss; "cql" only.
        prior_passes: passes over the log to clone the logging policy.
        critic_passes: passes to learn values.
        policy_passes: passes to learn the policy.
        minibatch: cards in a gradient.
        lr: learning rate.
        weight_decay: of the value networks, relative to lr at each gradient step.
        grad_clip: of the gradient's norm.
        hidden: units of a hidden layer.
        embed: length of an embedding.
    """

    method: Method = "iql"
    seed: int = 0
    reward: LifeReward = LifeReward()
    credit: Credit = "session"
    lambda_: float = 0.0
    kl: float = 0.1
    expectile: float = 0.7
    beta: float = 3.0
    penalty: float = 1.0
    prior_passes: int = 3
    critic_passes: int = 4
    policy_passes: int = 3
    minibatch: int = 1024
    lr: float = 1e-3
    weight_decay: float = 1.0
    grad_clip: float = 1.0
    hidden: int = 32
    embed: int = 16

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
