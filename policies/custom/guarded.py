"""The guard around a policy of one's own while it serves: a page is drawn whatever its code does.

A page on which the code raises, breaks a law or takes too long is drawn uniformly, with those exact
propensities and the uniform policy's name, so it can be drawn again. A call in Python cannot be cut
short; its time is taken afterwards. After several slow pages in a row the policy is paused, which
bounds how long others wait for it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from env.interface import fill_page
from env.vocabulary import Context, Page, SlotRule
from policies.baselines import UniformPolicy
from policies.custom.load import say
from policies.custom.policy import CustomPolicy

logger = logging.getLogger(__name__)
Replaced = Literal["raised", "slow", "paused"]
"""Why a page was drawn uniformly instead."""

WORDS: dict[Replaced, str] = {
    "raised": "the policy failed, drawn uniformly",
    "slow": "the policy was too slow, drawn uniformly",
    "paused": "the policy is paused, drawn uniformly",
}
"""The reasons as a page's `degraded` tells them."""


class GuardArgs(NamedTuple):
    """What a policy of one's own is held to while it serves.

    Attributes:
        limit_s: seconds that a page may take.
        slow_pages: pages in a row that took longer, after which it is paused.
        pause_s: seconds for which it is then not asked; the page after them tries it again.
    """

    limit_s: float = 0.05
    slow_pages: int = 5
    pause_s: float = 60.0


class Guard:
    """Draws the pages of one policy of one's own in one process."""

    def __init__(
        self,
        name: str,
        args: GuardArgs,
        monotonic_s: Callable[[], float],
        tell: Callable[[str, Replaced], None],
    ) -> None:
        """Hold a policy to these arguments.

        Args:
            name: MODULE:FUNCTION.
            args: the limits.
            monotonic_s: a steady clock.
            tell: called with the name and the reason for each page that was drawn uniformly.
        """
        self._name, self._args = name, args
        self._monotonic_s, self._tell = monotonic_s, tell
        self._n_slow = 0
        self._paused_until_s = float("-inf")
        self._said: set[str] = set()

    def fill(
        self,
        context: Context,
        policy: CustomPolicy,
        slots: Sequence[SlotRule],
        eps: float,
        seed: int,
    ) -> tuple[Page, str]:
        """Return a page, and in words why another policy drew it; empty: this one did.

        Args:
            context: see `env.interface.fill_page`, as for the others.
            policy: to draw by.
            slots: of the page.
            eps: the floor.
            seed: of the page.
        """
        page, why = self._try(context, policy, slots, eps, seed)
        if page is not None:
            return page, ""
        self._tell(self._name, why)
        return fill_page(context, UniformPolicy(), slots, eps, seed), WORDS[why]

    def _try(
        self,
        context: Context,
        policy: CustomPolicy,
        slots: Sequence[SlotRule],
        eps: float,
        seed: int,
    ) -> tuple[Page | None, Replaced]:
        began_s = self._monotonic_s()
        if began_s < self._paused_until_s:
            return None, "paused"
        page = None
        try:
            page = fill_page(context, policy, slots, eps, seed)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, a page is drawn
            self._say(error)
        ended_s = self._monotonic_s()
        if ended_s - began_s > self._args.limit_s:
            self._note_slow(ended_s, ended_s - began_s)
            return None, "slow"
        self._n_slow = 0
        return page, "raised"

    def _note_slow(self, now_s: float, took_s: float) -> None:
        self._n_slow += 1
        if self._n_slow >= self._args.slow_pages:
            self._paused_until_s = now_s + self._args.pause_s
            logger.warning(
                "policy=%s paused for %g s: %d slow pages in a row, the last took %.0f ms",
                self._name,
                self._args.pause_s,
                self._n_slow,
                took_s * 1000,
            )

    def _say(self, error: BaseException) -> None:
        """Log a failure, once for each place in the code and kind of error."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
        key = f"{type(error).__name__} {place}"
        if key not in self._said:
            self._said.add(key)
            logger.warning("policy=%s failed at %s: %s", self._name, place, say(error))
