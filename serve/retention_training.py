"""Trains rankers for retention by PPO and puts what came of it where it can be served from.

    folder/training.json, checkpoint-*   of the training, see `policies.retention.checkpoints`
    folder/events/                       for TensorBoard
    folder/ranker.safetensors            with its manifest: what `nextswipe retention publish` takes

The manifest holds the arguments, and how limits were kept. In the twin the result is graded against
the exact optimum, which the training never sees. In the full world its limits are judged by people
who were not trained with, under the ranker as it will be served.
"""

from pathlib import Path

import msgspec
import numpy as np

from env.miniswipe import observe
from env.miniswipe_model import N_ACTIONS, N_STATES, MiniConstants, MiniModel
from env.miniswipe_policies import normalised_score
from env.miniswipe_programme import Objective, Programme
from env.vocabulary import Floats
from policies.pmfs import softmax
from policies.retention.args import RetentionArgs, TwinWorld
from policies.retention.job import Advance, Trained, running_ray, train
from policies.retention.living import life_events
from policies.retention.places import LIMITED
from policies.retention.training_folder import RANKER, holds_training
from policies.retention.worlds import open_world
from serve.policy_audit import Figure, ratio
from serve.refused import Refused

N_PEOPLE = 512
"""Who limits are judged by."""


class Grade(msgspec.Struct, frozen=True):
    """How good a policy is in the twin: 0 is myopic, 1 the optimum.

    Attributes:
        served: of the policy that draws from the softmax, as it is served.
        greedy: of the one that takes the first.
    """

    served: float
    greedy: float


class Kept(msgspec.Struct, frozen=True):
    """How a limit is kept by the ranker that came of it.

    Attributes:
        name: of the limit, see `policies.retention.limits`.
        bound: on the share.
        share: of the cards of people who were not trained with, with its standard error.
        is_met: whether the share is within the bound.
        multiplier: in the last iteration of training.
    """

    name: str
    bound: float
    share: Figure
    is_met: bool
    multiplier: float


class Outcome(msgspec.Struct, frozen=True):
    """What came of a training.

    Attributes:
        ranker: path of the file.
        seed: of the training.
        n_steps: cards that it took.
        seconds: since it was begun or resumed.
        grade: None outside the twin.
        limits: how they are kept; empty where there are none.
    """

    ranker: str
    seed: int
    n_steps: int
    seconds: float
    grade: Grade | None
    limits: tuple[Kept, ...] = ()


def train_retention(
    args: RetentionArgs,
    folder: Path,
    *,
    resume: bool = False,
    address: str | None = None,
    advance: Advance | None = None,
) -> Outcome:
    """Train a ranker and write it.

    Args:
        args: of the training.
        folder: of the training; made if it is not there.
        resume: go on with the training that the folder holds; else it must hold none.
        address: of a Ray cluster; None: as `policies.retention.job.running_ray` says.
        advance: told after each iteration.

    Raises:
        Refused: the folder holds a training and shall not be resumed, or one of other arguments.
    """
    if holds_training(folder) and not resume:
        raise Refused(f"{folder} holds a training: expected --resume, or another folder")
    try:
        with running_ray(address):
            trained = train(args, folder=folder, advance=advance)
    except ValueError as error:
        raise Refused(str(error)) from error
    path, world, kept = folder / RANKER, args.world, judge_limits(trained)
    made = {"training": args, "n_steps": trained.n_steps, "limits": kept}
    trained.ranker.to_file(path, msgspec.to_builtins(made))
    graded = grade(trained, world.objective) if isinstance(world, TwinWorld) else None
    return Outcome(str(path), args.seed, trained.n_steps, trained.seconds, graded, kept)


def judge_limits(trained: Trained) -> tuple[Kept, ...]:
    """Return how a ranker keeps its training's limits; empty where there are none.

    `N_PEOPLE` live their first lives under it, none of whom it was trained with.
    """
    limits = trained.args.limits.listed()
    if not limits:
        return ()
    world, events = open_world(trained.args.world), [limit.event for limit in limits]
    lived = life_events(trained.ranker, world, events, N_PEOPLE, LIMITED)
    kept = []
    for limit, held, counts in zip(limits, trained.limits, lived.counts, strict=True):
        share = ratio(counts, lived.cards)
        met = limit.is_met(share.value)
        kept.append(Kept(limit.name, limit.bound, share, met, held.multiplier))
    return tuple(kept)


def twin_pmf(trained: Trained) -> Floats:
    """Return the policy as it is served in the twin, shape (336, 4)."""
    observation = observe("flat", np.arange(N_STATES))
    users, rows, _ = trained.layout.arrays(observation)
    return softmax(trained.ranker.batch_scores(users, rows))


def grade(trained: Trained, objective: Objective) -> Grade:
    """Return how good a policy that was trained in the twin is at an objective."""
    programme = Programme.of(MiniModel.of(MiniConstants()))
    served = twin_pmf(trained)
    greedy = np.eye(N_ACTIONS)[served.argmax(axis=1)]
    return Grade(
        normalised_score(programme, served, objective),
        normalised_score(programme, greedy, objective),
    )
