"""Pages of one card as a service makes them: features, floor, draw, and what came of each.

What the log says of items, and the policy that serves, are brought up to date between batches, as
a service's followers do it. The floor is the same for every arm: a fiftieth of the draws, evenly
over candidates of less than 30 impressions, or over all where none is.
"""

from collections.abc import Sequence

import numpy as np

from env.columns.schema import DYNAMIC, N_ACTION, N_DYNAMIC, N_SHARED, N_STATIC, SHARED, quantise
from env.interface import fill_page, page_seed
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.pages.records import interaction_of
from env.vocabulary import (
    Bools,
    Context,
    Features,
    Float32s,
    Floats,
    Interaction,
    Ints,
    Page,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.slots.rules import LITTLE_EVIDENCE
from tests.studies.cold_start.arms import Player
from tests.studies.cold_start.figures import Run, run_of
from tests.studies.cold_start.world import ColdWorld

FLOOR = 0.02

_USER, _SESSION = UserKey("u"), SessionId("s")

_LOG_MUCH = np.log1p(1000.0)  # as env.columns.schema scales evidence

_KNOWN = [N_STATIC + DYNAMIC.index(name) for name in ("reward_mean", "reward_sd", "item_evidence")]


class Service:
    """A player in front of a catalogue, with the fold of its own log.

    Attributes:
        impressions: of each item, shape (len(catalogue),) as of the last batch.
    """

    def __init__(self, player: Player, catalogue: Catalogue, key: bytes) -> None:
        """Open it.

        Args:
            player: chooses.
            catalogue: may grow between batches.
            key: of the draws.
        """
        self._player, self._catalogue, self._key = player, catalogue, key
        self._states = ItemStates()
        self._version = 0
        self._pages: list[Page] = []
        self._interactions: list[Interaction] = []
        self.refresh()

    def refresh(self) -> None:
        """Learn from all that was closed, and serve the next version on what is known now."""
        self._player.learn(self._pages, self._interactions)
        for interaction in self._interactions:
            self._states.fold(interaction)
        self._pages, self._interactions = [], []
        self._policy = self._player.serving(self._version)
        self._version += 1
        items = self._states.aligned(self._catalogue)
        evidence = np.log1p(items.rewarded) / _LOG_MUCH
        self._known: Float32s = quantise(
            np.column_stack([items.reward_mean, items.reward_sd, evidence])
        )
        self.impressions: Floats = items.impressions
        self._little: Bools = items.impressions < LITTLE_EVIDENCE

    def draw(self, page_id: str, index: Ints, shared: Float32s, dynamic: Float32s) -> int:
        """Return which candidate is shown, a place in `index`; `close` says what came of it.

        Args:
            page_id: unique.
            index: of the candidates in the catalogue, shape (K,).
            shared: columns SHARED, quantised.
            dynamic: columns DYNAMIC, quantised, shape (K, N_DYNAMIC); those that the log says of an
                item are put in here.
        """
        actions = np.empty((len(index), N_ACTION), dtype=np.float32)
        actions[:, :N_STATIC] = self._catalogue.blocks[index]
        actions[:, N_STATIC:] = dynamic
        actions[:, _KNOWN] = self._known[index]
        context = Context(
            PageId(page_id),
            _USER,
            _SESSION,
            Scene(0),
            tuple(self._catalogue.ids[i] for i in index.tolist()),
            Features(shared, actions, self._catalogue.keys[index]),
        )
        little = self._little[index]
        mask = np.ones(len(index), dtype=np.bool_)
        rule = SlotRule(mask, little if little.any() else mask)
        seed = page_seed(self._key, context.page_id)
        page = fill_page(context, self._policy, (rule,), FLOOR, seed)
        self._pages.append(page)
        return page.decisions[0].action

    def close(self, rewards: Sequence[float]) -> None:
        """Hear what came of the pages drawn since the last `close`, in their order."""
        first = len(self._interactions)
        for page, reward in zip(self._pages[first:], rewards, strict=True):
            self._interactions.append(interaction_of(page, page.decisions[0], reward))


LEARN_EVERY = 40
"""Rounds of a batch: an item is offered 8 times in it, of 1,200 times in its life."""

_PERSON = {
    "phone": 1.0,
    "android": 1.0,
    "wifi": 1.0,
    "evidence": float(np.log1p(300.0)) / 5.0,
    "play_rate": 0.5,
    "session_play_rate": 0.5,
}
"""Of everybody: they are well known, and alike but for their interests."""


def play(world: ColdWorld, player: Player, key: bytes) -> Run:
    """Return what a player did in a world.

    Args:
        world: is not moved.
        player: with nothing learned.
        key: of the draws; arms with the same key draw with the same numbers.
    """
    shared, match = _shared(), DYNAMIC.index("long_match")
    service = Service(player, world.catalogue, key)
    chosen = np.empty(world.n_rounds, dtype=np.int64)
    for t in range(world.n_rounds):
        if t and t % LEARN_EVERY == 0:
            service.refresh()
        dynamic = np.zeros((world.offered.shape[1], N_DYNAMIC), dtype=np.float32)
        dynamic[:, match] = world.match[t]
        chosen[t] = service.draw(str(t), world.offered[t], shared, dynamic)
        service.close([float(world.coin[t] < world.expected[t, chosen[t]])])
    rounds = np.arange(world.n_rounds)
    earned = world.expected[rounds, chosen]
    shown = np.bincount(world.offered[rounds, chosen], minlength=len(world.known))
    return run_of(
        reward=float(earned.mean()),
        regret=float((world.expected.max(axis=1) - earned).mean()),
        impressions=shown[world.ended],
        quality=world.quality[world.ended],
        even_share=world.n_rounds / (2 * world.args.pool),
    )


def _shared() -> Float32s:
    columns = np.zeros(N_SHARED)
    for name, value in _PERSON.items():
        columns[SHARED.index(name)] = value
    return quantise(columns)
