"""Whether good uploads break out and others do not, and whether that can be bought.

Uploads of a simulated world go through the pools of the default settings, from their home outwards,
by what guarded evidence says of them; what each is truly worth at home is known exactly. Of those
whose trial is over, or has lasted long enough, the top decile by true quality should have come to
pool 2 (`recall`), and what came there should be of the top decile (`precision`). No card may be
drawn for somebody outside of its pool (`serve.bench.reach_watch`). And fake accounts must not be
able to push an ordinary video, unless they are like real ones (`serve.bench.attack`).

Rejected: judging by clicks (they are what the pools went by), and a top decile of all items (it
would be another question in each market's own catalogue).
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.presets import load
from env.reach import UploadState
from env.vocabulary import Bools, Floats, Ints
from serve.bench.attack import Attacked, AttackRuns, Boosts, run_attack
from serve.bench.reach_watch import PROVEN_LEVEL, ReachWatch
from serve.bench.served_items import DAY_MS
from serve.bench.served_world import ServedWorld, WorldSize
from serve.bench.true_quality import Quality
from serve.config import Config

Advance = Callable[[str, int, int], None]
TOP = 0.1


class BreakoutSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        people: who come in turn.
        cards: that they see.
        cards_a_day: of all people together.
        items: there at the start.
        warm_share: of the cards, before the first upload.
        uploads: after it, evenly through `upload_share` of the cards, then none.
        upload_share: see there.
        old_h: hours after which a trial has lasted long enough.
        attack: how much is simulated of it; None leaves it out.
    """

    people: int = 20_000
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
        violations: cards drawn for somebody outside of their pool, of `on_trial`.
        stopped_drawn: cards of uploads that were stopped.
        on_trial: cards drawn of uploads below the open pool.
        levels: judged uploads by the highest pool they came to.
        stopped: judged uploads by why they were stopped.
        missed: those of the top decile that did not come to pool 2, by what became of them.
        counted: correlation of true quality and the uplift that evidence says.
        boost_guarded: real people's impressions of attacked videos over those without attack.
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
        seed: of people, items, uploads and draws.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    config, values = config or Config(), load(preset)
    watch = ReachWatch(config.pools)
    people = WorldSize(
        people=size.people, shard=size.shard, cards_a_day=size.cards_a_day, items=size.items
    )
    world = ServedWorld(people, preset=values, seed=seed, config=config, witness=watch)
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
