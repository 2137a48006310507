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
from env.vocabulary import DecisionId, Interaction, decision_id
from replay.join.join import LATE_MS, Join
from serve.config import Config
from serve.store.data_folder import open_data

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
        Refused: there is no log.
        LogCorruption: a line differs from the written one.
    """
    join, count = Join(config.reward, grace_ms=LATE_MS), _Count()
    with open_data(config) as store:
        for line in store.log.read():
            if isinstance(line.record, PageRecord) and arm in ("", line.record.arm):
                count.add_page(line.record)
            for interaction in join.fold(line.record):
                count.add_answer(interaction)
            if advance is not None:
                advance(1)
    for interaction in join.flush():
        count.add_answer(interaction)
    return count.counts()


class _Count:
    def __init__(self) -> None:
        self._n_pages = 0
        self._tallies: dict[str, _Tally] = {}
        self._open: dict[DecisionId, tuple[str, bool]] = {}  # source, and whether it was alone

    def add_page(self, page: PageRecord) -> None:
        self._n_pages += 1
        for k, (drawn, reason) in enumerate(zip(page.drawn, page.reasons, strict=True)):
            tally = self._tallies.setdefault(reason, _Tally())
            alone = bool(page.proposers) and page.proposers[k] == 1
            tally.cards += 1
            tally.alone += alone
            tally.unknown += not page.proposers
            self._open[decision_id(page.page_id, drawn.slot)] = reason, alone

    def add_answer(self, interaction: Interaction) -> None:
        reason, alone = self._open.pop(interaction.decision_id, ("", False))
        if not reason or is_censored(interaction.feedback, interaction.duration_s):
            return
        tally = self._tallies[reason]
        tally.answered += 1
        tally.reward += interaction.reward
        tally.answered_alone += alone
        tally.reward_alone += interaction.reward * alone

    def counts(self) -> SourceCounts:
        total = sum(tally.reward for tally in self._tallies.values())
        ordered = sorted(self._tallies.items(), key=lambda item: (-item[1].cards, item[0]))
        return SourceCounts(
            self._n_pages, tuple(_source_count(name, tally, total) for name, tally in ordered)
        )


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
