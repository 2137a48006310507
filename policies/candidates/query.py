"""The query of one page: it is made once, and every stage of the feed reads it.

It holds the user, the scene, the items of the serving version, and all that is derived from them
once: the history, the eligible items, the interests. It also holds the protocols of the parts that
take a query: a source, a filter and an index of best matches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from env.arrays.vectors import products
from env.fair_start.audience import Audiences
from env.fair_start.reach import Reach
from env.features.apps import NO_APPS, AppSpace
from env.features.collaborative import NO_FACTORS, ItemFactors
from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.items.statistics import Aligned
from env.users import state as users
from env.users.state import UserState
from env.vocabulary import Bools, CreatorId, Float32s, Floats, Ints, Scene
from policies.candidates.context import CREATOR_GAP, UserHistory
from policies.candidates.eligibility import Eligibility, Eligible
from policies.candidates.languages import PageLanguages

MATCH_STEP = 2.0**-12
"""Matches, or expected rewards from them, that differ by less count as equal."""

EXPECTED = "long_interest"
"""The source to whose match an item's mean reward is added, both in rewards. For a new user it says
little, so generally good items lead. The session's match is used alone."""


def interests_of(
    user: UserState, scene: Scene, catalogue: Catalogue, items: Aligned
) -> dict[str, Float32s]:
    """Return a user's interest vectors by source; a session without cards has none.

    Args:
        scene: its popular content is the prior interest of a new user.

    Returns:
        Vectors of shape (d,), see `env.arrays.vectors`, none of them zero.
    """
    prior = items.popularity.interest(scene, catalogue.vectors)
    long = users.long_interest(user, with_declared=catalogue.is_of_tags, prior=prior)
    found = {"long_interest": long}
    if scene.position > 0:
        found["session_interest"] = users.session_interest(user)
    return {source: interest for source, interest in found.items() if interest.any()}


def matches_of(source: str, interest: Float32s, vectors: Float32s, reward_mean: Floats) -> Float32s:
    """Return each item's match with an interest, shape (n,).

    Args:
        interest: shape (d,).
        vectors: of the items, shape (n, d); see `env.arrays.vectors`.
        reward_mean: of the items, shape (n,).
    """
    found = products(vectors, interest)
    if source == EXPECTED:
        found += reward_mean.astype(np.float32)
    return found


INSISTENT_SIGNAL = 0.3
"""Effect of a topic on a user's signals above which the user insists on it."""

_TRIES = 2
"""Items that are examined for each item needed, divided by the wanted share of all items. If too
few of them are wanted, all items are examined."""

_OF_THE_USER = ("by_topic", "answered_topics", "insisted", "taste")
"""Cached properties that depend on the user alone."""

_ONE, _OUT = np.float32(1.0), np.float32(1e9)
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """The settings that the stages of a page read."""

    candidates: int = 100  # candidates of a page, at least 1
    per_creator: int = 3  # candidates of one creator at most, at least 1
    creator_gap: int = CREATOR_GAP  # cards before a creator or sound may come again
    topic_gap: int = 1  # slots before a topic may come again, see `policies.slots.rules`
    newcomer_topic_gap: int = 1  # the same for users without evidence
    newcomer_evidence: float = 1.0  # evidence at which half of the difference is left
    follow: float = 0.0  # most of a page's open slots for the topics that the user insists on
    unmet_budget: float = 0.0  # least share of reserved slots while an upload has no impression
    # share of the cards that asks for another language, for finding out; 1: languages are alike
    foreign_share: float = 1.0
    # Shares of the sources by name; those of the sources themselves where a name is missing.
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The items of one version, aligned once, and the rules about whom they may be shown to."""

    catalogue: Catalogue
    items: Aligned
    audiences: Audiences
    eligibility: Eligibility
    settings: QuerySettings
    nearest: "MatchIndex | None" = None  # index for the best matches; None: all items are ranked
    factors: ItemFactors = NO_FACTORS  # of the collaborative generation
    factor_index: Ints = field(default_factory=_NONE.copy)  # its `places_in` the catalogue
    apps: AppSpace = NO_APPS  # of the same generation
    # The creator as whom the user uploads: callers give both the same id. None: unknown.
    own: CreatorId | None = None

    @property
    def reach(self) -> Reach:
        """Where items under rollout may be shown."""
        return self.audiences.aligned(self.catalogue)


@dataclass(frozen=True, slots=True)
class ReservedCandidates:
    """The slots that one page reserves, and the candidates for them."""

    places: Ints = field(default_factory=_NONE.copy)  # slots to reserve, in random order
    # Catalogue indices of the candidates, eligible and new to the user, the most urgent first.
    debut: Ints = field(default_factory=_NONE.copy)


@dataclass(frozen=True, kw_only=True)
class Query(FeatureQuery):
    """One page's query; its arrays are read-only, and it is retrieved once."""

    history: UserHistory
    eligible: Eligible
    new: Bools  # (n_items,) eligible items that are new to the user and not reserved
    interests: Mapping[str, Float32s]  # vectors (d,) by source
    settings: QuerySettings
    size: int  # number of cards, at least 1
    seed: int  # seed of the page's draws, at least 0
    rng: np.random.Generator  # generator of the sources, which draw in their order
    reach: Reach  # where items under rollout may be shown
    nearest: "MatchIndex | None" = None
    factor_index: Ints = field(default_factory=_NONE.copy)  # (m,) of `factors`; -1: no such item
    reserved: ReservedCandidates = field(default_factory=ReservedCandidates)
    languages: PageLanguages = field(default_factory=PageLanguages)
    _near: "dict[int, dict[str, Ints] | None]" = field(default_factory=dict)

    @classmethod
    def of(
        cls, inventory: Inventory, user: UserState, scene: Scene, size: int, seed: int
    ) -> "Query":
        """Look up all that the stages of a page need, each once."""
        settings = inventory.settings
        catalogue = inventory.catalogue
        code = catalogue.codes.creators([inventory.own or ""])
        own = catalogue.of_creators(code) if len(code) else _NONE
        history = UserHistory.of(user, catalogue, scene.at_ms, settings.creator_gap, own)
        reach = inventory.reach
        eligible = inventory.eligibility.eligible(history, reach, scene, size)
        asked = FeatureQuery(user, scene, inventory.catalogue, inventory.items)
        return cls(
            user,
            scene,
            inventory.catalogue,
            inventory.items,
            history=history,
            eligible=eligible,
            new=history.new(eligible.allowed),
            interests=interests_of(user, scene, inventory.catalogue, inventory.items),
            settings=settings,
            size=size,
            seed=seed,
            rng=np.random.default_rng(seed),
            nearest=inventory.nearest,
            reach=reach,
            languages=PageLanguages.of(asked, eligible, settings.foreign_share, size, seed),
            factors=inventory.factors,
            factor_index=inventory.factor_index,
            apps=inventory.apps,
        )

    def among(self, wanted: Bools, *, by_interest: bool = True) -> "Query":
        """Return the query for some of the new items only.

        Args:
            wanted: shape (n_items,).
            by_interest: whether sources look for what suits this user, and not anybody.
        """
        new = self.new & wanted
        if by_interest:
            return self._with(new=new)
        anybodys = replace(self, new=new, interests={}, _near={})
        anybodys.__dict__.update(insisted=(_NONE, np.zeros(0)), taste=None)
        return anybodys

    def reserving(self, reserved: ReservedCandidates) -> "Query":
        """Return the query with slots reserved; only they propose the uploads reserved for."""
        new = self.new
        if len(reserved.debut):
            new = new.copy()
            new[reserved.debut] = False
        return self._with(new=new, reserved=reserved)

    def _with(self, **changes: object) -> "Query":
        """Return the query with changes that leave what is known of the user as it was found."""
        changed = replace(self, _near={}, **changes)  # type: ignore[arg-type] # by name
        changed.__dict__.update({name: getattr(self, name) for name in _OF_THE_USER})
        return changed

    @cached_property
    def insisted(self) -> tuple[Ints, Floats]:
        """The topics that the user insists on, the surest first, and how sure that is.

        Codes and probabilities, shape (f,) each, of an effect above `INSISTENT_SIGNAL`; none below
        one half. There are none where the settings follow nobody.
        """
        chances = self.by_topic.chance_above(INSISTENT_SIGNAL)
        order = np.argsort(-chances, kind="stable")
        order = order[(chances[order] > 0.5) & (self.settings.follow > 0.0)]
        return self.answered_topics[order], chances[order]

    @cached_property
    def n_new(self) -> int:
        """Number of items in `new`."""
        return int(np.count_nonzero(self.new))

    @cached_property
    def handicap(self) -> Float32s:
        """What keeps an item out of a ranking, shape (n_items,): 0 where it is new, else -1e9."""
        handicap: Float32s = (self.new.astype(np.float32) - _ONE) * _OUT  # cheaper than a choice
        return handicap

    @property
    def n_candidates(self) -> int:
        """Number of candidates that the page is drawn from."""
        return max(self.settings.candidates, self.size)

    def n_tries(self, n: int) -> int:
        """Return how many items to examine so that about `_TRIES` x n of them are new."""
        return _TRIES * n * len(self.new) // max(self.n_new, 1)

    def near(self, n: int) -> Mapping[str, Ints] | None:
        """Return items that contain the n best matches of each interest; None: search all.

        The index is asked once for all interests, when the first of them needs it.
        """
        if self.nearest is None:
            return None
        if n not in self._near:
            self._near[n] = self.nearest.near(self, n)
        return self._near[n]


class CandidateSource(Protocol):
    """A retrieval source: it ranks eligible items in its own way."""

    @property
    def name(self) -> str:
        """Its name, under which its share is set and its candidates are logged."""
        ...

    @property
    def share(self) -> float:
        """Its share of the candidates where the settings give none, at least 0."""
        ...

    def propose(self, query: Query, n: int) -> Ints:
        """Return at most n distinct items of `query.new`, the most wanted first."""
        ...


class Filter(Protocol):
    """A rule that removes proposed items."""

    @property
    def name(self) -> str:
        """Its name, which is the reason for a removal."""
        ...

    @property
    def is_hard(self) -> bool:
        """Whether it never gives way, however few items are left."""
        ...

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Return, shape (n,), which proposed items it removes.

        Args:
            query: the query of the page.
            index: shape (n,), distinct proposed items, the most wanted first.
            left: shape (n,), those that no earlier rule removed; others need no answer.
        """
        ...


class MatchIndex(Protocol):
    """Finds items among which the best matches are.

    Retrieval ranks the items that an index names exactly, so an index adds speed and can only cost
    recall. A small catalogue is searched without one.
    """

    def near(self, query: Query, n: int) -> dict[str, Ints] | None:
        """Return new items that contain the n best matches of each interest; None: search all.

        Args:
            query: the long interest's match is added to the mean reward.
            n: number of items needed, at most `query.n_new`.

        Returns:
            For each interest at least n distinct items of `query.new`.
        """
        ...

    def follow(self, items: Aligned) -> None:
        """Prepare the first search in a version of the states; any thread may call it."""
        ...
