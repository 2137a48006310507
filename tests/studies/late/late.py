"""Likes that come seconds to days late: how much of the reward of prompt ones is left.

Three servers have the same users, items and draws of the world. One hears of a like at once, one
hears of it 1 s to 2 days later and corrects, one hears of it as late and lets it go. What the users
of the second and third earned on average is compared with what the same users of the first did.
"""

import heapq
import math
from collections.abc import Callable

import msgspec
import numpy as np

from env.arrays.draws import uniforms
from env.records import FeedbackRecord, Record, TickRecord, item_key
from env.vocabulary import Keys
from env.world.presets import load
from replay.join.late import LateCounts
from serve.config import Config
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.items import DAY_MS
from tests.studies.served_world.paired import Ratio, ratio_of
from tests.studies.served_world.world import ServedWorld, WorldSize

Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total."""

LEAST_DELAY_MS, MOST_DELAY_MS = 1_000, 2 * DAY_MS
Z95 = 1.959964
_LANE = 171


class LateSize(msgspec.Struct, frozen=True):
    """How long a world is watched.

    Attributes:
        users: who come in turn; a multiple of 250.
        items: there at the start.
        cards_a_day: of all users together.
        days: that pass before the cards that are compared.
        compared: days that are compared.
    """

    users: int = 2_000
    items: int = 4_096
    cards_a_day: int = 40_000
    days: float = 3.0
    compared: float = 3.0


class LateResult(msgspec.Struct, frozen=True):
    """Mean expected reward a card with late likes, over that of the same users with prompt ones.

    Attributes:
        late_ratio: where late likes correct.
        late_low: lower end of its 95% interval, clustered by user.
        lost_ratio: where they are lost; None: it was not asked.
        reward_prompt: mean expected reward a card with prompt likes.
        n_cards: compared cards of each server.
        n_likes: likes that came late, of the whole world.
        counts: what became of them.
    """

    seed: int
    size: LateSize
    late_ratio: float
    late_low: float
    lost_ratio: float | None
    reward_prompt: float
    n_cards: int
    n_likes: int
    counts: LateCounts


class LateWorld(ServedWorld):
    """A served world whose server hears late of likes."""

    def __init__(
        self, size: WorldSize, *, preset: str, seed: int, config: Config, late: bool, correct: bool
    ) -> None:
        """Put the items of the start.

        Args:
            late: likes come late.
            correct: what comes late corrects.
        """
        super().__init__(size, preset=load(preset), seed=seed, config=config)
        self.n_late = 0
        self._is_late = late
        self._waiting: list[tuple[int, str, FeedbackRecord]] = []
        if correct:
            self._lines.insert(0, TickRecord(0, corrects_ms=config.join.corrects_ms))

    def _learn(self) -> None:
        """Put off the likes of this turn, add those that are due, and fold."""
        if self._is_late:
            kept = list[Record]()
            for record in self._lines:
                if isinstance(record, FeedbackRecord) and record.kind == "like":
                    self._put_off(record)
                else:
                    kept.append(record)
            self._lines = kept
            while self._waiting and self._waiting[0][0] <= self.clock_ms:
                self._lines.append(heapq.heappop(self._waiting)[2])
        super()._learn()

    def _put_off(self, like: FeedbackRecord) -> None:
        self.n_late += 1
        at_ms = like.at_ms + delay_ms(like)
        late = msgspec.structs.replace(like, at_ms=at_ms)
        heapq.heappush(self._waiting, (at_ms, f"{like.decision_id}/{like.event_id}", late))


def delay_ms(like: FeedbackRecord) -> int:
    """Return how late a like comes: log-uniform, drawn from its name."""
    key: Keys = np.array([item_key(f"{like.decision_id}/{like.event_id}")], dtype=np.uint64)
    u = float(uniforms(key, np.zeros(1, dtype=np.int64), _LANE, 1)[0][0])
    return round(LEAST_DELAY_MS * math.exp(u * math.log(MOST_DELAY_MS / LEAST_DELAY_MS)))


def run_late(
    size: LateSize,
    *,
    preset: str,
    seed: int,
    config: Config,
    lost: bool,
    advance: Advance,
) -> LateResult:
    """Let the same users swipe in front of each server, and compare what they earned.

    Args:
        size: of the world.
        preset: of the users and items: a name, or a JSON file.
        seed: of users, items, draws and delays.
        config: of the server.
        lost: also let late likes be lost.
        advance: progress callback.
    """
    prompt, _ = _lived(size, preset, seed, config, advance, "prompt", late=False, correct=True)
    late, world = _lived(size, preset, seed, config, advance, "late", late=True, correct=True)
    ratio, lost_ratio = ratio_of(late, prompt), None
    if lost:
        gone, _ = _lived(size, preset, seed, config, advance, "lost", late=True, correct=False)
        lost_ratio = ratio_of(gone, prompt).value
    return LateResult(
        seed=seed,
        size=size,
        late_ratio=ratio.value,
        late_low=_low(ratio),
        lost_ratio=lost_ratio,
        reward_prompt=float(prompt.expected.mean()),
        n_cards=len(late),
        n_likes=world.n_late,
        counts=world.learning.late.counts,
    )


def _low(ratio: Ratio) -> float:
    return ratio.value - Z95 * ratio.se


def _lived(
    size: LateSize,
    preset: str,
    seed: int,
    config: Config,
    advance: Advance,
    name: str,
    *,
    late: bool,
    correct: bool,
) -> tuple[Shown, LateWorld]:
    """Return the compared cards of one server."""
    world_size = WorldSize(users=size.users, items=size.items, cards_a_day=size.cards_a_day)
    world = LateWorld(
        world_size, preset=preset, seed=seed, config=config, late=late, correct=correct
    )
    total = round(size.cards_a_day * (size.days + size.compared))
    world.run_days(size.days + size.compared, lambda n: advance(name, n, total))
    since_ms = world.clock_ms - round(size.compared * DAY_MS)
    shown = world.shown
    return shown.take(shown.at_ms >= since_ms), world
