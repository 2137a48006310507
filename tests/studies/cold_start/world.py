"""A world of uploads that live for a while: what cold start costs, where the best is known exactly.

A pool of live items, each new upload in the oldest one's place. Each round another user is
offered some of them, drawn at random, and is shown one; a valid play is a coin with

    logit p = intercept + affinity + content . v + hidden
    affinity = affinity_sd sqrt(d) x . v     x, v unit vectors of user and item in d dimensions
    content ~ N(0, content_sd^2) a dimension; hidden ~ N(0, hidden_sd^2) an item

A policy is told x . v (the column `long_match`) and v (the item's block); it can learn content
from all items together, and what is hidden of an item from its own cards only.

The scales are chosen to give what was measured of such a world before (48 replicates of 12,000
rounds; policies that know all but what is hidden; regret, gini, share with 20 impressions):

    uniform          .330  .072  1.00       here  .337  .071  1.00
    features only    .056  .524  .703             .056  .524  .701
    greedy           .024  .647  .566             .026  .640  .558
    mean + 1 sd      .024  .591  .633             .027  .583  .631
    greedy, eps .05  .039  .607  .594             .041  .617  .586

(32 replicates, without the floor of 2% that pages have here, which costs every arm some .007).

Rejected: Gaussian affinities of users with norms of their own (the same figures, but no real
`long_match` is one: it is a cosine).
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env.arrays.reals import logistic
from env.columns.schema import VECTOR_DIM, quantise
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import Float32s, Floats, Ints, Item, ItemId

DURATION_S = 20.0
_ROUND_MS = 1_000


class WorldArgs(msgspec.Struct, frozen=True):
    """Sizes and scales.

    Attributes:
        pool: items live at a time.
        n_candidates: of each round, of the pool.
        n_dims: d, at most VECTOR_DIM.
        affinity_sd: over users and items, in log-odds, as the next two.
        content_sd: over items.
        hidden_sd: over items.
        intercept: log-odds.
    """

    pool: int = 100
    n_candidates: int = 20
    n_dims: int = 16
    affinity_sd: float = 0.62
    content_sd: float = 0.35
    hidden_sd: float = 0.5
    intercept: float = -0.105


@dataclass(frozen=True, slots=True, eq=False)
class ColdWorld:
    """All that happens in a replicate but for what is chosen; items by index, rounds by number.

    An item lives half of the rounds, so those of the first half live their whole life.
    """

    args: WorldArgs
    catalogue: Catalogue  # of m items, those of the first pool first
    offered: Ints  # (rounds, K)
    match: Float32s  # (rounds, K) x . v, quantised
    known: Floats  # (m,) the part of the log-odds that an item's features tell
    expected: Floats  # (rounds, K) p
    coin: Floats  # (rounds,) a card is played if this is below its p
    ended: Ints  # items that lived their whole life in these rounds
    quality: Floats  # (m,) what features tell and what is hidden, log-odds

    @property
    def n_rounds(self) -> int:
        """Number of rounds."""
        return len(self.coin)


def draw_world(args: WorldArgs, n_rounds: int, seed: int, replicate: int) -> ColdWorld:
    """Return a world; each replicate of a seed is another one.

    Raises:
        ValueError: fewer than 2 rounds a live item, so that more than one came at a time.
    """
    if n_rounds < 2 * args.pool:
        raise ValueError(f"expected at least {2 * args.pool} rounds, got {n_rounds}")
    rng = np.random.default_rng([seed, replicate])
    born = _births(args.pool, n_rounds)
    item_ids = [ItemId(f"{replicate}-{index}") for index in range(len(born))]
    catalogue = _catalogue(item_ids, born, _unit(rng.normal(size=(len(born), args.n_dims))))
    vectors = catalogue.blocks[:, : args.n_dims].astype(np.float64)
    known = vectors @ rng.normal(0.0, args.content_sd, args.n_dims)
    quality = known + rng.normal(0.0, args.hidden_sd, len(born))
    # The live items of a round are a run of indices, since uploads replace the oldest.
    newest = np.searchsorted(born, np.arange(n_rounds), side="right")
    order = rng.random((n_rounds, args.pool)).argsort(axis=1)[:, : args.n_candidates]
    offered = newest[:, None] - args.pool + order
    users = _unit(rng.normal(size=(n_rounds, args.n_dims)))
    match = quantise(np.einsum("td,tkd->tk", users, vectors[offered]))
    scale = args.affinity_sd * np.sqrt(args.n_dims)
    log_odds = args.intercept + scale * match.astype(np.float64) + quality[offered]
    n_ended = int(newest[-1]) - args.pool
    return ColdWorld(
        args=args,
        catalogue=catalogue,
        offered=offered,
        match=match,
        known=known,
        expected=np.asarray(logistic(log_odds)),
        coin=rng.random(n_rounds),
        ended=np.arange(args.pool, max(n_ended, args.pool)),
        quality=quality,
    )


def round_ms(t: int) -> int:
    """Return the time of a round, Unix milliseconds."""
    return t * _ROUND_MS


def _births(pool: int, n_rounds: int) -> Ints:
    """Return the round of each upload, ascending; the first pool's are 0 and before."""
    uploads = np.arange(1, 2 * pool + 1) * (n_rounds // 2) // pool
    return np.concatenate([np.arange(1 - pool, 1), uploads[uploads < n_rounds]])


def _catalogue(item_ids: list[ItemId], born: Ints, vectors: Floats) -> Catalogue:
    catalogue = Catalogue()
    padded = np.zeros((len(vectors), VECTOR_DIM))
    padded[:, : vectors.shape[1]] = vectors
    for item_id, at, vector in zip(item_ids, born.tolist(), padded.tolist(), strict=True):
        item = Item(
            item_id=item_id,
            duration_s=DURATION_S,
            published_ms=max(round_ms(at), 0),
            vector=tuple(vector),
        )
        block = pack_halves(static_block(item))
        catalogue.apply(ItemRecord(item_id, item.published_ms, item, block))
    return catalogue


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
