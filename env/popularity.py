"""How popular items are in a scene: its segments' plays, few of them filled in by the wider ones.

With w_0 everywhere's plays and w_1, w_2, .. those of the scene's segments, the widest first
(`env.segments`), popularity is the last p_k of

    p_0 = w_0,    p_k = w_k + m * p_(k-1) / sum(p_(k-1))

that is, a segment's own plays and m = `PRIOR_PLAYS` more, spread as in the segment around it:
Dirichlet smoothing (Zhai and Lafferty, "A Study of Smoothing Methods for Language Models Applied
to Ad Hoc Information Retrieval", SIGIR 2001), in levels as in MacKay and Bauman Peto, "A
Hierarchical Dirichlet Language Model", Natural Language Engineering 1995. A segment without plays
is passed over, so somebody from a new country has everywhere's popularity.

Rejected: the narrowest segment that has enough plays (a jump where it comes to have them).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.segments import Plays, segment_names
from env.vocabulary import Floats, Ints, Scene

PRIOR_PLAYS = 100.0

MAX_REMEMBERED = 32
"""Scenes of one version of the states; 16 bytes an item each."""


@dataclass(frozen=True, slots=True)
class Popular:
    """Popularity by catalogue index, in valid plays as they weigh at the landmark."""

    plays: Floats  # (n,)
    highest: float
    ranking: Ints  # (m,) all that was ever played, the most popular first

    @classmethod
    def of(cls, plays: Floats) -> "Popular":
        """Rank what was played."""
        ranking = np.argsort(-plays)[: np.count_nonzero(plays)]
        return cls(plays, float(plays.max(initial=0.0)), ranking)


@dataclass(frozen=True, slots=True)
class Popularity:
    """Popularity everywhere and in any scene, of one version of the item states.

    Attributes:
        everywhere: in all scenes together.
        prior_plays: `PRIOR_PLAYS` as they weigh at the landmark.
    """

    everywhere: Popular
    prior_plays: float
    _segments: Mapping[str, Plays]
    _index_of_row: Ints  # (n_rows,) catalogue index, -1 where there is none
    _remembered: dict[tuple[str, ...], Popular] = field(repr=False, default_factory=dict)

    def here(self, scene: Scene) -> Popular:
        """Return popularity in a scene; remembered for the scenes with the same segments."""
        names = tuple(name for name in segment_names(scene) if name in self._segments)
        popular = self._remembered.get(names)
        if popular is None:
            popular = self._blend(names)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[names] = popular
        return popular

    def _blend(self, names: tuple[str, ...]) -> Popular:
        blended = self.everywhere.plays
        for name in names:
            rows, weights = self._segments[name]
            index = self._index_of_row[rows]
            has_place = index >= 0
            if has_place.any():
                blended = blended * (self.prior_plays / float(blended.sum()))
                blended[index[has_place]] += weights[has_place]
        return self.everywhere if blended is self.everywhere.plays else Popular.of(blended)
