"""The join of a complete log: each decision with all that was ever reported of it.

It closes decisions as the online join does, and corrects all of them from the first line on,
whatever window the learner had and whichever cards a rate limit hid from it. A corrected decision
is yielded again; the last time counts. Reasons: `docs/decisions/late-feedback.md`.
"""

from collections.abc import Iterable, Iterator

from env.interface import Past
from env.records import FeedbackRecord, LogLine, PageRecord, Record
from env.reward import Reward
from env.vocabulary import Example, Interaction, PageId, interaction_of
from replay.join.join import SETTLE_MS, Join
from replay.join.late import KeptPast, LateFeedback


class WholeJoin:
    """Folds a log into closed decisions and what corrected them."""

    def __init__(
        self,
        reward: Reward,
        *,
        settle_ms: int = SETTLE_MS,
        default_reward: float | None = None,
        past: Past | None = None,
    ) -> None:
        """Start before the first record.

        Args:
            reward: reward of a card.
            settle_ms: as in the online join.
            default_reward: as in the online join.
            past: finds the pages of late events; None: all pages stay in memory.
        """
        self._join = Join(reward, settle_ms=settle_ms, default_reward=default_reward)
        self._late = LateFeedback.always(reward, default_reward)
        kept = KeptPast()
        self._past: Past = kept if past is None else past
        self._kept = kept if past is None else None
        self.corrected_page: PageRecord | None = None

    @property
    def clock_ms(self) -> int:
        """The greatest time folded so far."""
        return self._join.clock_ms

    def is_open(self, page_id: PageId) -> bool:
        """Return whether any decision of a page may still close for the first time."""
        return self._join.is_open(page_id)

    def fold(self, record: Record) -> list[Example]:
        """Fold one record; return what its time closed, then what it corrects.

        Of a correction, `corrected_page` is the page afterwards.
        """
        found: list[Example] = [*self._note(self._join.fold(record))]
        self._late.fold(record, self._join.clock_ms)
        if self._join.was_late and isinstance(record, FeedbackRecord):
            history = self._past.history(record)
            change = self._late.change(record, history)
            if history is not None and change is not None:
                self.corrected_page = history.page
                found.append(change)
        if self._kept is not None:
            self._kept.keep(record)
        return found

    def flush(self) -> list[Example]:
        """Close all open decisions, as if time had passed without further feedback."""
        return [*self._note(self._join.flush())]

    def _note(self, closed: list[Interaction]) -> list[Interaction]:
        for interaction in closed:
            self._late.close(interaction)
        return closed


def join_examples(
    lines: Iterable[LogLine],
    reward: Reward,
    *,
    settle_ms: int = SETTLE_MS,
    default_reward: float | None = None,
    past: Past | None = None,
) -> Iterator[Example]:
    """Yield the decisions of a complete log as they closed, and the corrections of late feedback.

    Args are those of `WholeJoin`.
    """
    join = WholeJoin(reward, settle_ms=settle_ms, default_reward=default_reward, past=past)
    for line in lines:
        yield from join.fold(line.record)
    yield from join.flush()


def join_all(
    lines: Iterable[LogLine],
    reward: Reward,
    *,
    settle_ms: int = SETTLE_MS,
    default_reward: float | None = None,
    past: Past | None = None,
) -> Iterator[Interaction]:
    """Yield the Interactions of a complete log, in the order of their deadlines.

    A decision that late feedback corrected is yielded again as it then is: the last one counts.
    Without late records the online join gives the same Interactions. Args are those of `WholeJoin`.
    """
    examples = join_examples(
        lines, reward, settle_ms=settle_ms, default_reward=default_reward, past=past
    )
    for example in examples:
        yield interaction_of(example)
