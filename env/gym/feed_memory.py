"""The state that a feed would hold of n simulated users: `env.users.fold` in vectorised form.

The columns have the names of `env.users.state.UserState`'s fields, move by the same constants and
are read by the same functions; a test compares both. Long-registered users start with an interest
drawn from its posterior.

Differences from the fold: `docs/decisions/gym-feed-observation.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.arrays.draws import BIRTH, normals
from env.arrays.reals import logistic
from env.columns import schema
from env.columns.scales import (
    GAP_DECAY,
    MEAN_BAIT,
    TYPICAL_DWELL_S,
    TYPICAL_PLAY_RATE,
    TYPICAL_WATCH,
    scale_plays,
    shrink_rate,
)
from env.columns.schema import VECTOR_DIM, quantise
from env.feedback import DRAWN_REACTIONS, KINDS
from env.items.content import static_blocks
from env.items.popularity import PRIOR_PLAYS, Popular, Popularity
from env.items.statistics import Prior, posterior
from env.reward import Reward
from env.users.fold import BAIT_STEP, LONG_DECAY, MAX_FOLLOWS, SESSION_DECAY
from env.users.interests import DIRECTIONS, MAX_TALLIES, RIDGE, TALLY_DECAY
from env.users.open_cards import MAX_DWELL_S
from env.users.state import PACE_DWELL_S
from env.vocabulary import Bools, Float32s, Floats, Ints, Scene
from env.world.answers import UNCAPPED_S
from env.world.crowd import CardOutcome, UserBatch
from env.world.observer import BELIEF_LANE, CARDS_A_DAY
from env.world.returns import SHORTEST_AWAY
from env.world.supply import Stock
from env.world.world import CAP_S

ITEM_COLUMNS = (
    schema.AGE,
    schema.POPULARITY,
    schema.POPULARITY_HERE,
    schema.REWARD_MEAN,
    schema.REWARD_SD,
    schema.ITEM_EVIDENCE,
    schema.BAIT,
)
"""Dynamic columns that depend on the item alone."""

_PLANES = [schema.index_of(column) for column in ITEM_COLUMNS]


@dataclass(frozen=True)
class FeedItems:
    """A stock as columns."""

    stock: Stock
    duration_s: Floats  # (n,) 0 where unknown
    blocks: Float32s  # (n, N_STATIC) `env.columns.schema.STATIC`, quantised
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
        planes[_PLANES] = np.moveaxis(self.columns.take(rows, axis=0), -1, 0)


def _columns(stock: Stock, reward: Reward, popular: Popular, bait: Floats) -> Floats:
    n_rewarded = stock.counts[0]
    total, squares = _rewards(stock, reward)
    mean, sd = posterior(n_rewarded, total, squares, Prior())
    popularity = scale_plays(popular.plays, popular.highest)
    hours = np.maximum(stock.day - stock.published, 0.0) * 24.0
    columns = {
        schema.AGE: schema.AGE.scaled(hours),
        schema.POPULARITY: popularity,
        schema.POPULARITY_HERE: popularity,
        schema.REWARD_MEAN: mean,
        schema.REWARD_SD: sd,
        schema.ITEM_EVIDENCE: schema.ITEM_EVIDENCE.scaled(n_rewarded),
        schema.BAIT: schema.BAIT.scaled(bait),
    }
    return np.column_stack([columns[column] for column in ITEM_COLUMNS])


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


_NOBODY = -1


class Tallies:
    """The last names that each of n users met, -1 where empty, with exposure and signal."""

    def __init__(self, n: int, width: int) -> None:
        """Start with empty tallies."""
        self.names: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._at: Ints = np.full((n, width), _NOBODY, dtype=np.int64)
        self._exposure: Floats = np.zeros((n, width))
        self._signal: Floats = np.zeros((n, width))

    def clear(self, who: Ints) -> None:
        """Empty the tallies of these users."""
        self.names[who] = self._at[who] = _NOBODY
        self._exposure[who] = self._signal[who] = 0.0

    def add(self, who: Ints, names: Ints, at: Ints, signal: Floats) -> None:
        """Count an exposure to a name and its signal for each of m distinct users; shapes (m,).

        Names are at least 0; `at` holds each user's `n_cards` by now.
        """
        is_same = self.names[who] == names[:, None]
        is_known = is_same.any(axis=1)
        place = np.where(is_known, is_same.argmax(axis=1), self._at[who].argmin(axis=1))
        kept = is_known * TALLY_DECAY ** (at - self._at[who, place])
        self.names[who, place], self._at[who, place] = names, at
        self._exposure[who, place] = self._exposure[who, place] * kept + 1.0
        self._signal[who, place] = self._signal[who, place] * kept + signal

    def read(self, names: Ints, at: Ints) -> tuple[Floats, Floats]:
        """Return exposure to names and their signal as of now, shapes (n, K); 0 where unmet.

        `at` holds the users' `n_cards`, shape (n,).
        """
        is_same = self._same(names)
        place, is_met = is_same.argmax(axis=2), is_same.any(axis=2)
        aged = is_met * TALLY_DECAY ** (at[:, None] - np.take_along_axis(self._at, place, axis=1))
        exposure = np.take_along_axis(self._exposure, place, axis=1)
        return exposure * aged, np.take_along_axis(self._signal, place, axis=1) * aged

    def has(self, names: Ints) -> Bools:
        """Return whether users met these names, shape (n, K)."""
        return np.asarray(self._same(names).any(axis=2))

    def _same(self, names: Ints) -> Bools:
        """Return which slot holds which name, shape (n, K, width), over the slots ever used."""
        width = max(int((self.names >= 0).sum(axis=1).max()), 1)
        return np.asarray(self.names[:, None, :width] == names[:, :, None])


TASTE_SIGNAL_SD = 0.12
"""Standard deviation of the taste's part of a signal over items, the tau of
`env.users.interests.RIDGE`."""

_DAY_S = 86_400.0


class FeedStateBatch:
    """A feed's state of n users; see `env.users.state.UserState` for the columns not listed here.

    `now` and `born` are the days of each user's last event and of their first visit, `tenure` the
    days since registration at the first visit; `topics` are the tags of a simulated world.
    """

    def __init__(self, taste_sd: float, reward: Reward, n: int) -> None:
        """Allocate n users; `taste_sd` is the spread between users of a dimension of interest."""
        self._taste_sd, self._reward = taste_sd, reward
        self._everybody = np.arange(n)
        self._items: FeedItems | None = None
        self.n_cards: Ints = np.zeros(n, dtype=np.int64)
        self.evidence, self.plays, self.watch, self.dwell_s = np.zeros((4, n))
        self.session_evidence, self.session_plays, self.session_watched_s = np.zeros((3, n))
        self.n_returns, self.last_gap, self.gap_sum, self.bait_lately = np.zeros((4, n))
        self.now, self.born, self.tenure = np.zeros((3, n))
        self.long_sum: Float32s = np.zeros((n, VECTOR_DIM), dtype=np.float32)
        self.session_sum: Float32s = np.zeros((n, VECTOR_DIM), dtype=np.float32)
        self.creators, self.topics = Tallies(n, MAX_TALLIES), Tallies(n, MAX_TALLIES)
        self.follows = Tallies(n, MAX_FOLLOWS)
        self.languages = Tallies(n, MAX_TALLIES)  # plays in place of signals

    def items(self, stock: Stock) -> FeedItems:
        """Return a stock as columns, cached until another one is requested."""
        if self._items is None or self._items.stock is not stock:
            self._items = FeedItems.of(stock, self._reward)
        return self._items

    def meet(self, crowd: UserBatch, index: Ints) -> None:
        """Start the state of users whose lives just began; see `Observer.meet`."""
        users = crowd.users
        self.n_cards[index] = 0
        for column in (self.n_returns, self.last_gap, self.gap_sum, self.bait_lately):
            column[index] = 0.0
        for tallies in (self.creators, self.topics, self.follows, self.languages):
            tallies.clear(index)
        self._end_session(index)
        self.now[index] = self.born[index] = _day(crowd, index)
        self.tenure[index] = users.tenure_days[index]
        n_cards = users.tenure_days[index] * CARDS_A_DAY
        evidence = (1.0 - LONG_DECAY**n_cards) / (1.0 - LONG_DECAY)
        play_rate = np.asarray(logistic(_log_odds(TYPICAL_PLAY_RATE) + users.lean[index]))
        self.evidence[index] = evidence
        self.plays[index] = evidence * play_rate
        self.watch[index] = evidence * play_rate * (TYPICAL_WATCH / TYPICAL_PLAY_RATE)
        self.dwell_s[index] = evidence * TYPICAL_DWELL_S
        self.long_sum[index] = self._learned(crowd, index, evidence)

    def learn(
        self,
        crowd: UserBatch,
        stock: Stock,
        rows: Ints,
        swiped: CardOutcome,
        active: Bools | None = None,
    ) -> None:
        """Learn from a card; see `Observer.learn`."""
        who = self._everybody if active is None else np.flatnonzero(active)
        items, shown = self.items(stock), rows[who]
        played, long = swiped.played[0][who], swiped.played[1][who]
        watch = 0.5 * played + 0.5 * long
        dwell_s = np.minimum(np.asarray(swiped.answer.watch_s)[who], MAX_DWELL_S)
        usual = np.asarray(shrink_rate(self.watch[who], self.evidence[who], TYPICAL_WATCH))
        signal = watch - usual
        self._count(who, played, watch, dwell_s)
        self._lean(who, signal, items.vectors[shown])
        signal = signal + self._react(who, swiped, items.vectors[shown])
        self.n_cards[who] += 1
        at = self.n_cards[who]
        self.creators.add(who, stock.creator[shown], at, signal)
        self.topics.add(who, stock.topic[shown], at, signal)
        wanted = played * (np.asarray(swiped.answer.not_interested)[who] == 0.0)
        language = stock.language[shown].astype(np.int64)
        spoken = language >= 0
        self.languages.add(who[spoken], language[spoken], at[spoken], wanted[spoken])
        follows = np.asarray(swiped.answer.follow)[who] > 0.0
        self.follows.add(who[follows], stock.creator[shown][follows], at[follows], signal[follows])
        self.bait_lately[who] += BAIT_STEP * (items.bait[shown] - self.bait_lately[who])
        self.now[who] = _day(crowd, who) + crowd.watched_s[who] / _DAY_S

    def greet(self, crowd: UserBatch, index: Ints, gap_days: Floats) -> None:
        """Open a returning user's next session; see `Observer.greet`."""
        begins = _day(crowd, index)
        gap = np.log1p(np.maximum(begins - self.now[index], SHORTEST_AWAY))
        self.last_gap[index] = gap
        self.gap_sum[index] = self.gap_sum[index] * GAP_DECAY + gap
        self.n_returns[index] += 1.0
        self.now[index] = begins
        self._end_session(index)

    def _count(self, who: Ints, played: Floats, watch: Floats, dwell_s: Floats) -> None:
        pace_s = np.minimum(dwell_s, PACE_DWELL_S)
        for column, value in (
            (self.evidence, 1.0),
            (self.plays, played),
            (self.watch, watch),
            (self.dwell_s, pace_s),
        ):
            column[who] = column[who] * LONG_DECAY + value
        for column, value in ((self.session_evidence, 1.0), (self.session_plays, played)):
            column[who] = column[who] * SESSION_DECAY + value
        self.session_watched_s[who] += dwell_s

    def _lean(self, who: Ints, signal: Floats, vectors: Float32s) -> None:
        """Move interests by watching."""
        moved = signal.astype(np.float32)[:, None] * vectors
        self.long_sum[who] = self.long_sum[who] * np.float32(LONG_DECAY) + moved
        self.session_sum[who] = self.session_sum[who] * np.float32(SESSION_DECAY) + moved

    def _react(self, who: Ints, swiped: CardOutcome, vectors: Float32s) -> Floats:
        """Move interests by each reaction in turn; return the reactions' signal, (m,)."""
        total, answer = np.zeros(len(who)), swiped.answer
        for kind in DRAWN_REACTIONS:
            did = np.flatnonzero(np.asarray(getattr(answer, kind))[who])
            signal = KINDS[kind].signal.interest
            moved = np.float32(signal) * vectors[did]
            self.long_sum[who[did]] += moved
            self.session_sum[who[did]] += moved
            total[did] += signal
        return total

    def _end_session(self, index: Ints) -> None:
        for column in (self.session_evidence, self.session_plays, self.session_watched_s):
            column[index] = 0.0
        self.session_sum[index] = 0.0

    def _learned(self, crowd: UserBatch, index: Ints, evidence: Floats) -> Float32s:
        """Return the sum of signal x vector at this evidence, (m, VECTOR_DIM)."""
        taste, keys = crowd.users.taste[:, index], crowd.keys[index]
        known = evidence / DIRECTIONS
        reliability = known / (known + RIDGE)
        noise = normals(keys, np.full(len(keys), BIRTH), BELIEF_LANE, len(taste))
        blur = TASTE_SIGNAL_SD * np.sqrt(reliability * (1.0 - reliability))
        interest = reliability * (TASTE_SIGNAL_SD / self._taste_sd) * taste + blur * noise
        total = np.zeros((len(index), VECTOR_DIM), dtype=np.float32)
        total[:, : len(taste)] = (interest * (RIDGE + known)).T
        return total


def _day(crowd: UserBatch, index: Ints) -> Floats:
    """Return the start of users' visits, in days since their first day, shape (m,)."""
    return crowd.day[index] + crowd.hour[index] / 24.0


def _log_odds(chance: float) -> float:
    return float(np.log(chance / (1.0 - chance)))
