"""Vowpal Wabbit's own way of learning from a log, for comparison: dsjson lines, parsed as text.

Nothing of the server uses it. What is parsed here comes from our own records; a foreign line can
crash the process.
"""

from collections.abc import Iterable

import msgspec
import numpy as np
from vowpal_wabbit_next import DSJsonFormatParser, Workspace

from env.vocabulary import Features, Float32s
from policies.bandit.scorer import without_own_rewards
from policies.bandit.settings import HybridBanditArgs

_encoder = msgspec.json.Encoder()


def decision_line(features: Features, action: int, reward: float, propensity: float) -> str:
    """Return a decision as a line of dsjson that holds what VW is shown of it.

    Args:
        features: of all candidates that are to stand in the line.
        action: the chosen one among them.
        reward: of it, the line has the cost.
        propensity: of it, in (0, 1].
    """
    seen = without_own_rewards(features)
    n = len(seen.actions)
    line = {
        "_label_cost": -reward,
        "_label_probability": propensity,
        "_label_Action": action + 1,
        "_labelIndex": action,
        "a": [action + 1, *(k + 1 for k in range(n) if k != action)],
        "c": {"U": _named(seen.shared), "_multi": [{"A": _named(row)} for row in seen.actions]},
        "p": [propensity, *([(1.0 - propensity) / max(n - 1, 1)] * (n - 1))],
    }
    return _encoder.encode(line).decode()


class DsjsonLearner:
    """A model of the same arguments that learns from lines, one after another."""

    def __init__(self, args: HybridBanditArgs) -> None:
        """Start with an empty model."""
        self._workspace = Workspace(args.command())
        self._parser = DSJsonFormatParser(self._workspace)

    def learn(self, lines: Iterable[str]) -> None:
        """Parse and learn."""
        for line in lines:
            self._workspace.learn_one(self._parser.parse_json(line))

    @property
    def weights(self) -> Float32s:
        """What was learned, shape (2^bits,)."""
        weights: Float32s = self._workspace.weights()[:, 0, 0]
        return weights


def _named(values: Float32s) -> dict[str, float]:
    return {str(k): float(values[k]) for k in np.flatnonzero(values)}
