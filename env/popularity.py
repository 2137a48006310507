"""How popular items are in a scene: its segments' plays, few of them filled in by the wider ones.

With w_0 everywhere's plays and w_1, w_2, .. those of the scene's segments, the widest first
(`env.segments`), popularity is the last p_k of

    p_0 = w_0,    p_k = w_k + m * p_(k-1) / sum(p_(k-1))

that is, a segment's own plays and m = `PRIOR_PLAYS` more, spread as in the segment around it:
Dirichlet smoothing (Zhai and Lafferty, "A Study of Smoothing Methods for Language Models Applied
to Ad Hoc Information Retrieval", SIGIR 2001), in levels as in MacKay and Bauman Peto, "A
Hierarchical Dirichlet Language Model", Natural Language Engineering 1995. A segment without plays
is passed over, so somebody from a new country has everywhere's popularity.

What a scene plays also says what somebody new there may like: the mean content vector of its
plays, in the same levels, where everywhere's own plays are filled in by m plays of nothing. It is
short where plays are few or of all kinds, and 0 where there are none.

Rejected: the narrowest segment that has enough plays (a jump where it comes to have them), and
taking the mean of what is shown off that of what is played (the states count plays by scene, not
impressions).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.features import VECTOR_DIM
from env.segments import Plays, segment_names
from env.vocabulary import Float32s, Floats, Ints, Scene

PRIOR_PLAYS = 100.0

MAX_REMEMBERED = 4_000_000
"""Scenes of one version of the states times their items, 16 bytes each; 32 scenes at least."""
MAX_INTERESTS = 4096
"""Interests of scenes that are remembered, 128 bytes each."""


@dataclass(frozen=True, slots=True)
class Popular:
    """Popularity by catalogue index, in valid plays as they weigh at the landmark."""

    plays: Floats  # (n,)
    highest: float
    ranking: Ints  # (m,) all that was ever played, the most popular first

    @classmethod
    def of(cls, plays: Floats) -> "Popular":
        """Rank what was played."""
        played = np.flatnonzero(plays)
        ranking = played[np.argsort(-plays[played])]
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
    _interests: dict[tuple[str, ...], Float32s] = field(repr=False, default_factory=dict)

    def here(self, scene: Scene) -> Popular:
        """Return popularity in a scene; remembered for the scenes with the same segments."""
        names = self._names(scene)
        popular = self._remembered.get(names)
        if popular is None:
            popular = self._blend(names)
            n_most = max(MAX_REMEMBERED // max(len(popular.plays), 1), 32)
            if len(self._remembered) >= n_most:
                self._remembered.clear()
            self._remembered[names] = popular
        return popular

    def interest(self, scene: Scene, vectors: Float32s) -> Float32s:
        """Return the mean content vector of what a scene plays, shape (VECTOR_DIM,).

        It is at most of unit length, and 0 where nothing is known. Like `here` it is remembered,
        and nobody writes to it.

        Args:
            scene: of somebody new.
            vectors: shape (n, VECTOR_DIM), the catalogue's that this popularity is aligned with,
                each of unit length or zero.
        """
        names = self._names(scene)
        interest = self._interests.get(names)
        if interest is None:
            if len(self._interests) >= MAX_INTERESTS:
                self._interests.clear()
            interest = self._mean(names, vectors)
        return interest

    def _names(self, scene: Scene) -> tuple[str, ...]:
        return tuple(name for name in segment_names(scene) if name in self._segments)

    def _blend(self, names: tuple[str, ...]) -> Popular:
        blended = self.everywhere.plays
        for name in names:
            index, weights = self._placed(name)
            if len(index):
                blended = blended * (self.prior_plays / float(blended.sum()))
                blended[index] += weights
        return self.everywhere if blended is self.everywhere.plays else Popular.of(blended)

    def _mean(self, names: tuple[str, ...], vectors: Float32s) -> Float32s:
        """Add a segment's plays to the mean of the segments around it, which is remembered too."""
        if names:
            around = self._interests.get(names[:-1])
            around = self._mean(names[:-1], vectors) if around is None else around
            index, weights = self._placed(names[-1])
        else:
            around, index = np.zeros(VECTOR_DIM, dtype=np.float32), self.everywhere.ranking
            weights = self.everywhere.plays[index]
        shares = (weights / (float(weights.sum()) + self.prior_plays)).astype(np.float32)
        kept = np.float32(1.0 - float(shares.sum()))
        mean: Float32s = kept * around + shares @ vectors[index]
        self._interests[names] = mean
        return mean

    def _placed(self, name: str) -> tuple[Ints, Floats]:
        """Return a segment's plays by catalogue index, without those of what has no place."""
        rows, weights = self._segments[name]
        index = self._index_of_row[rows]
        has_place = index >= 0
        return index[has_place], weights[has_place]
