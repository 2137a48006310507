"""Training of retention rankers by PPO, written where they can be served from.

    folder/training.json, checkpoint-*   the training, see `policies.training.training_folder`
    folder/events/                       logs for TensorBoard
    folder/ranker.safetensors            the ranker with its manifest, for publishing

The manifest holds the arguments and the limits' results. In the twin the result is graded against
the exact optimum, which training never sees. In the full world limits are judged on held-out users
under the ranker as served.
"""

from pathlib import Path

import msgspec
import numpy as np

from env.twin.env import observe
from env.twin.model import N_ACTIONS, N_STATES, MiniConstants, MiniModel
from env.twin.policies import normalised_score
from env.twin.solve import DynamicProgramme, MiniObjective
from env.vocabulary import Floats
from policies.explorers import softmax
from policies.training.lived import life_events
from policies.training.ppo.job import Advance, TrainingResult, running_ray, train
from policies.training.settings import RetentionArgs, TwinWorld
from policies.training.training_folder import RANKER, holds_training
from policies.training.worlds import LIMITED, open_world
from serve.errors import JobError
from serve.jobs.policy_audit import RatioEstimate, ratio

N_PEOPLE = 512
"""Users that limits are judged on."""


class Grade(msgspec.Struct, frozen=True):
    """Quality of a policy in the twin: 0 is myopic, 1 the optimum.

    Attributes:
        served: grade of the policy that draws from the softmax, as served.
        greedy: grade of the policy that takes the best.
    """

    served: float
    greedy: float


class LimitResult(msgspec.Struct, frozen=True):
    """Result of a limit under the trained ranker.

    Attributes:
        name: name of the limit, see `policies.training.limits`.
        share: share of the cards of held-out users, with its standard error.
        multiplier: multiplier of the last training iteration.
    """

    name: str
    bound: float
    share: RatioEstimate
    is_met: bool
    multiplier: float


class TrainingOutcome(msgspec.Struct, frozen=True):
    """Outcome of a training.

    Attributes:
        seconds: time since it began or resumed.
        grade: grade in the twin; None elsewhere.
        limits: results of the limits, if any.
    """

    ranker: str
    seed: int
    n_steps: int
    seconds: float
    grade: Grade | None
    limits: tuple[LimitResult, ...] = ()

    def lines(self) -> list[str]:
        """Return the outcome in words."""
        lines = [f"{self.n_steps:,} cards in {self.seconds:.0f} s: {self.ranker}"]
        lines += [
            f"{kept.name} {kept.bound:g}: {'met' if kept.is_met else 'not met'}, "
            f"{kept.share.value:.5f} ± {kept.share.se:.5f} of the cards of other users, "
            f"multiplier {kept.multiplier:.3f}"
            for kept in self.limits
        ]
        if self.grade is not None:
            lines.append(
                f"of the way from myopic to the optimum: {self.grade.served:.3f} as served, "
                f"{self.grade.greedy:.3f} greedy"
            )
        return lines


def train_retention(
    args: RetentionArgs,
    folder: Path,
    *,
    resume: bool = False,
    address: str | None = None,
    advance: Advance | None = None,
) -> TrainingOutcome:
    """Train a ranker and write it.

    Args:
        folder: folder of the training; created if missing.
        resume: continue the training in the folder; otherwise it must hold none.
        address: address of a Ray cluster; None: as in `policies.training.ppo.job.running_ray`.
        advance: called after each iteration.

    Raises:
        JobError: the folder holds a training and `resume` is not set, or one of other arguments.
    """
    if holds_training(folder) and not resume:
        raise JobError(f"{folder} holds a training: expected --resume, or another folder")
    try:
        with running_ray(address):
            trained = train(args, folder=folder, advance=advance)
    except ValueError as error:
        raise JobError(str(error)) from error
    path, world, kept = folder / RANKER, args.world, judge_limits(trained)
    made = {"training": args, "n_steps": trained.n_steps, "limits": kept}
    trained.ranker.to_file(path, msgspec.to_builtins(made))
    graded = grade(trained, world.objective) if isinstance(world, TwinWorld) else None
    return TrainingOutcome(str(path), args.seed, trained.n_steps, trained.seconds, graded, kept)


def judge_limits(trained: TrainingResult) -> tuple[LimitResult, ...]:
    """Return the results of the training's limits, on first lives of `N_PEOPLE` held-out users."""
    limits = trained.args.limits.listed()
    if not limits:
        return ()
    world, events = open_world(trained.args.world), [limit.event for limit in limits]
    lived = life_events(trained.ranker, world, events, N_PEOPLE, LIMITED)
    kept = []
    for limit, held, counts in zip(limits, trained.limits, lived.counts, strict=True):
        share = ratio(counts, lived.cards)
        met = limit.is_met(share.value)
        kept.append(LimitResult(limit.name, limit.bound, share, met, held.multiplier))
    return tuple(kept)


def twin_pmf(trained: TrainingResult) -> Floats:
    """Return the policy as it is served in the twin, shape (336, 4)."""
    observation = observe("flat", np.arange(N_STATES))
    users, rows, _ = trained.layout.arrays(observation)
    return softmax(trained.ranker.batch_scores(users, rows))


def grade(trained: TrainingResult, objective: MiniObjective) -> Grade:
    """Return the grade for an objective of a policy that was trained in the twin."""
    programme = DynamicProgramme.of(MiniModel.of(MiniConstants()))
    served = twin_pmf(trained)
    greedy = np.eye(N_ACTIONS)[served.argmax(axis=1)]
    return Grade(
        normalised_score(programme, served, objective),
        normalised_score(programme, greedy, objective),
    )
