"""Arguments of a PPO training for retention: the world, the learner's hyperparameters, the seed.

Torch is not imported, so that commands and tests can read and write them.
"""

from typing import Literal

import msgspec

from env.twin.solve import MiniObjective as TwinObjective
from env.world.objective import Objective
from policies.training.limits import Constraints

CriticName = Literal["fitted", "network"]
Columns = Literal["world", "feed"]
_COUNTS = ("n_steps", "n_envs", "n_cards", "minibatch", "epochs", "hidden", "embed")
_SIZES = ("seed", "n_runners", "lr_end", "entropy", "entropy_end", "value_coef")
_RATES = ("lr", "clip", "grad_clip")


class TwinWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="twin"):
    """The environment `nextswipe/MiniSwipe-v0`."""

    objective: TwinObjective = "watch"  # seconds watched, or returns
    horizon_days: int = 60  # length of a life


class FeedWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="world"):
    """The environment `nextswipe/Swipe-v0`, see `SwipeVectorEnv`."""

    preset: str = "kuairand"  # constants, by name or path
    objective: Objective = Objective("mix")
    n_candidates: int = 20  # number of candidates for each card
    horizon_days: int | None = None  # length of a life; the preset's if None
    supply: Literal["fixed", "live"] = "fixed"  # whether items stay fixed or react to exposure
    world_seed: int = 0  # seed of items and creators
    steps_per_day: int = 24  # steps after which the supply's next day begins
    # Observed columns: the world's own, or those of a request to the HTTP feed. A ranker that a
    # feed serves must be trained on the latter.
    columns: Columns = "world"


class CustomWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="custom"):
    """A world of one's own, see `policies.training.custom_world`."""

    name: str  # MODULE:FUNCTION
    code: str  # hash of its code, so that a changed world is another training
    folder: str = "."  # where its module is looked for first


class RetentionArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All arguments of a training."""

    world: TwinWorld | FeedWorld | CustomWorld = TwinWorld()  # the environment
    seed: int = 0  # seed of lives, weights and draws
    n_steps: int = 400_000  # cards in total
    # Source of the values: a model fitted to the policy's own transitions (twin only, where states
    # are few and fully observed), or the network.
    critic: CriticName = "fitted"
    # Replace the observed discount at a session's end by its expectation.
    expected_return: bool = True
    lambda_: float = 0.0  # of generalised advantage estimation, in [0, 1]. Fitted values need 0
    n_envs: int = 512  # simulated users at a time
    n_cards: int = 32  # cards of each in an iteration
    minibatch: int = 1024  # cards in a gradient
    epochs: int = 4  # number of times that each card is learned from
    lr: float = 3e-3  # learning rate at the start
    lr_end: float = 5e-4  # learning rate at the end
    # Weight of the entropy at the start. A third of the default left one seed of the twin in a
    # local optimum.
    entropy: float = 0.03
    entropy_end: float = 0.0  # weight of the entropy at the end
    clip: float = 0.2  # of the ratio of probabilities
    grad_clip: float = 0.5  # of the gradient's norm
    value_coef: float = 0.5  # weight of the network's value loss
    hidden: int = 64  # units of a hidden layer
    embed: int = 32  # length of an embedding
    n_runners: int = 0  # processes that play; 0: the learner's process plays as well
    # Constraints on the policy (full world only: the twin has neither dislikes nor items).
    limits: Constraints = Constraints()

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of range, or a critic or limits unfit for the world."""
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
                'expected critic="network" outside of the twin: a model is fitted to states that '
                "are few and seen whole, as the twin's are"
            )
        if self.limits.listed() and is_twin:
            raise ValueError(
                "expected the full world with limits: the twin has neither dislikes nor items"
            )
        if self.limits.listed() and isinstance(self.world, CustomWorld):
            raise ValueError(
                "expected no limits in a world of one's own, which counts no dislikes: "
                "put their price into its reward"
            )

    @property
    def n_iterations(self) -> int:
        """Number of iterations that cover `n_steps`."""
        return -(-self.n_steps // (self.n_envs * self.n_cards))

    @property
    def return_worth(self) -> float:
        """Reward at a session's end for each unit of day_discount ** gap."""
        match self.world:
            case TwinWorld(objective=objective):
                return 1.0 if objective == "days" else 0.0
            case FeedWorld(objective=Objective(name=name, beta=beta)):
                return {"retention": 1.0, "mix": beta}.get(name, 0.0)
            case CustomWorld():
                return 0.0

    def plain(self) -> "RetentionArgs":
        """Return the arguments of plain PPO, with its own critic and the observed gaps."""
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
        world: FeedWorld | CustomWorld,
        *,
        seed: int = 0,
        n_steps: int = 2_000_000,
        limits: Constraints = Constraints(),  # noqa: B008  # frozen
    ) -> "RetentionArgs":
        """Return arguments outside of the twin: the network's critic and the expected return."""
        plain = cls(world=TwinWorld(), seed=seed, n_steps=n_steps).plain()
        return msgspec.structs.replace(plain, world=world, expected_return=True, limits=limits)
