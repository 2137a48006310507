"""A PPO training for retention, from its arguments to the ranker that is served.

    build -> resume? -> (sample, value, learn, report, checkpoint)* -> export

Each iteration's seeds are derived from the training's seed and the iteration's number, so a resumed
training draws the same numbers as an uninterrupted one. Torch runs on one thread: for these small
networks a second one only waits (seven times as long if other processes work).
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from tensorboardX import SummaryWriter
from threadpoolctl import threadpool_limits

from policies.ranker.ranker import Ranker
from policies.training.export import export
from policies.training.layout import ObservationLayout
from policies.training.limits import ConstraintState
from policies.training.ppo.config import constraint_states, make_config
from policies.training.settings import RetentionArgs
from policies.training.training_folder import Checkpoints
from policies.training.worlds import open_world

_DRAWS_STREAM = 2
_STEPS_SAMPLED = ("env_runners", "num_env_steps_sampled_lifetime")
CHECKPOINT_EVERY = 10


class Progress(NamedTuple):
    """Progress of a training."""

    iteration: int  # number of completed iterations, from 1
    n_iterations: int  # iterations in total
    n_steps: int  # cards so far
    seconds: float  # since the start or resumption
    episode_return: float  # undiscounted mean reward of recently ended lives; nan before
    entropy: float  # mean entropy of the policy, in nats
    limits: tuple[ConstraintState, ...] = ()  # state of the constraints; empty without any


class TrainingResult(NamedTuple):
    """Result of a training."""

    ranker: Ranker  # as it is served
    layout: ObservationLayout  # maps observations to the ranker's inputs
    args: RetentionArgs
    n_steps: int  # cards in total
    seconds: float  # since the start or resumption
    limits: tuple[ConstraintState, ...] = ()  # the constraints' last state; empty without any


Advance = Callable[[Progress], None]


def train(
    args: RetentionArgs,
    *,
    folder: Path | None = None,
    advance: Advance | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> TrainingResult:
    """Train a policy, or resume the training in a folder.

    Args:
        folder: for checkpoints and TensorBoard's events; nothing is written if None.

    Raises:
        ValueError: the folder holds a training of other arguments.
    """
    begun = time.monotonic()
    world = open_world(args.world)
    checkpoints = None if folder is None else Checkpoints.open(folder, args)
    # RLlib logs at each start which of its two API stacks is used.
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    with threadpool_limits(1), running_ray():
        algorithm = make_config(args, world).build_algo()
        try:
            with _events(folder) as write:
                for progress in _iterations(algorithm, args, checkpoints, checkpoint_every, begun):
                    write(progress)
                    if advance is not None:
                        advance(progress)
            ranker = export(algorithm.get_module(DEFAULT_MODULE_ID))
            n_steps = int(algorithm.metrics.peek(_STEPS_SAMPLED, default=0))
            held = constraint_states(algorithm)
        finally:
            algorithm.stop()
    return TrainingResult(ranker, world.layout, args, n_steps, time.monotonic() - begun, held)


@contextmanager
def running_ray(address: str | None = None) -> Iterator[None]:
    """Run Ray for the duration: the running one, a cluster's, or a new one in this process.

    A Ray that was started or connected here is shut down at the end.

    Args:
        address: of a cluster, or "auto"; None: the one that `ray job submit` names, else a new
            local Ray that only this machine can reach.
    """
    if ray.is_initialized():
        yield
        return
    quietly: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, **quietly)
    else:
        here: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        # Without "local" Ray waits for a cluster of which `ray start` has left traces.
        ray.init(address="local", **here, **quietly)
    try:
        yield
    finally:
        ray.shutdown()


def seed_draws(seed: int, iteration: int) -> None:
    """Seed the streams of this process that RLlib draws from."""
    sequence = np.random.SeedSequence([seed, _DRAWS_STREAM, iteration])
    first, second, third = (int(word) for word in sequence.generate_state(3))
    random.seed(first)
    np.random.seed(second)  # noqa: NPY002  # RLlib shuffles with it
    torch.manual_seed(third)


def _iterations(
    algorithm: Any,
    args: RetentionArgs,
    checkpoints: Checkpoints | None,
    checkpoint_every: int,
    begun: float,
) -> Iterator[Progress]:
    """Yield after each remaining iteration, then save a checkpoint if one is due."""
    done = 0 if checkpoints is None else checkpoints.restore(algorithm)
    for iteration in range(done, args.n_iterations):
        seed_draws(args.seed, iteration)
        told = _progress(algorithm.train(), iteration + 1, args, begun)
        yield told._replace(limits=constraint_states(algorithm))
        if checkpoints is not None and _is_due(iteration + 1, args, checkpoint_every):
            checkpoints.save(algorithm, iteration + 1)


def _is_due(iteration: int, args: RetentionArgs, every: int) -> bool:
    return iteration % every == 0 or iteration == args.n_iterations


def _progress(
    result: dict[str, Any], iteration: int, args: RetentionArgs, begun: float
) -> Progress:
    played, learned = result["env_runners"], result["learners"][DEFAULT_MODULE_ID]
    return Progress(
        iteration,
        args.n_iterations,
        int(played["num_env_steps_sampled_lifetime"]),
        time.monotonic() - begun,
        float(played.get("episode_return_mean", np.nan)),
        float(learned["entropy"]),
    )


@contextmanager
def _events(folder: Path | None) -> Iterator[Advance]:
    """Yield a writer of TensorBoard events, which does nothing without a folder."""
    if folder is None:
        yield lambda progress: None
        return
    with SummaryWriter(str(folder / "events")) as writer:

        def write(progress: Progress) -> None:
            for name in ("episode_return", "entropy", "seconds"):
                writer.add_scalar(name, getattr(progress, name), progress.n_steps)
            for held in progress.limits:
                writer.add_scalar(f"{held.name}/share", held.share, progress.n_steps)
                writer.add_scalar(f"{held.name}/multiplier", held.multiplier, progress.n_steps)

        yield write
