"""The state that a feed would hold of n simulated users: `env.user_fold` in vectorised form.

The columns have the names of `env.users.UserState`'s fields, move by the same constants and are
read by the same functions; a test compares both. Long-registered users start with an interest drawn
from its posterior.

Differences from the fold: `docs/decisions/gym-feed-observation.md`.
"""

import numpy as np

from env.crowd import Crowd, Swiped
from env.draws import BIRTH, normals
from env.features import VECTOR_DIM
from env.feed_items import FeedItems
from env.feed_tallies import Tallies
from env.interests import DIRECTIONS, MAX_TALLIES, RIDGE
from env.observe import BELIEF_LANE, CARDS_A_DAY
from env.open_cards import MAX_DWELL_S, SIGNALS
from env.pace import (
    GAP_DECAY,
    TYPICAL_DWELL_S,
    TYPICAL_PLAY_RATE,
    TYPICAL_WATCH,
    shrink_rate,
)
from env.reals import Reals, logistic
from env.records import FeedbackKind
from env.returns import SHORTEST_AWAY
from env.reward import Reward
from env.supply import Stock
from env.user_fold import BAIT_STEP, LONG_DECAY, MAX_FOLLOWS, SESSION_DECAY
from env.users import PACE_DWELL_S
from env.vocabulary import Bools, Float32s, Floats, Ints

TASTE_SIGNAL_SD = 0.12
"""Standard deviation of the taste's part of a signal over items, the tau of
`env.interests.RIDGE`."""
_DAY_S = 86_400.0


class FeedMemory:
    """A feed's state of n users; see `env.users.UserState` for the columns not listed here.

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

    def items(self, stock: Stock) -> FeedItems:
        """Return a stock as columns, cached until another one is requested."""
        if self._items is None or self._items.stock is not stock:
            self._items = FeedItems.of(stock, self._reward)
        return self._items

    def meet(self, crowd: Crowd, index: Ints) -> None:
        """Start the state of users whose lives just began; see `Observer.meet`."""
        people = crowd.people
        self.n_cards[index] = 0
        for column in (self.n_returns, self.last_gap, self.gap_sum, self.bait_lately):
            column[index] = 0.0
        for tallies in (self.creators, self.topics, self.follows):
            tallies.clear(index)
        self._end_session(index)
        self.now[index] = self.born[index] = _day(crowd, index)
        self.tenure[index] = people.tenure_days[index]
        n_cards = people.tenure_days[index] * CARDS_A_DAY
        evidence = (1.0 - LONG_DECAY**n_cards) / (1.0 - LONG_DECAY)
        play_rate = np.asarray(logistic(_log_odds(TYPICAL_PLAY_RATE) + people.lean[index]))
        self.evidence[index] = evidence
        self.plays[index] = evidence * play_rate
        self.watch[index] = evidence * play_rate * (TYPICAL_WATCH / TYPICAL_PLAY_RATE)
        self.dwell_s[index] = evidence * TYPICAL_DWELL_S
        self.long_sum[index] = self._learned(crowd, index, evidence)

    def learn(
        self,
        crowd: Crowd,
        stock: Stock,
        rows: Ints,
        swiped: Swiped,
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
        follows = np.asarray(swiped.answer.follow)[who] > 0.0
        self.follows.add(who[follows], stock.creator[shown][follows], at[follows], signal[follows])
        self.bait_lately[who] += BAIT_STEP * (items.bait[shown] - self.bait_lately[who])
        self.now[who] = _day(crowd, who) + crowd.watched_s[who] / _DAY_S

    def greet(self, crowd: Crowd, index: Ints, gap_days: Floats) -> None:
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

    def _react(self, who: Ints, swiped: Swiped, vectors: Float32s) -> Floats:
        """Move interests by each reaction in turn; return the reactions' signal, (m,)."""
        total, answer = np.zeros(len(who)), swiped.answer
        events: tuple[tuple[FeedbackKind, Reals], ...] = (
            ("like", answer.like),
            ("comment", answer.comment),
            ("share", answer.share),
            ("follow", answer.follow),
            ("not_interested", answer.not_interested),
        )
        for kind, event in events:
            did = np.flatnonzero(np.asarray(event)[who])
            moved = np.float32(SIGNALS[kind]) * vectors[did]
            self.long_sum[who[did]] += moved
            self.session_sum[who[did]] += moved
            total[did] += SIGNALS[kind]
        return total

    def _end_session(self, index: Ints) -> None:
        for column in (self.session_evidence, self.session_plays, self.session_watched_s):
            column[index] = 0.0
        self.session_sum[index] = 0.0

    def _learned(self, crowd: Crowd, index: Ints, evidence: Floats) -> Float32s:
        """Return the sum of signal x vector at this evidence, (m, VECTOR_DIM)."""
        taste, keys = crowd.people.taste[:, index], crowd.keys[index]
        known = evidence / DIRECTIONS
        reliability = known / (known + RIDGE)
        noise = normals(keys, np.full(len(keys), BIRTH), BELIEF_LANE, len(taste))
        blur = TASTE_SIGNAL_SD * np.sqrt(reliability * (1.0 - reliability))
        interest = reliability * (TASTE_SIGNAL_SD / self._taste_sd) * taste + blur * noise
        total = np.zeros((len(index), VECTOR_DIM), dtype=np.float32)
        total[:, : len(taste)] = (interest * (RIDGE + known)).T
        return total


def _day(crowd: Crowd, index: Ints) -> Floats:
    """Return the start of users' visits, in days since their first day, shape (m,)."""
    return crowd.day[index] + crowd.hour[index] / 24.0


def _log_odds(chance: float) -> float:
    return float(np.log(chance / (1.0 - chance)))
