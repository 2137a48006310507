"""Items of a simulated stock as a feed's columns: what `env.catalogue` and `env.items` would hold.

Valid plays stand for popularity as they are, without the decay of a day that a feed's have, and
the reward of an item is that of its counts, liked cards taken for long views. An item that is shown
everywhere says nothing of its home, as one without a country.
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
"""Of `env.features.DYNAMIC`, those that hang on the item alone."""
_PLACES = [DYNAMIC.index(name) for name in ITEM_COLUMNS]


@dataclass(frozen=True)
class FeedItems:
    """A stock as columns.

    Attributes:
        stock: which it is of.
        duration_s: 0 where unknown, shape (n,).
        blocks: `env.features.STATIC`, quantised, shape (n, N_STATIC).
        vectors: of the blocks, shape (n, VECTOR_DIM).
        columns: `ITEM_COLUMNS`, quantised, shape (n, len(ITEM_COLUMNS)).
        bait: what a server takes for it, from `MEAN_BAIT` on, shape (n,).
        played: mean vector of what everybody plays, shape (VECTOR_DIM,).
    """

    stock: Stock
    duration_s: Floats
    blocks: Float32s
    vectors: Float32s
    columns: Float32s
    bait: Floats
    played: Float32s

    @classmethod
    def of(cls, stock: Stock, reward: Reward) -> "FeedItems":
        """Encode a stock.

        Args:
            stock: of items with vectors of at most VECTOR_DIM numbers, padded with zeros, which
                keeps every product of two.
            reward: of a card.

        Raises:
            ValueError: the vectors are longer.
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
        """Write `ITEM_COLUMNS` of candidates.

        Args:
            rows: of them, shape (n, K).
            planes: `env.features.DYNAMIC`, each in a plane, shape (N_DYNAMIC, n, K).
        """
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
    """Return the sum of the items' rewards and of their squares, (n,), of the counted events."""
    _, played, long, liked = stock.counts
    long_view = reward.valid_play + reward.long_view
    total = reward.valid_play * played + reward.long_view * long + reward.like * liked
    squares = (
        reward.valid_play**2 * np.maximum(played - long, 0.0)
        + long_view**2 * long
        + (reward.like**2 + 2.0 * reward.like * long_view) * liked
    )
    return total, squares
