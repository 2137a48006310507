"""The processes of the server as plain objects: a feed replica and the learner.

Both open a data folder and work without Ray. `serve.processes.ray_app` wraps them into deployments;
tests and benchmarks open them directly. The code that opens one closes it.
"""

from pathlib import Path

from policies.bandit.settings import HybridBanditArgs
from policies.snapshots import SnapshotStore
from serve.config import Config
from serve.learn.custom import load_customs
from serve.learn.fold import JOIN, LearningArgs


def vowpal_args(config: Config) -> HybridBanditArgs:
    """Return the configured arguments of the policy."""
    return HybridBanditArgs(
        explorer=config.feed.explorer,
        bits=config.learner.bits,
        learning_rate=config.learner.learning_rate,
        power_t=config.learner.power_t,
        clip_p=config.learner.clip_p,
        main_sd=config.learner.main_sd,
        match_sd=config.learner.match_sd,
        main_memory=config.learner.main_memory,
        item_sd=config.learner.item_sd,
        item_memory=config.learner.item_memory,
        optimism=config.learner.optimism,
        newcomer_optimism=config.learner.newcomer_optimism,
        newcomer_evidence=config.learner.newcomer_evidence,
    )


def learning_args(config: Config) -> LearningArgs:
    """Return the configured arguments of the fold.

    Raises:
        JobError: a custom policy cannot be loaded.
    """
    return LearningArgs(
        vowpal_args(config),
        config.reward,
        config.join.settle_ms,
        config.audiences,
        load_customs(config).learners,
        config.collaborative.answers if config.collaborative.enabled else 0,
        config.signal_table.interests(),
        config.join.default_reward,
    )


def open_snapshots(config: Config) -> SnapshotStore:
    """Open the data folder's snapshots."""
    folder, keep = Path(config.data.folder) / "snapshots", config.learner.snapshots_kept
    return SnapshotStore(folder, keep=keep, lasting=JOIN)
