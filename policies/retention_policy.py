"""The trained ranker as a policy of the feed: its logits are the scores, drawn by softmax.

PPO trains a distribution and not a ranking, so temperature 1 serves exactly the trained policy.
Name, explorer and columns are logged, so a page can be recomputed. Rejected: serving the best
score, which is another policy than the one that was trained and measured, and whose log could
evaluate no other.
"""

from env.features import N_ACTION, N_SHARED
from env.vocabulary import Bools, Context, Floats
from policies.explorers import AnyExplorer, Mixed, Softmax, Uniform, explorer_args
from policies.ranker import Ranker


class RetentionPolicy:
    """Draws candidates as a network trained for retention does; a Policy.

    Attributes:
        name: `retention@N`, N the generation of the ranker.
    """

    def __init__(
        self,
        ranker: Ranker,
        temperature: float = 1.0,
        floor: float = 0.0,
        name: str = "retention@0",
    ) -> None:
        """Serve a ranker.

        Args:
            ranker: of the feed's columns: N_SHARED of a user and N_ACTION of a candidate.
            temperature: of the softmax, above 0; 1 is the trained policy.
            floor: share of uniform over the mask, in [0, 1), besides that of the page.

        Raises:
            ValueError: the ranker has other columns, or a number is out of range.
        """
        columns = (ranker.args.n_user, ranker.args.n_item)
        if columns != (N_SHARED, N_ACTION):
            raise ValueError(
                f"expected a ranker of the feed's {N_SHARED} columns of a person and {N_ACTION} of "
                f"a candidate, got {columns}"
            )
        self.name = name
        self._ranker = ranker
        self._explorer = _explorer(temperature, floor)

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return each candidate's logit, shape (n,)."""
        features = context.features
        return self._ranker.scores(features.shared, features.actions)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the softmax over the mask, mixed with the floor."""
        return self._explorer.pmf(scores, mask)

    def pmf(self, context: Context, mask: Bools) -> Floats:
        """Return the pmf of one card over the mask, shape (n,)."""
        return self.explore(self.score(context), mask)


def _explorer(temperature: float, floor: float) -> AnyExplorer:
    if not 0.0 <= floor < 1.0:
        raise ValueError(f"floor must be in [0, 1), got {floor}")
    softmax = Softmax(temperature)
    return Mixed((softmax, Uniform()), (1.0 - floor, floor)) if floor else softmax
