"""The trained ranker as a policy of the feed: scores are its logits, pages are drawn from softmax.

What PPO trains is a distribution, not a ranking, so at temperature 1 a slot is drawn from exactly
what was trained. Everything is logged that draws a page again: name, explorer, columns.

Rejected: serving the best score (the policy that was trained and measured is another one, and its
log could evaluate nothing else).
"""

from env.features import N_ACTION, N_SHARED
from env.vocabulary import Bools, Context, Floats
from policies.explorers import AnyExplorer, Mixed, Softmax, Uniform, explorer_args
from policies.ranker import Ranker


class RetentionPolicy:
    """Shows candidates as a network trained for retention would; a Policy.

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
        """Serve this ranker.

        Args:
            ranker: of the feed's columns, N_SHARED of a person and N_ACTION of a candidate.
            temperature: of the softmax, above 0; 1 is what was trained.
            floor: share of uniform over the mask, in [0, 1), besides that of the page.
            name: as it stands in a Decision.

        Raises:
            ValueError: the ranker is of other columns, or a number is out of range.
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
        """Return the distribution of one card out of the mask, shape (n,)."""
        return self.explore(self.score(context), mask)


def _explorer(temperature: float, floor: float) -> AnyExplorer:
    if not 0.0 <= floor < 1.0:
        raise ValueError(f"floor must be in [0, 1), got {floor}")
    softmax = Softmax(temperature)
    return Mixed((softmax, Uniform()), (1.0 - floor, floor)) if floor else softmax
