"""What a training for retention is made from: the world, the learner's numbers and the seed.

The numbers are those that mattered when they were tried: a batch of tens of thousands of cards, a
learning rate and an entropy bonus that fall, advantages that are not discounted within a session.
No torch here, so that commands and tests can read and write them.
"""

from typing import Literal

import msgspec

from env.miniswipe_programme import Objective as TwinObjective
from env.objective import Objective
from policies.retention.limits import Limits

CriticName = Literal["fitted", "network"]
Columns = Literal["world", "feed"]
_COUNTS = ("n_steps", "n_envs", "n_cards", "minibatch", "epochs", "hidden", "embed")
_SIZES = ("seed", "n_runners", "lr_end", "entropy", "entropy_end", "value_coef")
_RATES = ("lr", "clip", "grad_clip")


class TwinWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="twin"):
    """`nextswipe/MiniSwipe-v0`.

    Attributes:
        objective: what is counted, seconds or returns.
        horizon_days: length of a life.
    """

    objective: TwinObjective = "watch"
    horizon_days: int = 60


class FeedWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="world"):
    """`nextswipe/Swipe-v0`; see `env.vector.SwipeVectorEnv` for each of them.

    Attributes:
        preset: constants, by name or path.
        objective: what is counted.
        n_candidates: from which is chosen.
        horizon_days: length of a life; the preset's if None.
        supply: items that stay, or change with what is shown.
        world_seed: of items and creators.
        steps_per_day: steps after which the supply's next day comes.
        columns: what is observed: the world's own columns, or those of a request to the HTTP feed,
            which a ranker has to be trained on that a feed shall serve.
    """

    preset: str = "kuairand"
    objective: Objective = Objective("mix")
    n_candidates: int = 20
    horizon_days: int | None = None
    supply: Literal["fixed", "live"] = "fixed"
    world_seed: int = 0
    steps_per_day: int = 24
    columns: Columns = "world"


class RetentionArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a trained policy depends on.

    Attributes:
        world: in which it is trained.
        seed: of lives, weights and draws.
        n_steps: cards in all.
        critic: whose values advantages are made from: those of a model fitted to the policy's own
            transitions (twin only: the state is small and seen), or those of the network.
        expected_return: take what a session's end is worth as expected from what is seen there,
            not as it came.
        lambda_: of generalised advantage estimation, in [0, 1]. Model values need none.
        n_envs: people at a time.
        n_cards: of each in an iteration.
        minibatch: cards in a gradient.
        epochs: times that each card is learned from.
        lr: learning rate at the start.
        lr_end: at the end.
        entropy: weight of the entropy at the start. A third of this one left a seed of the twin in
            a local optimum.
        entropy_end: at the end.
        clip: of the ratio of probabilities.
        grad_clip: of the gradient's norm.
        value_coef: weight of the network's loss of values.
        hidden: units of a hidden layer.
        embed: length of an embedding.
        n_runners: processes that play; 0: the one that learns plays too.
        limits: that the policy is held to (full world only: the twin has neither dislikes nor
            items).
    """

    world: TwinWorld | FeedWorld = TwinWorld()
    seed: int = 0
    n_steps: int = 400_000
    critic: CriticName = "fitted"
    expected_return: bool = True
    lambda_: float = 0.0
    n_envs: int = 512
    n_cards: int = 32
    minibatch: int = 1024
    epochs: int = 4
    lr: float = 3e-3
    lr_end: float = 5e-4
    entropy: float = 0.03
    entropy_end: float = 0.0
    clip: float = 0.2
    grad_clip: float = 0.5
    value_coef: float = 0.5
    hidden: int = 64
    embed: int = 32
    n_runners: int = 0
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            ValueError: a number is out of range, or the critic or limits do not fit the world.
        """
        for names, least in ((_COUNTS, 1), (_SIZES, 0)):
            for name in names:
                if getattr(self, name) < least:
                    got = getattr(self, name)
                    raise ValueError(f"expected {name} of at least {least}, got {got}")
        for name in _RATES:
            if not getattr(self, name) > 0.0:
                raise ValueError(f"expected {name} above 0, got {getattr(self, name)}")
        if not 0.0 <= self.lambda_ <= 1.0:
            raise ValueError(f"expected lambda_ in [0, 1], got {self.lambda_}")
        self._refuse_another_world()

    def _refuse_another_world(self) -> None:
        is_twin = isinstance(self.world, TwinWorld)
        if self.critic == "fitted" and not is_twin:
            raise ValueError(
                'expected critic="network" in the full world: a model is fitted to states that are '
                "few and seen whole, as the twin's are"
            )
        if self.limits.listed() and is_twin:
            raise ValueError(
                "expected the full world with limits: the twin has neither dislikes nor items"
            )

    @property
    def n_iterations(self) -> int:
        """Iterations that make up `n_steps`, the last one whole."""
        return -(-self.n_steps // (self.n_envs * self.n_cards))

    @property
    def return_worth(self) -> float:
        """What is paid at a session's end for each unit of day_discount ** gap."""
        match self.world:
            case TwinWorld(objective=objective):
                return 1.0 if objective == "days" else 0.0
            case FeedWorld(objective=Objective(name=name, beta=beta)):
                return {"retention": 1.0, "mix": beta}.get(name, 0.0)

    def plain(self) -> "RetentionArgs":
        """Return the same without what is ours: PPO with its own critic and the gap that came."""
        return msgspec.structs.replace(
            self,
            critic="network",
            expected_return=False,
            lambda_=0.99,
            n_cards=64,
            minibatch=8192,
            entropy=0.02,
            entropy_end=0.001,
        )

    @classmethod
    def of_feed(
        cls,
        world: FeedWorld,
        *,
        seed: int = 0,
        n_steps: int = 2_000_000,
        limits: Limits = Limits(),  # noqa: B008  # frozen
    ) -> "RetentionArgs":
        """Return arguments for the full world: the network's critic and the expected return."""
        plain = cls(world=TwinWorld(), seed=seed, n_steps=n_steps).plain()
        return msgspec.structs.replace(plain, world=world, expected_return=True, limits=limits)
