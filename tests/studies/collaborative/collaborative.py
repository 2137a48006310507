"""The three parts of the study of item factors: latent tastes, KuaiRand's history and its world."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from threadpoolctl import threadpool_limits

from serve.config import Config
from tests.studies.collaborative.history import FILE, HistoryResult, HistorySize, run_history
from tests.studies.collaborative.reward import RewardResult, RewardSize, run_reward
from tests.studies.collaborative.tastes import TastesResult, TastesSize, run_tastes

Advance = Callable[[str, int, int], None]
"""Told the part, and how much of how much is done."""


class CollaborativeSize(msgspec.Struct, frozen=True):
    """How much each part does."""

    tastes: TastesSize = TastesSize()
    history: HistorySize = HistorySize()
    reward: RewardSize = RewardSize()


class CollaborativeResult(msgspec.Struct, frozen=True):
    """The figures of all parts; those of the history are None where it was skipped.

    Attributes:
        tastes: with two latent tastes.
        history: on KuaiRand's history.
        reward: in KuaiRand's world, items with vectors that say all about tastes.
        reward_without_vectors: the same, items with tags and creators as in KuaiRand's catalogue.
        skipped: why the history was; empty if it was not.
    """

    own_taste_after_5: float
    own_taste_after_2: float
    recall_ratio_popularity: float | None
    recall_ratio_item_item: float | None
    uplift_low: float
    uplift_low_without_vectors: float
    tastes: TastesResult
    history: HistoryResult | None
    reward: RewardResult
    reward_without_vectors: RewardResult
    skipped: str
    seed: int


def run_collaborative(
    size: CollaborativeSize,
    *,
    seed: int,
    config: Config,
    kuairand: Path | None,
    advance: Advance,
    processes: int = 2,
) -> CollaborativeResult:
    """Measure; the figures do not depend on how many processes share the work.

    Args:
        size: of all parts.
        seed: of users, items and draws.
        config: of the server.
        kuairand: folder with the history; None skips that part.
        advance: told of the progress.
        processes: that play the worlds.
    """
    skipped = ""
    if kuairand is None:
        skipped = f"no KuaiRand folder was given (--kuairand DIR, with {FILE})"
    elif not (kuairand / FILE).is_file():
        skipped = f"{kuairand} has no {FILE}"
    with threadpool_limits(1, user_api="blas"):
        n_pages = 2 * size.tastes.users * (size.tastes.cards // size.tastes.page)
        told = _told(advance, "two tastes", n_pages)
        tastes = run_tastes(size.tastes, seed=seed, config=config, advance=told)
        history = None
        if kuairand is not None and not skipped:
            history = run_history(kuairand, size.history, seed=seed, config=config)
    told = _told(advance, "worlds", 4 * size.reward.seeds)
    reward, without_vectors = (
        run_reward(
            msgspec.structs.replace(size.reward, vectors=vectors),
            seed=seed,
            config=config,
            advance=told,
            processes=processes,
        )
        for vectors in (True, False)
    )
    return CollaborativeResult(
        own_taste_after_5=tastes.own_taste_after_5,
        own_taste_after_2=tastes.own_taste_after_2,
        recall_ratio_popularity=history.recall_ratio_popularity if history else None,
        recall_ratio_item_item=history.recall_ratio_item_item if history else None,
        uplift_low=reward.uplift_low,
        uplift_low_without_vectors=without_vectors.uplift_low,
        tastes=tastes,
        history=history,
        reward=reward,
        reward_without_vectors=without_vectors,
        skipped=skipped,
        seed=seed,
    )


def _told(advance: Advance, part: str, total: int) -> Callable[[int], None]:
    done = 0

    def told(n: int) -> None:
        nonlocal done
        done += n
        advance(part, done, total)

    return told
