"""What a training from a log is made from: the method, what a life is worth, the learner's numbers.

No torch here, so that commands and tests can read and write them.
"""

from typing import Literal, get_args

import msgspec

from env.lives import LifeReward

Method = Literal["bc", "marwil", "iql", "cql"]
Credit = Literal["life", "session"]

_COUNTS = ("prior_passes", "critic_passes", "policy_passes", "minibatch", "hidden", "embed")


class OfflineArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a policy trained from a log depends on, but the log.

    Attributes:
        method: behaviour cloning; MARWIL; Q-learning with an expectile, or with a penalty on what
            the log did not do.
        seed: of weights and draws.
        reward: what a card and a return are worth.
        credit: whether a session's cards answer for the sessions after it, beyond the return
            that is paid at its end. "session": noise of one session instead of a life.
        lambda_: how far what came is believed, and from where on the critic, in [0, 1].
        kl: how far the policy may move from the log's, nats a card, so that a log of other people
            can say what it is worth; above 0.
        expectile: of the state's value over what the log did there, in (0, 1); of "iql" only.
        beta: how much probability follows advantage, in its standard deviations, before the policy
            is moved back towards the log's; above 0.
        penalty: weight of the conservative loss, of "cql" only.
        prior_passes: over the log, to clone what made it.
        critic_passes: to learn values.
        policy_passes: to learn the policy from both.
        minibatch: cards in a gradient.
        lr: learning rate.
        weight_decay: of the networks of values, a gradient step's share of lr.
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
        """Refuse what cannot be trained with.

        Raises:
            ValueError: a value is out of range.
        """
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
