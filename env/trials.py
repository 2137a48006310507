"""One upload from its debut to the end of its trial: what it is owed, its level, its evidence.

Its schedule is "paid >= elapsed" until its aim, which is before it is due: chance makes half of
the debts later than their aim. How far it is behind is the dual variable of that, the integral of
1 / aim - rate of payment / owed, so it costs no state. Its price is that by the part of the time
that is left: by how much it must be paid faster than others that are new. What few people like
gets its turn by it before its time is up, and among the late the earliest comes first. So that too
many of them let nobody wait with nothing, a first part is due earlier, by a price of its own; it is
so little that it never counts but then.

Where an upload comes to show something else its trial begins anew: what it has proved was proved of
another video. Only its debt stays what is left of it, so that nobody is paid twice. While none of
its near-duplicates is listed its time stands still.

Rejected: a bound on the price (who is as late as everybody would be served by match alone), a price
that is not by the time left (what suits nobody waits until its lateness is worth all that it lacks
in match: a third of the time), and impressions that a guard cut off as payments (a crowd of fakes
would use up the audience that an upload is owed).
"""

import msgspec

from env.audience_args import OPEN_LEVEL, Pools
from env.evidence import Evidence
from env.reach import UploadState
from env.verdicts import LOOK_EVERY, Verdicts
from env.vocabulary import CreatorId, ItemId

BELOW_BAR = "below the bar"
NOT_PROVEN = "cap without a verdict"
NOBODY = "seen by nobody"
TAKEN_DOWN = "taken down"

AIM = 0.8
"""Part of the time allowed in which to pay."""
_FIRST_OWED, _FIRST_TIME = 0.1, 0.5
"""Part of the debt that is to be paid first, and of the time until the aim in which."""
_LEAST_LEFT = 0.25
"""Of the time until the aim: what is later is as urgent."""


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
        rewards: how many of its impressions that count had a known reward, since its last move.
        met: whether its evidence was counted among all uploads'.
        before: impressions that paid, of what it showed before it was changed: no cap counts them.
        drafts: the near-duplicates that are not listed, but not taken down either.
        away_ms: since when none is listed, if none is.

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
        """Whether it is to be shown because it is owed."""
        return self.paid < self.owed and bool(self.members) and not self.stopped

    @property
    def is_over(self) -> bool:
        """Whether nothing can change it any more."""
        return bool(self.stopped) or (self.level == OPEN_LEVEL and not self.debt)

    def show(self, now_ms: int, *, counts: bool) -> bool:
        """Count an impression; return whether it paid a part of the debt.

        Args:
            now_ms: the clock.
            counts: whether no guard cut it off; the evidence knows of it already.
        """
        self.impressions += 1
        self.seen_ms = now_ms
        if not counts or self.paid > self.owed:
            return False
        if self.paid == self.owed:
            self.paid_ms = now_ms
        return True

    def price(self, now_ms: int) -> float:
        """Return how far it is behind its schedule, in parts of its debt, by the time left."""
        elapsed = (now_ms - self.born_ms) / max(self.aim_ms - self.born_ms, 1)
        paid = self.paid / max(self.owed, 1)
        first = _urgency(elapsed / _FIRST_TIME, paid / _FIRST_OWED)
        return max(_urgency(elapsed, paid), first)

    def learn(self, uplift: float, verdicts: Verdicts, pools: Pools, now_ms: int) -> None:
        """Add the uplift of an impression that counts, and move where the evidence says."""
        if self.level == OPEN_LEVEL:
            return
        self.evidence.add(uplift)
        self.rewards += 1
        more = self.rewards - pools.at_least
        if more < 0 or more % LOOK_EVERY:
            return
        if not self.met:
            self.met = True
            verdicts.meet(self.evidence)
        verdict = verdicts.judge(self.evidence, self.top, pools)
        if verdict > 0:
            self._move(self.level + 1, now_ms)
        elif verdict < 0:
            self._send_back(now_ms)

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

    def _send_back(self, now_ms: int) -> None:
        if self.level > 0:
            self._move(self.level - 1, now_ms)
        elif not self.debt:
            self.stopped = BELOW_BAR

    def _move(self, level: int, now_ms: int) -> None:
        times = list(self.level_ms)
        times[level] = now_ms
        first, second, third, fourth = times
        self.level_ms = first, second, third, fourth
        self.level = level
        self.top = max(self.top, level)
        self.evidence.forget_half()
        self.rewards = int(sum(self.evidence.nodes))


def _urgency(elapsed: float, paid: float) -> float:
    """Return how far what is paid is behind what has elapsed, by what is left of the time.

    Both are parts, of what is to be paid and of the time until then; all paid is never behind.
    """
    if paid >= 1.0:
        return 0.0
    return max(elapsed - paid, 0.0) / max(1.0 - elapsed, _LEAST_LEFT)
