"""A simulated stock as the columns that a feed's catalogue and item statistics would hold.

Valid plays stand for popularity without the feed's daily decay, and an item's reward follows from
its counts, with liked cards taken for long views. An item that is shown everywhere has no country.
"""

from dataclasses import dataclass

import numpy as np

from env.answers import UNCAPPED_S
from env.bait import MEAN_BAIT
from env.content import static_blocks
from env.features import DYNAMIC, VECTOR_DIM, quantise
from env.items import Prior, posterior
from env.popularity import PRIOR_PLAYS, Popular, Popularity
from env.reward import Reward
from env.scales import scale_age, scale_bait, scale_plays, scale_rewarded
from env.supply import Stock
from env.vocabulary import Float32s, Floats, Ints, Scene
from env.world import CAP_S

ITEM_COLUMNS = (
    "age",
    "popularity",
    "popularity_here",
    "reward_mean",
    "reward_sd",
    "item_evidence",
    "bait",
)
"""Columns of `env.features.DYNAMIC` that depend on the item alone."""
_PLACES = [DYNAMIC.index(name) for name in ITEM_COLUMNS]


@dataclass(frozen=True)
class FeedItems:
    """A stock as columns."""

    stock: Stock
    duration_s: Floats  # (n,) 0 where unknown
    blocks: Float32s  # (n, N_STATIC) `env.features.STATIC`, quantised
    vectors: Float32s  # (n, VECTOR_DIM) of the blocks
    columns: Float32s  # (n, len(ITEM_COLUMNS)) quantised
    bait: Floats  # (n,) the server's estimate, relative to `MEAN_BAIT`
    played: Float32s  # (VECTOR_DIM,) mean vector of all plays

    @classmethod
    def of(cls, stock: Stock, reward: Reward) -> "FeedItems":
        """Encode a stock, its vectors padded with zeros, which keeps every inner product.

        Raises:
            ValueError: the vectors have more than VECTOR_DIM numbers.
        """
        if stock.n_dims > VECTOR_DIM:
            raise ValueError(
                f"expected items of at most {VECTOR_DIM} dimensions for the feed's columns, got "
                f"{stock.n_dims}"
            )
        cap_s = stock.columns[CAP_S]
        duration_s = np.where(cap_s < UNCAPPED_S, cap_s, 0.0)
        padded = np.zeros((stock.n, VECTOR_DIM))
        padded[:, : stock.n_dims] = stock.vectors.T
        blocks = static_blocks(padded, duration_s)
        vectors = np.ascontiguousarray(blocks[:, :VECTOR_DIM])
        bait = np.clip(stock.bait_guess + np.float64(MEAN_BAIT), 0.0, 1.0) - MEAN_BAIT
        popular = Popular.of(stock.counts[1])
        everywhere = Popularity(popular, PRIOR_PLAYS, {}, np.arange(stock.n))
        return cls(
            stock=stock,
            duration_s=duration_s,
            blocks=blocks,
            vectors=vectors,
            columns=quantise(_columns(stock, reward, popular, bait)),
            bait=bait,
            played=everywhere.interest(Scene(0), vectors),
        )

    def write(self, rows: Ints, planes: Float32s) -> None:
        """Write the candidates' `ITEM_COLUMNS`, (n, K), into planes, (N_DYNAMIC, n, K)."""
        planes[_PLACES] = np.moveaxis(self.columns.take(rows, axis=0), -1, 0)


def _columns(stock: Stock, reward: Reward, popular: Popular, bait: Floats) -> Floats:
    n_rewarded = stock.counts[0]
    total, squares = _rewards(stock, reward)
    mean, sd = posterior(n_rewarded, total, squares, Prior())
    popularity = scale_plays(popular.plays, popular.highest)
    hours = np.maximum(stock.day - stock.published, 0.0) * 24.0
    columns = {
        "age": scale_age(hours),
        "popularity": popularity,
        "popularity_here": popularity,
        "reward_mean": mean,
        "reward_sd": sd,
        "item_evidence": scale_rewarded(n_rewarded),
        "bait": scale_bait(bait),
    }
    return np.column_stack([columns[name] for name in ITEM_COLUMNS])


def _rewards(stock: Stock, reward: Reward) -> tuple[Floats, Floats]:
    """Return the sums of the items' rewards and of their squares, (n,), from counted events."""
    _, played, long, liked = stock.counts
    long_view = reward.valid_play + reward.long_view
    total = reward.valid_play * played + reward.long_view * long + reward.like * liked
    squares = (
        reward.valid_play**2 * np.maximum(played - long, 0.0)
        + long_view**2 * long
        + (reward.like**2 + 2.0 * reward.like * long_view) * liked
    )
    return total, squares
