"""Foreign batches for tests of replay: columns and matrices made by hand, without pages."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from env.vocabulary import Floats
from replay.join.rows import CoverageCounts
from replay.source import Batch, Draws


@dataclass
class Batches:
    """A source of ready batches."""

    held: list[Batch]
    coverage: CoverageCounts = field(init=False)
    reward_version: int = 0
    reward_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        n = sum(map(len, self.held))
        self.coverage = CoverageCounts(n, n, 0)

    def batches(self) -> Iterator[Batch]:
        """Yield them."""
        yield from self.held


def draw_batch(
    n: int = 3_000,
    k: int = 5,
    *,
    seed: int = 1,
    temperature: float = 1.0,
    with_pmf: bool = True,
    **changes: object,
) -> Batch:
    """Return decisions of a softmax over random scores, an action's reward rising with its number.

    Args:
        n: decisions, of a fifth as many users.
        k: candidates.
        seed: of all.
        temperature: of the draws; what is logged is temperature 1.
        with_pmf: the log has whole distributions.
        changes: of the batch's fields.
    """
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, k))
    pmf, drawn_from = softmax(scores), softmax(scores / temperature)
    action = (rng.random((n, 1)) > np.cumsum(drawn_from, axis=1)[:, :-1]).sum(axis=1)
    propensity = pmf[np.arange(n), action]
    fields: dict[str, object] = {
        "user": rng.integers(0, n // 5, n),
        "reward": (rng.random(n) < 0.1 + 0.1 * action).astype(np.float64),
        "propensity": propensity,
        "action": action,
        "slot": np.zeros(n, dtype=np.int64),
        "at_ms": np.arange(n, dtype=np.int64) * 1_000,
        "mask": np.ones((n, k), dtype=np.bool_),
        "pmf": pmf if with_pmf else None,
    }
    if not with_pmf:
        eligible = np.ones((n, k), dtype=np.bool_)
        fields["drawn"] = Draws(propensity, action, eligible, None)
    return Batch(**{**fields, **changes})  # type: ignore[arg-type]


def softmax(scores: Floats) -> Floats:
    """Return each row's softmax."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    pmf: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return pmf


@dataclass(frozen=True)
class Fixed:
    """A target with one distribution for all decisions."""

    pmf: tuple[float, ...]
    name: str = "fixed"

    def probabilities(self, batch: Batch) -> Floats:
        """Return it, once a decision."""
        return np.tile(np.array(self.pmf), (len(batch), 1))
