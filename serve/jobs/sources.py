"""Counts what each retrieval source earned, from the log: cards, rewards and finds of its own.

A card counts for the source that is logged as its reason. It is a find of its own if no other
source proposed the item for that page.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from rich.table import Table

from env.records import PageRecord
from env.reward import is_censored
from env.vocabulary import Correction, DecisionId, Example, Interaction, decision_id
from replay.join.whole import WholeJoin
from serve.config import Config
from serve.store.data_folder import open_data
from serve.store.store import StorePast

Advance = Callable[[int], None]
"""Called with the number of log lines processed since the last call."""


class SourceCount(msgspec.Struct, frozen=True):
    """The figures of one source."""

    source: str
    cards: int  # drawn cards that it is the reason of
    answered: int  # of these: seen, closed, with a reward that is known
    reward: float  # mean reward of the answered cards; 0 without any
    earned_share: float  # their share of the rewards of all sources; 0 where these sum to 0
    alone: int  # cards that no other source proposed
    reward_alone: float  # mean reward of the answered ones among these; 0 without any
    unknown: int  # cards of pages of older releases, which do not say who else proposed them


class SourceCounts(msgspec.Struct, frozen=True):
    """The figures of all sources, those with the most cards first."""

    pages: int
    sources: tuple[SourceCount, ...]


@dataclass
class _Tally:
    cards: int = 0
    answered: int = 0
    reward: float = 0.0
    alone: int = 0
    answered_alone: int = 0
    reward_alone: float = 0.0
    unknown: int = 0


def count_sources(config: Config, *, arm: str = "", advance: Advance | None = None) -> SourceCounts:
    """Read the log that is there now; a server may be running on it.

    Args:
        config: data folder and reward.
        arm: arm of the experiment; empty: all pages.
        advance: progress callback.

    Raises:
        JobError: there is no log.
        LogCorruption: a line differs from the written one.
    """
    count = _Count()
    with open_data(config) as store:
        join = WholeJoin(config.reward, past=StorePast(store))
        for line in store.log.read():
            if isinstance(line.record, PageRecord) and arm in ("", line.record.arm):
                count.add_page(line.record)
            for example in join.fold(line.record):
                if not (isinstance(example, Correction) and _is_of_other(join, arm)):
                    count.add_answer(example, join.corrected_page)
            if advance is not None:
                advance(1)
        for example in join.flush():
            count.add_answer(example, None)
    return count.counts()


class _Count:
    def __init__(self) -> None:
        self._n_pages = 0
        self._tallies: dict[str, _Tally] = {}
        self._open: dict[DecisionId, tuple[str, bool]] = {}  # source, and whether it was alone

    def add_page(self, page: PageRecord) -> None:
        self._n_pages += 1
        for k, drawn in enumerate(page.drawn):
            reason, alone = _source(page, k)
            tally = self._tallies.setdefault(reason, _Tally())
            tally.cards += 1
            tally.alone += alone
            tally.unknown += not page.proposers
            self._open[decision_id(page.page_id, drawn.slot)] = reason, alone

    def add_answer(self, example: Example, corrected: PageRecord | None) -> None:
        """Count a closed decision, or what has changed of one on a corrected page."""
        if not isinstance(example, Correction):
            self._add(example, *self._open.pop(example.decision_id, ("", False)), 1)
        elif corrected is not None:
            slots = [drawn.slot for drawn in corrected.drawn]
            source = _source(corrected, slots.index(example.after.slot))
            self._add(example.before, *source, -1)
            self._add(example.after, *source, 1)

    def _add(self, interaction: Interaction, reason: str, alone: bool, n: int) -> None:
        if reason not in self._tallies or is_censored(interaction.feedback, interaction.duration_s):
            return
        tally = self._tallies[reason]
        tally.answered += n
        tally.reward += n * interaction.reward
        tally.answered_alone += n * alone
        tally.reward_alone += n * interaction.reward * alone

    def counts(self) -> SourceCounts:
        total = sum(tally.reward for tally in self._tallies.values())
        ordered = sorted(self._tallies.items(), key=lambda item: (-item[1].cards, item[0]))
        return SourceCounts(
            self._n_pages, tuple(_source_count(name, tally, total) for name, tally in ordered)
        )


def _source(page: PageRecord, k: int) -> tuple[str, bool]:
    """Return the source of a page's k-th card, and whether no other proposed it."""
    return page.reasons[k], bool(page.proposers) and page.proposers[k] == 1


def _is_of_other(join: WholeJoin, arm: str) -> bool:
    page = join.corrected_page
    return page is not None and arm not in ("", page.arm)


def _source_count(name: str, tally: _Tally, total: float) -> SourceCount:
    return SourceCount(
        source=name,
        cards=tally.cards,
        answered=tally.answered,
        reward=tally.reward / max(tally.answered, 1),
        earned_share=tally.reward / total if total else 0.0,
        alone=tally.alone,
        reward_alone=tally.reward_alone / max(tally.answered_alone, 1),
        unknown=tally.unknown,
    )


def table(counts: SourceCounts) -> Table:
    """Return the counts as a table for a terminal."""
    drawn = Table(title=f"{counts.pages:,} pages")
    drawn.add_column("source")
    for name in ("cards", "answered", "reward a card", "of all reward", "found alone", "reward"):
        drawn.add_column(name, justify="right")
    for one in counts.sources:
        drawn.add_row(
            one.source,
            f"{one.cards:,}",
            f"{one.answered:,}",
            f"{one.reward:.3f}",
            f"{one.earned_share:.1%}",
            f"{one.alone:,}",
            f"{one.reward_alone:.3f}",
        )
    return drawn
