"""Policies of one's own for tests: modules as a user may write them, good and broken."""

from pathlib import Path

HEAD = """
import time
import numpy as np
from policies.custom.scores import column, scores_features
from policies.explorers import Softmax, explorer_args


class Mine:
    name = "mine@0"
    explorer = explorer_args(Softmax(0.2))

    def score(self, context):
        return column(context.features, "popularity")

    def explore(self, scores, mask):
        return Softmax(0.2).pmf(scores, mask)
"""

MEANS = """
import json
import numpy as np
from policies.explorers import Softmax, explorer_args


class Means:
    name, explorer = "means@0", explorer_args(Softmax(0.2))

    def __init__(self):
        self.sums = {}

    def score(self, context):
        known = [self.sums.get(str(key), (0.0, 0)) for key in context.features.keys.tolist()]
        return np.array([(total + 0.3) / (n + 1) for total, n in known])

    def explore(self, scores, mask):
        return Softmax(0.2).pmf(scores, mask)

    def learn(self, interactions):
        for one in interactions:
            total, n = self.sums.get(str(one.item_key), (0.0, 0))
            self.sums[str(one.item_key)] = (total + one.reward, n + 1)

    def dumps(self):
        return json.dumps(self.sums, sort_keys=True).encode()

    def loads(self, state):
        self.sums = json.loads(state)
"""

# Of each: what is changed of Mine, or another module; what its check says; how it ends in service.
BROKEN: dict[str, tuple[str, str, str]] = {
    "raises": (
        """
    def score(self, context):
        raise RuntimeError("no model")
""",
        "scores: it raised RuntimeError: no model",
        "raised",
    ),
    "NaN": (
        """
    def score(self, context):
        return np.full(len(context), np.nan)
""",
        "expected finite scores, got 1 that are NaN or infinite of 1",
        "raised",
    ),
    "wrong length": (
        """
    def score(self, context):
        return np.zeros(len(context) + 1)
""",
        "expected 1 scores as float64 of shape (1,), got float64 of (2,)",
        "raised",
    ),
    "negative": (
        """
    def explore(self, scores, mask):
        pmf = Softmax(0.2).pmf(scores, mask)
        first, last = np.flatnonzero(mask)[[0, -1]]
        pmf[first] += 0.5
        pmf[last] -= 0.5
        return pmf
""",
        "expected no negative probability, got -",
        "raised",
    ),
    "sums to .9": (
        """
    def explore(self, scores, mask):
        return 0.9 * Softmax(0.2).pmf(scores, mask)
""",
        "expected a sum of 1, got 0.9",
        "raised",
    ),
    "samples by itself": (
        """
    def score(self, context):
        return np.random.rand(len(context))
""",
        "asked twice, it scores the same page differently",
        "",
    ),
    "mutates its context": (
        """
    def score(self, context):
        context.features.actions[:, 0] = 0.0
        return column(context.features, "popularity")
""",
        "it has changed the features.actions that it was given",
        "raised",
    ),
    "slow": (
        """
    def score(self, context):
        time.sleep(0.06)
        return column(context.features, "popularity")
""",
        "speed: the fastest of 5 pages took",
        "slow",
    ),
    "stateful": (
        """
    n = 0

    def score(self, context):
        self.n += 1
        return column(context.features, "popularity") * self.n
""",
        "asked twice, it scores the same page differently",
        "",
    ),
}


def write(folder: Path, text: str, module: str = "mine") -> Path:
    """Write a module of policies; `mine:make` returns the class Mine, `mine:Means` is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}.py"
    path.write_text(text)
    return path


def write_changed(folder: Path, change: str) -> Path:
    """Write `mine`, in which a policy has these methods instead of the good ones."""
    return write(
        folder, f"{HEAD}\n\nclass Broken(Mine):\n{change}\n\ndef make():\n    return Broken()\n"
    )
