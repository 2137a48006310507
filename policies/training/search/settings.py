"""Arguments of a training by search: the world, the amount of play, and the seed.

Torch is not imported, so that commands and tests can read and write them.
"""

import msgspec

from env.report.played_lives import EvaluationUsers
from policies.training.settings import Columns
from policies.training.worlds import HELD_OUT, JUDGED, SEARCHED, TUNED

_COUNTS = ("n_users", "n_turns", "n_judged", "days", "judged_days", "n_generations")


class SearchTrainingArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="search"):
    """All arguments of a searched and cloned ranker."""

    preset: str = "kuairand"  # constants of the world, by name or path
    n_candidates: int = 20  # number of candidates for each card
    # The ranker's inputs: the world's own columns, or those of a request to the HTTP feed, which a
    # feed can serve.
    columns: Columns = "world"
    seed: int = 0  # seed of exploration, samples and draws
    # Users for the myopic bandit's fits, and as many for the clone; an eighth of this number
    # evaluates each sample of weights.
    n_users: int = 512
    n_turns: int = 400  # cards of each, for each fit and for the clone
    # Users for the comparison of the bandit's fits, and as many others for the final evaluation.
    n_judged: int = 1_000
    judged_days: int = 60  # length of their lives
    days: int = 30  # length of lives in the search
    n_generations: int = 12  # number of generations

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of range."""
        least = dict.fromkeys(_COUNTS, 1) | {"n_candidates": 2, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"expected {name} of at least {bound}, got {getattr(self, name)}")

    @property
    def tuned(self) -> EvaluationUsers:
        """Users for the bandit's fits."""
        return EvaluationUsers(TUNED, self.n_users, n_candidates=self.n_candidates)

    @property
    def judged(self) -> EvaluationUsers:
        """Users for the comparison of the fits."""
        return EvaluationUsers(JUDGED, self.n_judged, 1, self.judged_days, self.n_candidates)

    @property
    def searched(self) -> EvaluationUsers:
        """Users of the search's first generation; later generations have others."""
        return EvaluationUsers(SEARCHED, max(self.n_users // 8, 1), 1, self.days, self.n_candidates)

    @property
    def watched(self) -> EvaluationUsers:
        """Users whom the teacher serves while the clone learns."""
        return EvaluationUsers(TUNED + self.n_users, self.n_users, n_candidates=self.n_candidates)

    @property
    def held_out(self) -> EvaluationUsers:
        """Users for the final evaluation, distinct from all others."""
        return EvaluationUsers(HELD_OUT, self.n_judged, 1, self.judged_days, self.n_candidates)
