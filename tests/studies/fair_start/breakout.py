"""Whether good uploads break out and others do not, and whether that can be bought.

Uploads of a simulated world go through the pools of the default settings, from their home outwards,
by what guarded evidence says of them; what each is truly worth at home is known exactly. Of those
whose trial is over, or has lasted long enough, the top decile by true quality should have come to
pool 2 (`recall`), and what came there should be of the top decile (`precision`). No card may be
drawn for a user outside of its pool (`tests.studies.fair_start.breakout`). And fake accounts must
not be able to push an ordinary video, unless they are like real ones
(`tests.studies.fair_start.attack`).

Rejected: judging by clicks (they are what the pools went by), and a top decile of all items (it
would be another question in each market's own catalogue).
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.fair_start.audience import Audiences
from env.fair_start.reach import UploadState
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.items.content import duplicate_key, home_country
from env.records import PageRecord
from env.vocabulary import Bools, Floats, Ints, Item, ItemId, Scene
from env.world.presets import load
from serve.config import Config
from serve.feed.pipeline import Pipeline
from tests.studies.fair_start.attack import Attacked, AttackRuns, Boosts, run_attack
from tests.studies.fair_start.true_quality import Quality
from tests.studies.served_world.items import DAY_MS
from tests.studies.served_world.world import ServedWorld, WorldSize

Shared = tuple[int, str, str]
"""What near-duplicates that are one upload have in common: content, home and creator."""

HOME_LEVEL = 0
"""The pool of those at home who speak the language."""

PROVEN_LEVEL = 2
"""The pool that opens the neighbours."""


class ReachWatch:
    """A witness of pages; `follow` tells it by which fold to judge.

    Attributes:
        outside: cards drawn for a user outside of their pool.
        stopped: cards of uploads that were stopped.
        on_trial: cards of uploads below the open pool: what could have been either.
    """

    def __init__(self, pools: Pools) -> None:
        """Start without a page.

        Args:
            pools: whose neighbours count.
        """
        self.outside = self.stopped = self.on_trial = 0
        self._pools = pools
        self._audiences: Audiences | None = None
        self._at_ms = -1
        self._uploads: dict[Shared, UploadState] = {}
        self._keys: dict[ItemId, Shared] = {}

    def follow(self, audiences: Audiences) -> None:
        """Judge by this fold, which moves between turns only."""
        self._audiences, self._at_ms = audiences, -1

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """Count a page's cards."""
        catalogue = pipeline.catalogue
        if page.at_ms != self._at_ms:
            self._at_ms = page.at_ms
            self._uploads = self._read(pipeline)
        for card in page.cards:
            index = catalogue.index_of(card.item_id)
            if index is None or not catalogue.debuts[index]:
                continue
            item = catalogue.item(index)
            # A debut that the fold has not met was put in this turn.
            upload = self._uploads.get(self._key(item))
            level = upload.level if upload is not None else HOME_LEVEL
            self.stopped += upload is not None and bool(upload.stopped)
            if level < OPEN_LEVEL:
                self.on_trial += 1
                self.outside += not is_inside(item, level, page.scene, self._pools)

    def _read(self, pipeline: Pipeline) -> dict[Shared, UploadState]:
        """Return what the fold says of uploads, by the key that near-duplicates share."""
        if self._audiences is None:
            raise ValueError("expected a fold to judge by, got none: call `follow` first")
        return {
            self._key(item): upload
            for upload in self._audiences.uploads()
            if (item := _item(pipeline, upload.item_id)) is not None
        }

    def _key(self, item: Item) -> Shared:
        key = self._keys.get(item.item_id)
        if key is None:
            shared = duplicate_key(item), home_country(item), item.creator
            key = self._keys[item.item_id] = shared
        return key


def is_inside(item: Item, level: int, scene: Scene, pools: Pools) -> bool:
    """Return whether an upload of a pool below the open one may be shown in a scene.

    Countries and languages are as `env.features.scenes` has them: "GB", "en".

    >>> item, scene = Item(ItemId("a"), language="en", country="GB"), Scene(0, "GB", "fr")
    >>> [is_inside(item, level, scene, Pools()) for level in (0, 1)]
    [False, True]
    """
    home = home_country(item)
    if not home:
        return True
    if scene.country != home:
        near = pools.neighbours.get(home, ()) if level == PROVEN_LEVEL else ()
        return scene.country in near
    is_foreign = bool(item.language and scene.language) and item.language != scene.language
    return level > HOME_LEVEL or not is_foreign


def _item(pipeline: Pipeline, item_id: ItemId) -> Item | None:
    index = pipeline.catalogue.index_of(item_id)
    return None if index is None else pipeline.catalogue.item(index)


Advance = Callable[[str, int, int], None]
TOP = 0.1


class BreakoutSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        users: who come in turn.
        cards: that they see.
        cards_a_day: of all users together.
        items: there at the start.
        warm_share: of the cards, before the first upload.
        uploads: after it, evenly through `upload_share` of the cards, then none.
        upload_share: see there.
        old_h: hours after which a trial has lasted long enough.
        attack: how much is simulated of it; None leaves it out.
    """

    users: int = 20_000
    cards: int = 1_000_000
    cards_a_day: int = 250_000
    items: int = 4_096
    shard: int = 250
    warm_share: float = 0.1
    uploads: int = 400
    upload_share: float = 0.5
    old_h: float = 36.0
    attack: AttackRuns | None = AttackRuns()


class BreakoutResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        cards: seen.
        judged: uploads whose trial is over or old enough.
        top: of the judged, the top decile by true quality.
        reached: of the judged, those that came to pool 2.
        recall: of the top decile, the share that came to pool 2.
        precision: of those that came to pool 2, the share of the top decile.
        rank_of_reached: mean rank, from 0 to 1, of the true quality of those that came there.
        violations: cards drawn for a user outside of their pool, of `on_trial`.
        stopped_drawn: cards of uploads that were stopped.
        on_trial: cards drawn of uploads below the open pool.
        levels: judged uploads by the highest pool they came to.
        stopped: judged uploads by why they were stopped.
        missed: those of the top decile that did not come to pool 2, by what became of them.
        counted: correlation of true quality and the uplift that evidence says.
        boost_guarded: real users' impressions of attacked videos over those without attack.
        boost_guarded_se: its standard error, from how the videos differ.
        boost_unguarded: the same without guards.
        boost_old_accounts: the same with guards, of videos that old accounts push which tell no
            address; nothing that a guard could go by sets them apart, so this has no target.
        attacked: video by video.
    """

    size: BreakoutSize
    preset: str
    seed: int
    cards: int
    judged: int
    top: int
    reached: int
    recall: float
    precision: float
    rank_of_reached: float
    violations: int
    stopped_drawn: int
    on_trial: int
    levels: list[int]
    stopped: dict[str, int]
    missed: dict[str, int]
    counted: float
    boost_guarded: float | None
    boost_guarded_se: float | None
    boost_unguarded: float | None
    boost_old_accounts: float | None
    attacked: list[Attacked]


def run_breakout(
    size: BreakoutSize, *, preset: str, seed: int, advance: Advance, config: Config | None = None
) -> BreakoutResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of users, items, uploads and draws.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    config, values = config or Config(), load(preset)
    watch = ReachWatch(config.pools)
    users = WorldSize(
        users=size.users, shard=size.shard, cards_a_day=size.cards_a_day, items=size.items
    )
    world = ServedWorld(users, preset=values, seed=seed, config=config, witness=watch)
    watch.follow(world.learning.audiences)
    _swipe(world, size, advance)
    judged = _judged(world, size)
    rows = np.array([world.row_of(upload.item_id) for upload in judged], dtype=np.int64)
    quality = Quality(world.preset, config.reward).of(world.supply.stock, rows, world.home_of(rows))
    reached = np.array([upload.level_ms[PROVEN_LEVEL] > 0 for upload in judged], dtype=np.bool_)
    is_top, rank = _top(quality), _ranks(quality)
    attacked = []
    if size.attack is not None:
        attacked = run_attack(size.attack, preset=values, seed=seed, config=config, advance=advance)
    boost = Boosts.of(attacked) if attacked else None
    return BreakoutResult(
        size=size,
        preset=preset,
        seed=seed,
        cards=world.n_cards,
        judged=len(judged),
        top=int(is_top.sum()),
        reached=int(reached.sum()),
        recall=_share(reached[is_top]),
        precision=_share(is_top[reached]),
        rank_of_reached=float(rank[reached].mean()) if reached.any() else 0.0,
        violations=watch.outside,
        stopped_drawn=watch.stopped,
        on_trial=watch.on_trial,
        levels=_levels(judged),
        stopped=_reasons(judged),
        missed=_missed([judged[k] for k in np.flatnonzero(is_top & ~reached).tolist()]),
        counted=_correlation(quality, np.array([upload.uplift for upload in judged])),
        boost_guarded=boost.guarded if boost else None,
        boost_guarded_se=boost.guarded_se if boost else None,
        boost_unguarded=boost.unguarded if boost else None,
        boost_old_accounts=boost.old if boost else None,
        attacked=attacked,
    )


def _swipe(world: ServedWorld, size: BreakoutSize, advance: Advance) -> None:
    n_warm = round(size.warm_share * size.cards)
    n_uploading = round(size.upload_share * size.cards)

    def told(n_cards: int) -> None:
        advance("swipe", n_cards, size.cards)

    world.run(n_warm, told)
    world.supply.a_day = size.uploads * size.cards_a_day / max(n_uploading, 1)
    world.run(n_uploading, told)
    world.supply.a_day = 0.0
    world.run(size.cards - world.n_cards, told)


def _judged(world: ServedWorld, size: BreakoutSize) -> list[UploadState]:
    """Return the uploads whose trial is over, or has lasted long enough."""
    old_ms = world.clock_ms - round(DAY_MS * size.old_h / 24.0)
    return [
        upload
        for upload in world.learning.audiences.uploads()
        if upload.stopped or upload.level > PROVEN_LEVEL or upload.born_ms <= old_ms
    ]


def _ranks(quality: Floats) -> Floats:
    """Return ranks from 0 to 1, shape (n,)."""
    order: Ints = np.argsort(np.argsort(quality, kind="stable"), kind="stable")
    return order / max(len(quality) - 1, 1)


def _top(quality: Floats) -> Bools:
    """Return which are of the top decile, at least one of any."""
    top: Bools = np.zeros(len(quality), dtype=np.bool_)
    n_top = max(round(TOP * len(quality)), 1)
    top[np.argsort(-quality, kind="stable")[:n_top]] = True
    return top


def _share(which: Bools) -> float:
    return float(which.mean()) if len(which) else 0.0


def _levels(judged: list[UploadState]) -> list[int]:
    highest = [_highest(upload) for upload in judged]
    return [highest.count(level) for level in range(4)]


def _highest(upload: UploadState) -> int:
    return max(k for k, at_ms in enumerate(upload.level_ms) if at_ms or k == 0)


def _missed(uploads: list[UploadState]) -> dict[str, int]:
    """Count uploads by the highest pool they came to, and whether they are there still."""
    fates = [
        f"pool {_highest(upload)}, "
        + (upload.stopped or ("sent back" if upload.level < _highest(upload) else "not decided"))
        for upload in uploads
    ]
    return {fate: fates.count(fate) for fate in sorted(set(fates))}


def _reasons(judged: list[UploadState]) -> dict[str, int]:
    reasons = [upload.stopped for upload in judged]
    return {reason or "not stopped": reasons.count(reason) for reason in sorted(set(reasons))}


def _correlation(left: Floats, right: Floats) -> float:
    if len(left) < 2 or not left.std() or not right.std():
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
