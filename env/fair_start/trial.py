"""The trial of one upload, from its launch to its end: shortfall, rollout stage and evidence.

An upload is guaranteed impressions at launch, and test impressions at each promotion, so that the
test of the next pool can be completed. All delivery guarantees go before tests. Changed content
starts the trial anew without a new guarantee; time in which no near-duplicate is listed does not
count. Reasons and rejected alternatives: `docs/decisions/rollout-tests.md`.
"""

import msgspec

from env.fair_start.evidence import Evidence
from env.fair_start.reach import UploadState
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.fair_start.verdict import LOOK_EVERY, RolloutDecision, Verdicts
from env.vocabulary import CreatorId, ItemId

TEST_PRICE = -2.0
"""Price of an upload with only test impressions left: any delivery guarantee goes first."""

_FIRST_OWED, _FIRST_TIME = 0.1, 0.5
"""Fraction of the shortfall that is due early, and the fraction of the time in which it is."""

_LEAST_LEFT = 0.25
"""Smallest fraction of the time left that still raises the price."""


def price_of(elapsed: float, paid: float) -> float:
    """Return the price of a shortfall, at least 0.

    Args:
        elapsed: fraction of the time until its target time.
        paid: fraction delivered.

    >>> price_of(0.5, 0.5), price_of(0.75, 0.5), price_of(0.25, 0.0)
    (0.0, 1.0, 1.0)
    """
    first = _urgency(elapsed / _FIRST_TIME, paid / _FIRST_OWED)
    return max(_urgency(elapsed, paid), first)


def _urgency(elapsed: float, paid: float) -> float:
    """Return how far the delivered fraction is behind the elapsed one, relative to the rest."""
    if paid >= 1.0:
        return 0.0
    return max(elapsed - paid, 0.0) / max(1.0 - elapsed, _LEAST_LEFT)


BELOW_BAR = "below the bar"
NOT_PROVEN = "cap without a verdict"
NOBODY = "seen by nobody"
TAKEN_DOWN = "taken down"
AIM = 0.8
"""Fraction of the time allowed after which all should be delivered."""

_TEST_TIMES = 3


class UploadTrial(msgspec.Struct, array_like=True, gc=False):
    """The state of an upload with a shortfall or under trial.

    It is judged by the bar, and bounded by the cap, of the highest level that it reached, so after
    a demotion it is held to the bar that it failed. Fields without a comment are as in
    `UploadState`.
    """

    row: int  # its number among all uploads
    item_id: ItemId
    creator: CreatorId
    country: str
    language: str
    # listed near-duplicates with their languages. `item_id` and `language` are those of one of
    # them; without any it is not shown.
    members: dict[ItemId, str]
    born_ms: int
    owed: int
    due_ms: int  # deadline of the guarantee
    seen_ms: int  # time of its last impression, at first its launch
    impressions: int = 0
    paid_ms: int = 0
    level: int = 0
    top: int = 0  # highest level that it reached
    level_ms: tuple[int, int, int, int] = (0, 0, 0, 0)
    stopped: str = ""
    rewards: int = 0  # counted impressions with a known reward; a demotion halves them
    met: bool = False  # whether it was added to the statistics of all uploads' uplift
    before: int = 0  # impressions delivered for earlier content; they do not count towards caps
    drafts: list[ItemId] = []  # near-duplicates that are delisted but not taken down
    away_ms: int = 0  # time since which none is listed, if none is
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    # delivered impressions at which its pool's test is complete; 0 without a test
    tested_at: int = 0

    @property
    def aim_ms(self) -> int:
        """Target time of delivery, earlier than the deadline as a reserve for chance."""
        return self.born_ms + round(AIM * (self.due_ms - self.born_ms))

    @property
    def paid(self) -> int:
        """Impressions that count as delivered: all that no guard filtered."""
        return self.impressions - self.evidence.cut

    @property
    def debt(self) -> int:
        """Shortfall: guaranteed impressions not delivered yet."""
        return max(self.owed - self.paid, 0)

    @property
    def is_owing(self) -> bool:
        """Whether slots are reserved for it, unless its test has lapsed."""
        owes = self.paid < max(self.owed, self.tested_at)
        return owes and bool(self.members) and not self.stopped

    @property
    def is_over(self) -> bool:
        """Whether nothing can change it any more."""
        return bool(self.stopped) or (self.level == OPEN_LEVEL and not self.debt)

    def show(self, now_ms: int, *, counts: bool) -> bool:
        """Count an impression; return whether it reduced a shortfall or was part of a test.

        Args:
            now_ms: the clock.
            counts: whether no guard filtered it; the evidence has it already.
        """
        self.impressions += 1
        self.seen_ms = now_ms
        if not counts or self.paid > max(self.owed, self.tested_at):
            return False
        if self.paid == self.owed:
            self.paid_ms = now_ms
        return True

    def test(self, now_ms: int) -> int:
        """Return the test impressions still to deliver beyond the guarantee.

        They lapse after `_TEST_TIMES` the time allowed for a guarantee, since guarantees may leave
        no slots for tests; a home with few users is then judged by the evidence there is.
        """
        if now_ms >= self.level_ms[self.level] + _TEST_TIMES * (self.due_ms - self.born_ms):
            return 0
        return max(self.tested_at - max(self.paid, self.owed), 0)

    def price(self, now_ms: int) -> float:
        """Return its shadow price, see `env.fair_start.budget`."""
        if not self.debt and self.test(now_ms):
            return TEST_PRICE
        elapsed = (now_ms - self.born_ms) / max(self.aim_ms - self.born_ms, 1)
        paid = self.paid / max(self.owed, 1)
        return price_of(elapsed, paid)

    def learn(self, uplift: float, verdicts: Verdicts, pools: Pools, now_ms: int) -> None:
        """Add the uplift of an accepted impression, and move the upload if its evidence decides."""
        if self.level == OPEN_LEVEL:
            return
        self.evidence.add(uplift)
        self.rewards += 1
        if not self._is_looked_at(pools):
            return
        if not self.met:
            self.met = True
            verdicts.meet(self.evidence)
        match verdicts.judge(self.evidence, self.top, pools, tested=not self.test(now_ms)):
            case RolloutDecision.PROMOTE:
                self._move(self.level + 1, now_ms)
                self._owe_test(pools)
            case RolloutDecision.GIVE_UP:
                self.tested_at = 0
            case RolloutDecision.SEND_BACK:
                self._send_back(now_ms)
            case RolloutDecision.WAIT:
                pass

    def close(self, pools: Pools) -> None:
        """Stop it at the cap of its level."""
        if self.level == OPEN_LEVEL or self.debt or self.stopped:
            return
        if self.paid - self.before >= pools.caps[self.top]:
            self.stopped = NOT_PROVEN

    def restart(self, now_ms: int) -> None:
        """Restart for changed content; the shortfall remains."""
        self.before = self.paid
        self.evidence = Evidence(cut=self.evidence.cut)
        self.level = self.top = self.rewards = 0
        self.level_ms = now_ms, 0, 0, 0
        self.tested_at = 0
        self.met = False

    def enlist(self, item_id: ItemId, language: str, at_ms: int) -> None:
        """Note that a near-duplicate is listed; time in which none was listed does not count."""
        if not self.members:
            self.stretch(max(at_ms - self.away_ms, 0))
            self.away_ms = 0
            self.paid_ms = min(self.paid_ms, at_ms)  # cards may be reported while none is listed
        self._drop(item_id, keep_place=True)
        self.members[item_id] = language
        self._lead()

    def unlist(self, item_id: ItemId, at_ms: int) -> None:
        """Note that a near-duplicate is delisted for a while."""
        self.leave(item_id, at_ms)
        self.drafts.append(item_id)

    def leave(self, item_id: ItemId, at_ms: int) -> None:
        """Remove a near-duplicate, permanently as far as is known."""
        was_listed = item_id in self.members
        self._drop(item_id)
        if was_listed and not self.members:
            self.away_ms = at_ms
        self._lead()

    def is_alone(self, item_id: ItemId) -> bool:
        """Return whether it has no near-duplicate but this one."""
        return not {*self.members, *self.drafts} - {item_id}

    def given_up(self, since_ms: int) -> str:
        """Return why it ends if idle since then; empty if it goes on.

        A delisted upload waits for as long as that takes.
        """
        if self.members:
            return NOBODY if self.seen_ms < since_ms else ""
        return TAKEN_DOWN if not self.drafts and self.away_ms < since_ms else ""

    def stretch(self, silence_ms: int) -> None:
        """Shift its times by a time in which nobody could be shown it."""
        self.born_ms += silence_ms
        self.due_ms += silence_ms
        self.seen_ms += silence_ms
        self.paid_ms += silence_ms * (self.paid_ms > 0)
        self.away_ms += silence_ms * (not self.members)
        first, *others = self.level_ms
        second, third, fourth = (at_ms + silence_ms * (at_ms > 0) for at_ms in others)
        self.level_ms = first + silence_ms, second, third, fourth

    def state(self, verdicts: Verdicts, bars: tuple[float, float, float]) -> UploadState:
        """Return its audit record."""
        posterior = verdicts.posterior(self.evidence, bars[min(self.top, OPEN_LEVEL - 1)])
        return UploadState(
            item_id=self.item_id,
            creator=self.creator,
            country=self.country,
            language=self.language,
            born_ms=self.born_ms,
            owed=self.owed,
            impressions=self.impressions,
            paid_ms=self.paid_ms,
            level=self.level,
            level_ms=self.level_ms,
            stopped=self.stopped,
            n_counted=self.evidence.counted,
            n_cut=self.evidence.cut,
            uplift=posterior.mean,
            uplift_sd=posterior.sd,
            chance=posterior.chance,
        )

    def _drop(self, item_id: ItemId, *, keep_place: bool = False) -> None:
        if item_id in self.drafts:
            self.drafts.remove(item_id)
        if not keep_place:
            self.members.pop(item_id, None)

    def _lead(self) -> None:
        """Choose the first listed (else delisted) near-duplicate as `item_id` if needed."""
        if self.item_id not in (self.members or self.drafts):
            self.item_id = next(iter(self.members or self.drafts), self.item_id)
        self.language = self.members.get(self.item_id, self.language)

    def _is_looked_at(self, pools: Pools) -> bool:
        """Return whether it has about a tenth more evidence, or its test was just completed.

        Each test decision promotes some lucky uploads, and few more rewards add little information.
        """
        more, every = self.rewards - pools.at_least, LOOK_EVERY * max(self.rewards // 100, 1)
        return more >= 0 and (more % every == 0 or self.paid == self.tested_at)

    def _owe_test(self, pools: Pools) -> None:
        """Reserve the test impressions of the pool that it entered, after its shortfall."""
        more = pools.tests[self.level - 1] if self.level < OPEN_LEVEL else 0
        self.tested_at = max(self.paid, self.owed) + more if more else 0

    def _send_back(self, now_ms: int) -> None:
        self.tested_at = 0
        if self.level > 0:
            self._move(self.level - 1, now_ms)
            self.evidence.forget_half()
            self.rewards = int(sum(self.evidence.nodes))
        elif not self.debt:
            self.stopped = BELOW_BAR

    def _move(self, level: int, now_ms: int) -> None:
        times = list(self.level_ms)
        times[level] = now_ms
        first, second, third, fourth = times
        self.level_ms = first, second, third, fourth
        self.level = level
        self.top = max(self.top, level)
