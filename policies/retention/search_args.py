"""What a ranker that is searched for is made from: the world, how much is played, and the seed.

No torch here, so that commands and tests can read and write them.
"""

import msgspec

from env.played_lives import People
from policies.retention.args import Columns
from policies.retention.places import HELD_OUT, JUDGED, SEARCHED, TUNED

_COUNTS = ("n_people", "n_turns", "n_judged", "days", "judged_days", "n_generations")


class SearchedArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="search"):
    """Everything that a ranker depends on that was found by search and cloned.

    Attributes:
        preset: constants of the world, by name or path.
        n_candidates: from which each card is chosen.
        columns: what the ranker reads: the world's own columns, or those of a request to the HTTP
            feed, which a feed can serve.
        seed: of what is explored, sampled and drawn.
        n_people: whom the myopic bandit learns from, and as many whom the clone watches; an eighth
            of them judges each sample of weights.
        n_turns: cards of each, for each fit and for the clone.
        n_judged: people by whom the bandit's fits are compared, and as many others by whom the
            ranker is judged in the end.
        judged_days: of their lives.
        days: of lives in the search.
        n_generations: of samples.
    """

    preset: str = "kuairand"
    n_candidates: int = 20
    columns: Columns = "world"
    seed: int = 0
    n_people: int = 512
    n_turns: int = 400
    n_judged: int = 1_000
    judged_days: int = 60
    days: int = 30
    n_generations: int = 12

    def __post_init__(self) -> None:
        """Refuse what cannot be played.

        Raises:
            ValueError: a number is out of range.
        """
        least = dict.fromkeys(_COUNTS, 1) | {"n_candidates": 2, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"expected {name} of at least {bound}, got {getattr(self, name)}")

    @property
    def tuned(self) -> People:
        """Whom the bandit learns from."""
        return People(TUNED, self.n_people, n_candidates=self.n_candidates)

    @property
    def judged(self) -> People:
        """By whom its fits are compared."""
        return People(JUDGED, self.n_judged, 1, self.judged_days, self.n_candidates)

    @property
    def searched(self) -> People:
        """By whom the first samples of weights are judged; other generations have others."""
        return People(SEARCHED, max(self.n_people // 8, 1), 1, self.days, self.n_candidates)

    @property
    def watched(self) -> People:
        """Whom the clone watches being served."""
        return People(TUNED + self.n_people, self.n_people, n_candidates=self.n_candidates)

    @property
    def held_out(self) -> People:
        """By whom the ranker is judged in the end: nobody of all those above."""
        return People(HELD_OUT, self.n_judged, 1, self.judged_days, self.n_candidates)
