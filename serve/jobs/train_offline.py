"""Offline training of a ranker from the log, written only if held-out users show an improvement.

The log is read into one history per user, users are split by a keyed hash, a ranker is trained on
one part and judged on the other as it would be served. The gate requires a paired gain per session
with a lower bound above 0. Design and rejected alternatives:
`docs/decisions/jobs-offline-training.md`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from env.pages.lives import LifeReward, Lives
from env.vocabulary import Bools, Floats, Keys
from policies.ranker.tensors import remove_verified
from policies.training.offline.critic import page_scores
from policies.training.offline.job import train_offline as train
from policies.training.offline.settings import OfflineArgs
from policies.training.offline.tempering import kl_from_log
from policies.training.training_folder import RANKER, keep_args, require_room
from replay.estimators.columns import Columns
from replay.estimators.intervals import LEVEL, Estimate
from replay.estimators.marginal import (
    join_sessions,
    join_values,
    session_gain,
    session_trajectories,
    session_values,
)
from replay.estimators.trajectories import StepValues, Trajectories, logged_return
from replay.evaluate.gates import Gates
from replay.evaluate.health import WeightDiagnostics, weights_of
from replay.join.lives import SHARD_STEPS, read_life_shards
from replay.join.our_log import LogSource
from serve.config import Config
from serve.errors import JobError
from serve.learn.rankers import publish_ranker
from serve.store.data_folder import open_data
from serve.store.store import StorePast

Advance = Callable[[str, int, int], None]
"""Called with the step's name, the amount done, and the total."""


class OfflineGate(msgspec.Struct, frozen=True):
    """Requirements on a ranker, judged on users it did not learn from.

    Attributes:
        gates: gates on the weights of decisions.
        max_kl: largest KL divergence from the log, nats per card. A more distant ranker takes its
            users to states that the log lacks, so the gain rests more on the critic's values.
    """

    gates: Gates = Gates()
    max_kl: float = 0.2

    def refusals(self, report: "OfflineReport") -> tuple[str, ...]:
        """Return the reasons not to serve a ranker, gate by gate; empty: it may be served."""
        unfit = (str(refusal) for refusal in self.gates.weight_refusals(report.decisions))
        return (*unfit, *self._of_value(report))

    def _of_value(self, report: "OfflineReport") -> Iterator[str]:
        gain = report.gain
        if not report.kl <= self.max_kl:
            yield (
                f"distance: expected at most {self.max_kl:g} nats a card from the log, "
                f"got {report.kl:.3f}"
            )
        if not gain.low > 0.0:
            yield (
                "value: expected a gain a session that is surely above 0, got "
                f"{gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] on {report.logged.value:.3f}"
            )


class OfflineReport(msgspec.Struct, frozen=True):
    """Evaluation of a ranker on users it did not learn from.

    Attributes:
        logged: reward of a session, returns included.
        gain: gain of a session under the ranker.
        decisions: summary of the weights of decisions.
        kl: KL divergence of the ranker from the log, nats per card.
    """

    logged: Estimate
    gain: Estimate
    decisions: WeightDiagnostics
    kl: float


class OfflineResult(msgspec.Struct, frozen=True):
    """Outcome of an offline training.

    Attributes:
        report: evaluation on held-out users.
        refusals: failed gates; if any, nothing was written.
        share: step size from the log's policy within the KL budget; 0: no step was possible.
        n_steps: cards trained on.
        n_lives: users trained on.
        ranker: path of the file; None: it was not written.
        version: version in the data folder; None: it was not published.
    """

    method: str
    report: OfflineReport
    refusals: tuple[str, ...]
    share: float
    n_steps: int
    n_lives: int
    seconds: float
    ranker: str | None
    version: int | None

    def lines(self) -> list[str]:
        """Return the outcome in words."""
        gain, logged = self.report.gain, self.report.logged
        refused = [f"gate not passed: {refusal}" for refusal in self.refusals]
        if self.version is not None:
            written = f"wrote {self.ranker}, which is current as ranker {self.version}"
        elif self.ranker is not None:
            written = f"wrote {self.ranker}: nextswipe retention publish takes it"
        else:
            written = "not written"
        first = (
            f"{self.method}, from {self.n_steps:,} cards of {self.n_lives:,} users: "
            f"{logged.value:.3f} a session as logged, {gain.value:+.3f} "
            f"[{gain.low:+.3f}, {gain.high:+.3f}] as trained, by {gain.ess:,.0f} "
            f"effective decisions of {gain.n_users:,} other users, {self.report.kl:.4f} nats a card"
        )
        return [first, *refused, written]


def train_offline(
    config: Config,
    args: OfflineArgs,
    folder: Path,
    *,
    holdout: float = 0.4,
    publish: bool = False,
    gate: OfflineGate = OfflineGate(),  # noqa: B008  # frozen
    advance: Advance = lambda step, done, total: None,
) -> OfflineResult:
    """Train a ranker from the data folder's log, judge it, and write it if it passes.

    A server may be running; it follows a published ranker.

    Args:
        config: data folder and reward.
        folder: folder for the ranker; created if missing.
        holdout: share of the users to judge by, in (0, 1).
        publish: also make it the data folder's current ranker, if it passes.
        gate: gate to pass.

    Raises:
        JobError: there is no log, the log is too small, or the folder holds another training.
    """
    path = folder / RANKER
    try:
        require_room(folder, args)
    except ValueError as error:
        raise JobError(str(error)) from error
    read = read_log(config, args.reward)
    learned, judged = split(read.lives, holdout, args.seed)
    trained = train(args, learned, advance=lambda made: advance(made.phase, made.done, made.passes))
    report = judge(
        (
            Scored(part, page_scores(trained.ranker, part), trained.critic.q(part))
            for part in judged
        ),
        args.reward,
    )
    refusals = gate.refusals(report)
    published = None
    if refusals:
        remove_verified(path)  # an older log's ranker must not be taken for this one's
    else:
        keep_args(folder, args)
        trained.ranker.to_file(path, made=msgspec.to_builtins({"training": args, "report": report}))
        if publish:
            published = publish_ranker(
                config,
                trained.ranker.to_bytes(),
                origin=f"train offline --method {args.method} --seed {args.seed}",
                offset=read.offset,
            ).version
    return OfflineResult(
        method=args.method,
        report=report,
        refusals=refusals,
        share=trained.share,
        n_steps=sum(len(lives) for lives in learned),
        n_lives=sum(lives.n_lives for lives in learned),
        seconds=trained.seconds,
        ranker=None if refusals else str(path),
        version=published,
    )


class ReadLog(NamedTuple):
    """User histories read from a log."""

    lives: tuple[Lives, ...]  # in shards
    offset: int  # up to which all lines were read


def read_log(config: Config, reward: LifeReward) -> ReadLog:
    """Return the user histories in the data folder's log.

    Raises:
        JobError: there is no log, or it cannot be read into histories.
    """
    with open_data(config) as store:
        log = store.log
        try:
            offset = log.last_offset()  # before reading: later lines may be read or not
            source = LogSource(
                log.read,
                config.reward,
                default_reward=config.join.default_reward,
                past=StorePast(store),
            )
            n_shards = max(1, round(len(source) / SHARD_STEPS))
            lives = read_life_shards(
                source.batches(), window_days=reward.window_days, n_shards=n_shards
            )
            return ReadLog(lives, offset)
        except ValueError as error:
            raise JobError(f"the log cannot be learned from: {error}") from error


def split(lives: Sequence[Lives], holdout: float, seed: int) -> tuple[list[Lives], list[Lives]]:
    """Return the user histories to learn from and those to judge by, shard by shard.

    Raises:
        JobError: one side is empty.
    """
    learned, judged = [], []
    for part in lives:
        is_judged = are_held_out(part.user, holdout, seed)
        learned += [part.select(~is_judged)] if not is_judged.all() else []
        judged += [part.select(is_judged)] if is_judged.any() else []
    if not learned or not judged:
        raise JobError(
            "expected users to learn from and users to judge by, got "
            f"{sum(part.n_lives for part in lives)} in all and {holdout} of them held out"
        )
    return learned, judged


def are_held_out(users: Keys, share: float, seed: int) -> Bools:
    """Return whether each user is held out, shape (m,): the same for a user in every log.

    Args:
        users: hashes of users, shape (m,).
        share: share of held-out users, in (0, 1).
    """
    key = seed.to_bytes(8, "little")
    places = [
        int.from_bytes(
            hashlib.blake2b(int(p).to_bytes(8, "little"), digest_size=8, key=key).digest()
        )
        for p in users
    ]
    return np.array(places, dtype=np.float64) < share * 2.0**64


class Scored(NamedTuple):
    """User histories with a policy's scores and a critic's values, both from other users."""

    lives: Lives
    scores: Floats  # (p, K) the policy's logits of each page's candidates
    q: Floats  # (n, K) the critic's value of each candidate at each step


def judge(parts: Iterable[Scored], reward: LifeReward) -> OfflineReport:
    """Return the evaluation of a policy on held-out user histories.

    Args:
        parts: parts of the histories, with no user in two of them.
        reward: rewards of cards and returns.

    Raises:
        JobError: there are fewer than two users.
    """
    sessions, values, kl, n_lives = [], [], 0.0, 0
    for lives, scores, q in parts:
        pmfs = lives.pmfs(scores)
        sessions.append(session_trajectories(lives, pmfs, reward))
        values.append(session_values(lives, pmfs, q))
        kl += len(lives) * kl_from_log(lives, pmfs)
        n_lives += lives.n_lives
    if n_lives < 2:
        raise JobError(f"expected at least 2 users to judge by, got {n_lives}")
    return _report(join_sessions(sessions), join_values(values), kl)


def _report(sessions: Trajectories, values: StepValues, kl: float) -> OfflineReport:
    user = sessions.user[sessions.episode]
    return OfflineReport(
        logged=logged_return(sessions, LEVEL),
        gain=session_gain(sessions, values, LEVEL),
        decisions=weights_of(Columns(user, sessions.reward, sessions.propensity, sessions.target)),
        kl=kl / len(user),
    )
