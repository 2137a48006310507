"""An arm in SwipeEnv while creators upload: users who come back, tire and leave, and real rewards.

The world offers each user K candidates and moves as it always does. What a policy is told is what
a server knows of the user (`env.world.observer`) and of the items, put into the columns that it
means; what the log says of an item comes from the arm's own log. Regret is exact: what the best
candidate would have earned from this user now, in expectation, minus what the one shown would.

The stock is small, so that an upload's even share is some 60 impressions: 160 items, of which 10 a
day are replaced, at 600 cards a day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from env.columns.schema import DYNAMIC, N_DYNAMIC, N_SHARED, SHARED, VECTOR_DIM, quantise
from env.gym.vector import SwipeVectorEnv
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import Float32s, Floats, Ints, Item, ItemId
from env.world.observer import MOST_EVIDENCE, PERSONAL, USER_FACTS
from env.world.presets import load
from env.world.supply import ITEM_FACTS, Stock
from env.world.world import APPEAL, terms_of
from tests.studies.cold_start.arms import Player
from tests.studies.cold_start.figures import Run, run_of
from tests.studies.cold_start.pages import Service
from tests.studies.evaluation.worlds import exact_rewards

_LOG_YEAR = float(np.log1p(24.0 * 365.0))


class SwipeSize(msgspec.Struct, frozen=True):
    """How much is swiped.

    Attributes:
        users: at a time; all learn from all after each turn.
        turns: cards of each place.
        items: live at a time, 128 at least.
        a_day: uploads.
        turns_a_day: turns after which the next day's uploads come.
        n_candidates: K.
    """

    users: int = 100
    turns: int = 150
    items: int = 160
    a_day: float = 10.0
    turns_a_day: int = 6
    n_candidates: int = 20

    @property
    def even_share(self) -> float:
        """Impressions of an upload where all are shown alike."""
        return self.users * self.turns_a_day / self.a_day


def play_swipe(player: Player, size: SwipeSize, seed: int) -> Run:
    """Return what a player did in a world.

    Args:
        player: with nothing learned.
        size: long enough that uploads end.
        seed: of items, users and draws.

    Raises:
        ValueError: it is too short: no upload lived its whole life.
    """
    env = _environment(size, seed)
    observation, _ = env.reset(seed=1_000_000 * seed)
    shelf = _Shelf()
    shelf.put(env.swiping.stock)
    service = Service(player, shelf.catalogue, seed.to_bytes(8, "little"))
    columns = _Columns.of(env)
    shown: list[Ints] = []
    earned, best = [], []
    for turn in range(size.turns):
        if turn:
            shelf.put(env.swiping.stock)
            service.refresh()
        index = env.swiping.stock.serial[env.swiping.candidates.rows]
        there, action = np.flatnonzero(~env.swiping.over), np.zeros(size.users, dtype=np.int64)
        expected = exact_rewards(env)[there]
        shared, dynamic = columns.read(observation)
        for user in there.tolist():
            page = f"{turn}-{user}"
            action[user] = service.draw(page, index[user], shared[user], dynamic[user])
        observation, reward, *_ = env.step(action)
        service.close(reward[there].tolist())
        shown.append(index[there, action[there]])
        earned.append(expected[np.arange(len(there)), action[there]])
        best.append(expected.max(axis=1))
    service.refresh()
    ended = np.arange(size.items, int(env.swiping.stock.serial.min()))
    if not len(ended):
        raise ValueError(f"expected turns enough for an upload to live its life, got {size.turns}")
    impressions = np.bincount(np.concatenate(shown), minlength=len(shelf.appeal))
    return run_of(
        reward=float(np.concatenate(earned).mean()),
        regret=float((np.concatenate(best) - np.concatenate(earned)).mean()),
        impressions=impressions[ended],
        quality=np.array(shelf.appeal)[ended],
        even_share=size.even_share,
    )


def _environment(size: SwipeSize, seed: int) -> SwipeVectorEnv:
    preset = load("kuairand")
    uploads = msgspec.structs.replace(preset.uploads, n_items=size.items, a_day=size.a_day)
    return SwipeVectorEnv(
        size.users,
        preset=msgspec.structs.replace(preset, uploads=uploads),
        n_candidates=size.n_candidates,
        supply="live",
        world_seed=seed,
        steps_per_day=size.turns_a_day,
        copy=False,
    )


class _Shelf:
    """The catalogue of all uploads so far, an item's index its serial number.

    Attributes:
        catalogue: as a server has it.
        appeal: of each, in the world's own log-odds; no policy sees it.
    """

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.appeal: list[float] = []

    def put(self, stock: Stock) -> None:
        """Put what is new in a stock."""
        new = np.flatnonzero(stock.serial >= len(self.appeal))
        duration = terms_of(stock.columns).cap_s
        for row in new[np.argsort(stock.serial[new])].tolist():
            serial = int(stock.serial[row])
            vector = np.zeros(VECTOR_DIM)
            vector[: stock.n_dims] = stock.vectors[:, row]
            item = Item(
                item_id=ItemId(str(serial)),
                duration_s=float(np.asarray(duration)[row]),
                vector=tuple(vector.tolist()),
            )
            block = pack_halves(static_block(item))
            self.catalogue.apply(ItemRecord(item.item_id, 0, item, block))
            self.appeal.append(float(stock.columns[APPEAL, row]))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a server's numbers stand in an observation."""

    n_dims: int
    facts: dict[str, int]  # of the user

    @classmethod
    def of(cls, env: SwipeVectorEnv) -> "_Columns":
        names = env.swiping.observer.user_features()
        return cls(env.swiping.stock.n_dims, {name: names.index(name) for name in USER_FACTS})

    def read(self, observation: Any) -> tuple[Float32s, Float32s]:
        """Return columns SHARED, (n, N_SHARED), and DYNAMIC, (n, K, N_DYNAMIC), quantised."""
        return self._shared(observation["user"]), self._dynamic(observation)

    def _shared(self, user: Float32s) -> Float32s:
        def fact(name: str) -> Floats:
            return user[:, self.facts[name]].astype(np.float64)

        said = {
            "hour_sin": fact("hour_sin"),
            "hour_cos": fact("hour_cos"),
            "position": np.log1p(fact("position") / 0.02) / 5.0,
            "evidence": np.log1p(fact("evidence") * MOST_EVIDENCE) / 5.0,
            "play_rate": fact("valid_play"),
            "session_play_rate": fact("last_valid_play"),
        }
        columns = np.zeros((len(user), N_SHARED))
        for name, values in said.items():
            columns[:, SHARED.index(name)] = values
        return quantise(columns)

    def _dynamic(self, observation: Mapping[str, Any]) -> Float32s:
        items, personal = observation["item"].astype(np.float64), observation["personal"]

        def fact(name: str) -> Floats:
            return np.asarray(items[..., self.n_dims + ITEM_FACTS.index(name)])

        hours = 24.0 * np.expm1(fact("log_age"))
        said = {
            "long_match": personal[..., PERSONAL.index("match")],
            "session_match": -personal[..., PERSONAL.index("seen_topic")],
            "same_language": personal[..., PERSONAL.index("same_language")],
            "age": np.log1p(hours) / _LOG_YEAR,
            "popularity": fact("log_exposures") / 10.0,
        }
        columns = np.zeros((*personal.shape[:2], N_DYNAMIC))
        for name, values in said.items():
            columns[..., DYNAMIC.index(name)] = values
        return quantise(columns)
