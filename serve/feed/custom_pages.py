"""Pages of arms with a policy of one's own, in one replica: each policy behind a guard."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from env.vocabulary import Context, Page, SlotRule
from policies.custom.guarded import Guard, Replaced
from policies.custom.policy import CustomPolicy
from serve.config import Arm, Config
from serve.learn.custom import Customs, guard_args

Tell = Callable[[str, Replaced], None]
"""Told the policy and the reason for each page that was drawn uniformly in its place."""


class CustomPages:
    """Draws the pages of arms whose policy is one of one's own."""

    def __init__(
        self,
        config: Config,
        customs: Customs,
        *,
        tell: Tell = lambda policy, reason: None,
        monotonic_s: Callable[[], float] = perf_counter,
    ) -> None:
        """Make each arm's policy as it is before it has learned anything.

        Args:
            config: its arms, the feed's explorer and floor, and the limits are used.
            customs: the policies that its arms name.
            tell: told of pages that were drawn uniformly instead.
            monotonic_s: a steady clock, which the limits go by.
        """
        arms = [arm for arm in config.experiment.arms if arm.is_custom]
        self._eps = config.feed.eps
        self._unlearned = {arm.name: customs.unlearned(arm, config.feed.explorer) for arm in arms}
        self._guards = {
            arm.policy: Guard(arm.policy, guard_args(config), monotonic_s, tell) for arm in arms
        }

    def fill(
        self,
        arm: Arm,
        learned: Mapping[str, CustomPolicy],
        context: Context,
        slots: Sequence[SlotRule],
        seed: int,
    ) -> tuple[Page, str]:
        """Return a page of an arm, and in words why it was drawn uniformly; empty: it was not.

        Args:
            arm: whose policy is one of one's own.
            learned: policies by name, of the version that is served.
            context: of the page.
            slots: of the page.
            seed: of the page.
        """
        policy = learned.get(arm.policy, self._unlearned[arm.name])
        return self._guards[arm.policy].fill(context, policy, slots, self._eps, seed)
