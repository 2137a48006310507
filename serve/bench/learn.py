"""Benchmark of learning from the log: read, check, decode, join, and train in Vowpal Wabbit.

Simulated users swipe pages into a log on disk, which is then read from its beginning in the
learner's batches: once up to the bandit, once through the whole fold. Vowpal Wabbit's own dsjson
parser on the same decisions is the peer. Method: `docs/decisions/bench-learn.md`.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from pathlib import Path

import msgspec

from env.records import LogLine, PageRecord
from env.reward import is_censored
from env.vocabulary import Context, Interaction, PageId
from policies.bandit.policy import HybridBandit
from policies.bandit.settings import HybridBanditArgs
from replay.join.join import Join
from replay.log.sqlite.database import Database
from replay.log.sqlite.log import SqliteLog
from serve.bench.room import Advance, InProcessServer
from serve.config import Config
from serve.learn.fold import LearnerState
from serve.learn.learner import BATCH_LINES
from serve.learn.settings import learning_args
from tests.studies.peers.vowpal_dsjson import DsjsonLearner, decision_line

N_ITEMS = 2_000

N_TEXT_PAGES = 100

N_ROUNDS = 3
"""Rounds of each measurement; the fastest counts, as interference only slows a round down."""


class LearnResult(msgspec.Struct, frozen=True):
    """Learning rates from a log.

    Attributes:
        interactions_per_s: read, decode, join and train the bandit.
        fold_per_s: the same with item states and audiences, as a published version holds.
        text_per_s: Vowpal Wabbit's parser and learner on the decisions as dsjson lines.
        chosen_text_per_s: the same on lines that hold the chosen candidate only.
        ratio_to_text: interactions_per_s / text_per_s.
        ratio_to_chosen_text: interactions_per_s / chosen_text_per_s.
    """

    lines: int
    interactions: int
    candidates: int
    seed: int
    interactions_per_s: float
    fold_per_s: float
    text_per_s: float
    chosen_text_per_s: float
    ratio_to_text: float
    ratio_to_chosen_text: float


def run_learn(
    *,
    n_pages: int,
    seed: int,
    now_ms: int,
    clock_ns: Callable[[], int],
    advance: Advance,
    n_items: int = N_ITEMS,
) -> LearnResult:
    """Swipe pages into a log, then learn from it.

    Args:
        n_pages: pages, of 10 cards each.
        seed: seed of the items, the users and their choices.
    """
    config = Config()
    room = InProcessServer.of(config, n_items, seed, now_ms, advance)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "log.db")
        try:
            log = SqliteLog(database, now_ms=lambda: now_ms)
            contexts: dict[PageId, Context] = {}
            for k in range(n_pages):
                lines = room.swipe_page(k)
                log.append([line.record for line in lines], durable=False)
                page = lines[0].record
                if k < N_TEXT_PAGES and isinstance(page, PageRecord):
                    contexts[page.page_id] = room.context_of(page)
                advance("swipe", k + 1, n_pages)
            into_vw = [_time_into_vw(log, config, clock_ns) for _ in range(N_ROUNDS)]
            advance("learn", 1, 3)
            folds = [_time_fold(log, config, clock_ns) for _ in range(N_ROUNDS)]
            advance("learn", 2, 3)
        finally:
            database.close()
    seconds, known = min(into_vw, key=itemgetter(0))
    fold_s, n_closed, n_lines = min(folds)
    whole, chosen = _text_lines(known, contexts)
    args = learning_args(config).vowpal
    text_s, chosen_s = (_time_text(args_lines, args, clock_ns) for args_lines in (whole, chosen))
    advance("learn", 3, 3)
    rate, text, chosen_text = len(known) / seconds, len(whole) / text_s, len(chosen) / chosen_s
    return LearnResult(
        lines=n_lines,
        interactions=n_closed,
        candidates=config.feed.candidates,
        seed=seed,
        interactions_per_s=rate,
        fold_per_s=n_closed / fold_s,
        text_per_s=text,
        chosen_text_per_s=chosen_text,
        ratio_to_text=rate / text,
        ratio_to_chosen_text=rate / chosen_text,
    )


def _time_into_vw(
    log: SqliteLog, config: Config, clock_ns: Callable[[], int]
) -> tuple[float, list[Interaction]]:
    """Return the seconds from the log's first line to a trained bandit, and its interactions."""
    args = learning_args(config)
    policy, join = HybridBandit(args.vowpal), Join(args.reward, settle_ms=args.settle_ms)
    learned: list[Interaction] = []
    began_ns = clock_ns()
    for lines in _batches(log):
        closed = [interaction for line in lines for interaction in join.fold(line.record)]
        known = [i for i in closed if not is_censored(i.feedback, i.duration_s)]
        policy.learn(known)
        learned += known
    return (clock_ns() - began_ns) / 1e9, learned


def _time_fold(
    log: SqliteLog, config: Config, clock_ns: Callable[[], int]
) -> tuple[float, int, int]:
    """Return the seconds of the whole fold, the closed interactions, and the last offset."""
    learning, n_closed = LearnerState(learning_args(config)), 0
    began_ns = clock_ns()
    for lines in _batches(log):
        n_closed += learning.fold(lines)
    return (clock_ns() - began_ns) / 1e9, n_closed, learning.offset


def _batches(log: SqliteLog) -> Iterator[list[LogLine]]:
    lines = log.read()
    while batch := list(islice(lines, BATCH_LINES)):
        yield batch


def _text_lines(
    known: Sequence[Interaction], contexts: dict[PageId, Context]
) -> tuple[list[str], list[str]]:
    """Return interactions as dsjson, with all candidates and with the chosen one only."""
    whole, chosen = [], []
    for interaction in known:
        context = contexts.get(interaction.page_id)
        if context is None:
            continue
        action = context.candidates.index(interaction.item_id)
        features, told = context.features, (interaction.reward, interaction.propensity)
        row = slice(action, action + 1)
        alone = replace(features, actions=features.actions[row], keys=features.keys[row])
        whole.append(decision_line(features, action, *told))
        chosen.append(decision_line(alone, 0, *told))
    return whole, chosen


def _time_text(lines: Sequence[str], args: HybridBanditArgs, clock_ns: Callable[[], int]) -> float:
    spent_ns = []
    for _ in range(N_ROUNDS):
        learner = DsjsonLearner(args)
        began_ns = clock_ns()
        learner.learn(lines)
        spent_ns.append(clock_ns() - began_ns)
    return min(spent_ns) / 1e9
