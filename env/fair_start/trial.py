"""One upload from its debut to the end of its trial: what it is owed, its level, its evidence.

It is owed G impressions when it comes, and when it is promoted those that its next pool takes to
test it; else a promotion would end the test of what the policy does not like. The verdict on that
pool waits until the test is paid, but for an early one that is all but certain: with as much
evidence to come, going on at the first good moment is what lets the lucky through. What can hardly
pass any more is not tested to the end. A debt goes before all tests, whoever they are of.

Where an upload comes to show something else its trial begins anew: what it has proved was proved of
another video. Only its debt stays what is left of it, so that nobody is paid twice. While none of
its near-duplicates is listed its time stands still.

Rejected: impressions that a guard cut off as payments (a crowd of fakes would use up the audience
that an upload is owed), and forgetting half of the evidence at a promotion (a posterior is no less
true for having promoted; what it lost was half of the test).
"""

import msgspec

from env.fair_start.evidence import Evidence
from env.fair_start.reach import UploadState
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.fair_start.verdict import LOOK_EVERY, Verdict, Verdicts
from env.vocabulary import CreatorId, ItemId

TEST_PRICE = -2.0
"""Of what only its test is owed to: whatever is in debt goes before it, however little it suits."""

_FIRST_OWED, _FIRST_TIME = 0.1, 0.5
"""Part of the debt that is to be paid first, and of the time until the aim in which."""

_LEAST_LEFT = 0.25
"""Of the time until the aim: what is later is as urgent."""


def price_of(elapsed: float, paid: float) -> float:
    """Return the price of a debt, at least 0.

    Args:
        elapsed: part of the time until its aim.
        paid: part of the debt.

    >>> price_of(0.5, 0.5), price_of(0.75, 0.5), price_of(0.25, 0.0)
    (0.0, 1.0, 1.0)
    """
    first = _urgency(elapsed / _FIRST_TIME, paid / _FIRST_OWED)
    return max(_urgency(elapsed, paid), first)


def _urgency(elapsed: float, paid: float) -> float:
    """Return how far what is paid is behind what has elapsed, by what is left of the time.

    Both are parts, of what is to be paid and of the time until then; all paid is never behind.
    """
    if paid >= 1.0:
        return 0.0
    return max(elapsed - paid, 0.0) / max(1.0 - elapsed, _LEAST_LEFT)


BELOW_BAR = "below the bar"

NOT_PROVEN = "cap without a verdict"

NOBODY = "seen by nobody"

TAKEN_DOWN = "taken down"

AIM = 0.8
"""Part of the time allowed in which to pay."""

_TEST_TIMES = 3


class Trial(msgspec.Struct, array_like=True, gc=False):
    """The state of an upload that is owed impressions or under trial.

    It is judged by the bar, and bounded by the cap, of the highest level that it reached, so one
    that was sent back is held to what it failed. Thousands are read with a snapshot, and none
    holds a cycle, so the garbage collector passes them over.

    Attributes:
        row: its number among all uploads.
        members: the near-duplicates that are listed, with their languages; without any it is shown
            to nobody. Its item, and its language, are those of one of them where there is one.
        owed: G, promised at its birth.
        due_ms: by when.
        seen_ms: of its last impression, at first its birth.
        top: the highest level that it reached.
        rewards: how many of its impressions that count had a known reward; half are forgotten where
            it is sent back.
        met: whether its evidence was counted among all uploads'.
        before: impressions that paid, of what it showed before it was changed: no cap counts them.
        drafts: the near-duplicates that are not listed, but not taken down either.
        away_ms: since when none is listed, if none is.
        tested_at: impressions that pay at which the test of its pool is over; 0: without a test.

    The others are as in `UploadState`.
    """

    row: int
    item_id: ItemId
    creator: CreatorId
    country: str
    language: str
    members: dict[ItemId, str]
    born_ms: int
    owed: int
    due_ms: int
    seen_ms: int
    impressions: int = 0
    paid_ms: int = 0
    level: int = 0
    top: int = 0
    level_ms: tuple[int, int, int, int] = (0, 0, 0, 0)
    stopped: str = ""
    rewards: int = 0
    met: bool = False
    before: int = 0
    drafts: list[ItemId] = []
    away_ms: int = 0
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    tested_at: int = 0

    @property
    def aim_ms(self) -> int:
        """By when its debt is to be paid so that chance does not make it late."""
        return self.born_ms + round(AIM * (self.due_ms - self.born_ms))

    @property
    def paid(self) -> int:
        """Impressions that pay its debt: all that no guard cut off."""
        return self.impressions - self.evidence.cut

    @property
    def debt(self) -> int:
        """Impressions that it is still owed, whoever may see it."""
        return max(self.owed - self.paid, 0)

    @property
    def is_owing(self) -> bool:
        """Whether it is to be shown because it is owed, if no test has lapsed."""
        owes = self.paid < max(self.owed, self.tested_at)
        return owes and bool(self.members) and not self.stopped

    @property
    def is_over(self) -> bool:
        """Whether nothing can change it any more."""
        return bool(self.stopped) or (self.level == OPEN_LEVEL and not self.debt)

    def show(self, now_ms: int, *, counts: bool) -> bool:
        """Count an impression; return whether it paid a part of the debt, or of a test.

        Args:
            now_ms: the clock.
            counts: whether no guard cut it off; the evidence knows of it already.
        """
        self.impressions += 1
        self.seen_ms = now_ms
        if not counts or self.paid > max(self.owed, self.tested_at):
            return False
        if self.paid == self.owed:
            self.paid_ms = now_ms
        return True

    def test(self, now_ms: int) -> int:
        """Return the impressions that its pool owes it beyond the debt, so that it can be judged.

        They lapse after `_TEST_TIMES` as long as a debt may take, as debts may leave no slots for
        so long: where a home has fewer users than that, it is judged by what there is.
        """
        if now_ms >= self.level_ms[self.level] + _TEST_TIMES * (self.due_ms - self.born_ms):
            return 0
        return max(self.tested_at - max(self.paid, self.owed), 0)

    def price(self, now_ms: int) -> float:
        """Return how far it is behind its schedule, in parts of its debt, by the time left."""
        if not self.debt and self.test(now_ms):
            return TEST_PRICE
        elapsed = (now_ms - self.born_ms) / max(self.aim_ms - self.born_ms, 1)
        paid = self.paid / max(self.owed, 1)
        return price_of(elapsed, paid)

    def learn(self, uplift: float, verdicts: Verdicts, pools: Pools, now_ms: int) -> None:
        """Add the uplift of an impression that counts, and move where the evidence says."""
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
            case Verdict.PROMOTE:
                self._move(self.level + 1, now_ms)
                self._owe_test(pools)
            case Verdict.GIVE_UP:
                self.tested_at = 0
            case Verdict.SEND_BACK:
                self._send_back(now_ms)
            case Verdict.WAIT:
                pass

    def close(self, pools: Pools) -> None:
        """Stop it where it had all that its level allows."""
        if self.level == OPEN_LEVEL or self.debt or self.stopped:
            return
        if self.paid - self.before >= pools.caps[self.top]:
            self.stopped = NOT_PROVEN

    def restart(self, now_ms: int) -> None:
        """Begin anew with what it shows from now on; its debt is what is left of it."""
        self.before = self.paid
        self.evidence = Evidence(cut=self.evidence.cut)
        self.level = self.top = self.rewards = 0
        self.level_ms = now_ms, 0, 0, 0
        self.tested_at = 0
        self.met = False

    def enlist(self, item_id: ItemId, language: str, at_ms: int) -> None:
        """Have one of its near-duplicates listed; the time in which none was does not count."""
        if not self.members:
            self.stretch(max(at_ms - self.away_ms, 0))
            self.away_ms = 0
            self.paid_ms = min(self.paid_ms, at_ms)  # cards may be reported while it is away
        self._drop(item_id, keep_place=True)
        self.members[item_id] = language
        self._lead()

    def unlist(self, item_id: ItemId, at_ms: int) -> None:
        """Have one of its near-duplicates not listed for a while; without any it waits."""
        self.leave(item_id, at_ms)
        self.drafts.append(item_id)

    def leave(self, item_id: ItemId, at_ms: int) -> None:
        """Have an item be none of its near-duplicates, for good as far as is known."""
        was_listed = item_id in self.members
        self._drop(item_id)
        if was_listed and not self.members:
            self.away_ms = at_ms
        self._lead()

    def is_alone(self, item_id: ItemId) -> bool:
        """Return whether it has no near-duplicate but this one."""
        return not {*self.members, *self.drafts} - {item_id}

    def given_up(self, since_ms: int) -> str:
        """Return why it ends where nothing happened since then; empty: it goes on.

        What is not listed for a while waits for as long as that takes.
        """
        if self.members:
            return NOBODY if self.seen_ms < since_ms else ""
        return TAKEN_DOWN if not self.drafts and self.away_ms < since_ms else ""

    def stretch(self, silence_ms: int) -> None:
        """Leave a time in which nobody could be shown it out of its times."""
        self.born_ms += silence_ms
        self.due_ms += silence_ms
        self.seen_ms += silence_ms
        self.paid_ms += silence_ms * (self.paid_ms > 0)
        self.away_ms += silence_ms * (not self.members)
        first, *others = self.level_ms
        second, third, fourth = (at_ms + silence_ms * (at_ms > 0) for at_ms in others)
        self.level_ms = first + silence_ms, second, third, fourth

    def state(self, verdicts: Verdicts, bars: tuple[float, float, float]) -> UploadState:
        """Return what an audit asks."""
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
        """Have the first stand for all, of the listed if there are any, where another did."""
        if self.item_id not in (self.members or self.drafts):
            self.item_id = next(iter(self.members or self.drafts), self.item_id)
        self.language = self.members.get(self.item_id, self.language)

    def _is_looked_at(self, pools: Pools) -> bool:
        """Return whether there is about a tenth more of evidence, or its test is paid just now.

        Each look lets some of the lucky through, and few rewards more tell hardly more.
        """
        more, every = self.rewards - pools.at_least, LOOK_EVERY * max(self.rewards // 100, 1)
        return more >= 0 and (more % every == 0 or self.paid == self.tested_at)

    def _owe_test(self, pools: Pools) -> None:
        """Owe it what the pool that it came to takes to judge it, after all that it is owed yet."""
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
