"""Learning from the log beside Vowpal Wabbit's own parser and learner on the same decisions.

Method: `docs/decisions/bench-learn.md`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from env.vocabulary import Context, Interaction, PageId
from policies.bandit.settings import HybridBanditArgs
from serve.bench.learn import N_ITEMS, N_ROUNDS, LearnResult, run_learn
from serve.bench.room import Advance
from serve.config import Config
from serve.learn.settings import learning_args
from tests.studies.peers.vowpal_dsjson import DsjsonLearner, decision_line


class LearnTextResult(LearnResult, frozen=True):
    """Learning rates from a log, and those of the peer.

    Attributes:
        text_per_s: Vowpal Wabbit's parser and learner on the decisions as dsjson lines.
        chosen_text_per_s: the same on lines that hold the chosen candidate only.
        ratio_to_text: interactions_per_s / text_per_s.
        ratio_to_chosen_text: interactions_per_s / chosen_text_per_s.
    """

    text_per_s: float
    chosen_text_per_s: float
    ratio_to_text: float
    ratio_to_chosen_text: float


def run_learn_text(
    *,
    n_pages: int,
    seed: int,
    now_ms: int,
    clock_ns: Callable[[], int],
    advance: Advance,
    n_items: int = N_ITEMS,
) -> LearnTextResult:
    """Time learning as `serve.bench.learn.run_learn`, then the peer on the first pages."""
    timed = run_learn(
        n_pages=n_pages,
        seed=seed,
        now_ms=now_ms,
        clock_ns=clock_ns,
        advance=advance,
        n_items=n_items,
    )
    whole, chosen = _text_lines(timed.known, timed.contexts)
    args = learning_args(Config()).vowpal
    text, chosen_text = (_text_rate(lines, args, clock_ns) for lines in (whole, chosen))
    ours = timed.result
    return LearnTextResult(
        lines=ours.lines,
        interactions=ours.interactions,
        candidates=ours.candidates,
        seed=ours.seed,
        interactions_per_s=ours.interactions_per_s,
        fold_per_s=ours.fold_per_s,
        text_per_s=text,
        chosen_text_per_s=chosen_text,
        ratio_to_text=ours.interactions_per_s / text,
        ratio_to_chosen_text=ours.interactions_per_s / chosen_text,
    )


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


def _text_rate(lines: Sequence[str], args: HybridBanditArgs, clock_ns: Callable[[], int]) -> float:
    """Return the lines that the peer learns a second; the fastest round counts."""
    spent_ns = []
    for _ in range(N_ROUNDS):
        learner = DsjsonLearner(args)
        began_ns = clock_ns()
        learner.learn(lines)
        spent_ns.append(clock_ns() - began_ns)
    return len(lines) / (min(spent_ns) / 1e9)
