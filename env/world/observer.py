"""A server's knowledge of simulated users, and the observation computed from it.

The server sees cards and responses. It keeps a belief of each user's interests (online logistic
regression of valid plays on item vectors), decayed counts of shown topics, and running means. It
never sees satisfaction, taste, load, true bait or the class of return.

Equations and the rejected alternative: `docs/decisions/gym-observation.md`.
"""

import numpy as np

from env.arrays.draws import BIRTH, normals
from env.arrays.reals import logistic, sum_rows
from env.vocabulary import Bools, Float32s, Floats, Ints
from env.world.answers import Rates
from env.world.crowd import CardOutcome, UserBatch
from env.world.moods import N_TOPICS, StateDynamics
from env.world.population import UserSource
from env.world.supply import Stock

USER_FACTS = (
    "position",
    "log_watched_s",
    "log_sessions",
    "log_tenure_days",
    "day",
    "hour_sin",
    "hour_cos",
    "log_last_gap",
    "log_usual_gap",
    "evidence",
    "last_valid_play",
    "last_log_watch",
    "valid_play",
    "long_view",
    "like",
    "said",
    "not_interested",
    "log_watch",
    "bait_guess",
)

PERSONAL = ("match", "seen_topic", "same_language", "valid_play")
BOUND = 100.0
"""Bound of the absolute value of every number of an observation."""

MOST_EVIDENCE = 640.0
CARDS_A_DAY = 12.0
RECENT = 0.05
USUAL_GAP = 2.0
BELIEF_LANE = 100

(
    _POSITION,
    _WATCHED,
    _SESSIONS,
    _TENURE,
    _DAY,
    _SIN,
    _COS,
    _LAST_GAP,
    _USUAL_GAP,
    _EVIDENCE,
    _LAST_PLAY,
    _LAST_WATCH,
    _MEANS,
) = range(13)


class BeliefObserver:
    """A server's state of n users."""

    def __init__(
        self,
        cast: UserSource,
        rates: Rates,
        moods: StateDynamics,
        taste_sd: float,
        horizon_days: int,
        n: int,
    ) -> None:
        """Allocate n users."""
        self._cast, self._rates, self._moods = cast, rates, moods
        self._precision = 1.0 / (taste_sd * taste_sd)
        self._information = 0.25 / cast.n_dims
        self._horizon_days = horizon_days
        self.belief: Floats = np.zeros((cast.n_dims, n))  # of interests
        self.facts: Floats = np.zeros((len(USER_FACTS), n))  # (len(USER_FACTS), n)
        self.seen: Float32s = np.zeros((n, N_TOPICS), dtype=np.float32)  # decayed topic counts
        self._is: Float32s = np.zeros((n, self._n_classes()), dtype=np.float32)
        self._topic_base = np.arange(n) * N_TOPICS

    @property
    def n_user(self) -> int:
        """Length of a user's observation."""
        return len(self.belief) + N_TOPICS + len(USER_FACTS) + self._n_classes()

    def user_features(self) -> tuple[str, ...]:
        """Return the names of a user's features, in order."""
        return (
            *(f"belief_{d}" for d in range(len(self.belief))),
            *(f"seen_topic_{g}" for g in range(N_TOPICS)),
            *USER_FACTS,
            *(f"cohort_{name}" for name in self._cast.cohorts),
            *(f"device_{name}" for name in self._cast.devices),
            *(f"country_{name}" for name in self._cast.countries),
            *(f"language_{name}" for name in self._cast.languages),
        )

    def meet(self, crowd: UserBatch, index: Ints) -> None:
        """Start the state of users, index of shape (m,), whose lives just began.

        The belief of users registered earlier is drawn from its posterior: with reliability r, r
        times their taste plus noise of variance r (1 - r) sd^2.
        """
        users, keys = crowd.users, crowd.keys[index]
        tenure = users.tenure_days[index]
        evidence = np.minimum(tenure * CARDS_A_DAY, MOST_EVIDENCE)
        known = evidence * self._information
        reliability = known / (known + self._precision)
        noise = normals(keys, np.full(len(keys), BIRTH), BELIEF_LANE, len(self.belief))
        blur = np.sqrt(reliability * (1.0 - reliability) / self._precision)
        self.belief[:, index] = reliability * users.taste[:, index] + blur * noise
        self.seen[index] = 0.0
        self.facts[:, index] = 0.0
        self.facts[_TENURE, index] = np.log1p(tenure)
        self.facts[_EVIDENCE, index] = evidence
        self.facts[_USUAL_GAP, index] = np.log(USUAL_GAP)
        self._note_visit(crowd, index)
        self._is[index] = self._one_hot(crowd, index)

    def learn(
        self,
        crowd: UserBatch,
        stock: Stock,
        rows: Ints,
        swiped: CardOutcome,
        active: Bools | None = None,
    ) -> None:
        """Learn from a card after it has moved the crowd.

        `rows`, shape (n,), are the items shown; `active` masks the users who were shown one, None
        meaning all.
        """
        weight = 1.0 if active is None else 1.0 * active
        answer, played, facts = swiped.answer, swiped.played, self.facts
        place = self._topic_base + swiped.topic
        log_odds = (
            np.take(stock.log_odds, rows, mode="clip").astype(np.float64)
            + sum_rows(self.belief * swiped.vectors)
            + self._rates.language * swiped.same_language
            - self._seen_cost * np.take(self.seen, place, mode="clip").astype(np.float64)
        )
        precision = self._precision + self._information * facts[_EVIDENCE]
        step = weight * (played[0] - np.asarray(logistic(log_odds))) / precision
        self.belief += step * swiped.vectors
        np.minimum(facts[_EVIDENCE] + weight, MOST_EVIDENCE, out=facts[_EVIDENCE])
        if active is None:
            self.seen *= np.float32(self._moods.satiation_decay)
        else:
            self.seen[active] *= np.float32(self._moods.satiation_decay)
        self.seen.reshape(-1)[place] += weight
        watch = np.log1p(answer.watch_s)
        said = np.maximum(np.maximum(answer.comment, answer.share), answer.follow)
        guess = np.take(stock.bait_guess, rows, mode="clip")
        now = (*played, answer.like, said, answer.not_interested, watch, guess)
        for fact, value in enumerate(now, start=_MEANS):
            facts[fact] += weight * RECENT * (value - facts[fact])
        facts[_LAST_PLAY] += weight * (played[0] - facts[_LAST_PLAY])
        facts[_LAST_WATCH] += weight * (watch - facts[_LAST_WATCH])
        facts[_POSITION] = crowd.position * 0.02
        facts[_WATCHED] = np.log1p(crowd.watched_s)

    def greet(self, crowd: UserBatch, index: Ints, gap_days: Floats) -> None:
        """Open the next session of users who return; `gap_days`, (m,), since their last one."""
        gap = np.log(gap_days)
        self.facts[_LAST_GAP, index] = gap
        self.facts[_USUAL_GAP, index] += 0.2 * (gap - self.facts[_USUAL_GAP, index])
        tenure = np.expm1(self.facts[_TENURE, index]) + gap_days
        self.facts[_TENURE, index] = np.log1p(tenure)
        self.seen[index] *= np.exp2(-gap_days)[:, None]
        self._note_visit(crowd, index)

    @property
    def _seen_cost(self) -> float:
        """Log-odds that one recently shown card of a topic takes from the next one."""
        return self._rates.satiation * self._moods.satiation_step

    def write_users(self, out: Float32s) -> None:
        """Write the users' features to `out`, shape (n, n_user)."""
        d, facts_end = len(self.belief), len(self.belief) + N_TOPICS + len(USER_FACTS)
        out[:, :d] = self.belief.T
        out[:, d : d + N_TOPICS] = self.seen
        out[:, d + N_TOPICS : facts_end] = self.facts.T
        out[:, d + N_TOPICS + _EVIDENCE] *= 1.0 / MOST_EVIDENCE
        out[:, facts_end:] = self._is

    def write_items(
        self,
        crowd: UserBatch,
        stock: Stock,
        rows: Ints,
        users: Float32s,
        items: Float32s,
        out: Float32s,
    ) -> None:
        """Write the candidates' features.

        Args:
            crowd: the users.
            stock: the items.
            rows: of the candidates, shape (n, K).
            users: as written by `write_users`, shape (n, n_user).
            items: output, shape (n, K, n_dims + len(ITEM_FACTS)).
            out: output, `PERSONAL` in one plane each, shape (len(PERSONAL), n, K).
        """
        d = stock.n_dims
        match, seen, speaks, chance = out
        np.take(stock.table, rows, axis=0, out=items, mode="clip")
        np.matmul(items[:, :, :d], users[:, :d, None], out=match[:, :, None])
        place = np.take(stock.topic, rows, mode="clip")
        place += self._topic_base[:, None]
        np.take(self.seen, place, out=seen, mode="clip")
        language = crowd.users.language.astype(np.int8)
        np.copyto(speaks, np.take(stock.language, rows, mode="clip") == language[:, None])
        np.multiply(seen, np.float32(self._seen_cost), out=chance)
        chance -= match
        chance -= np.float32(self._rates.language) * speaks
        chance -= np.take(stock.log_odds, rows, mode="clip")
        np.exp(chance, out=chance)
        chance += np.float32(1.0)
        np.reciprocal(chance, out=chance)

    def _note_visit(self, crowd: UserBatch, index: Ints) -> None:
        facts, angle = self.facts, crowd.hour[index] * (2.0 * np.pi / 24.0)
        facts[_POSITION, index] = facts[_WATCHED, index] = 0.0
        facts[_SESSIONS, index] = np.log1p(crowd.sessions[index])
        facts[_DAY, index] = crowd.day[index] / self._horizon_days
        facts[_SIN, index], facts[_COS, index] = np.sin(angle), np.cos(angle)

    def _one_hot(self, crowd: UserBatch, index: Ints) -> Float32s:
        users, cast = crowd.users, self._cast
        return np.column_stack(
            [
                users.cohort[index][:, None] == np.arange(len(cast.cohorts)),
                users.device[index][:, None] == np.arange(len(cast.devices)),
                users.country[index][:, None] == np.arange(len(cast.countries)),
                users.language[index][:, None] == np.arange(len(cast.languages)),
            ]
        ).astype(np.float32)

    def _n_classes(self) -> int:
        cast = self._cast
        return sum(map(len, (cast.cohorts, cast.devices, cast.countries, cast.languages)))
