"""The readout of an experiment: what each arm's users did, and how it differs from the control.

A fold of the log gathers totals by user. The user is the unit of every figure, and every interval
may be looked at any time. Reward a card decides; the other figures stand beside it. Rules and
rejected alternatives: `docs/decisions/experiment-readout.md`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from env.interface import Past
from env.records import PageRecord, Record
from env.reward import Reward, is_censored
from env.vocabulary import Correction, Floats, Interaction, PageId, Scene, UserKey
from replay.estimators.always_valid import (
    INTERVAL,
    Difference,
    UserRatio,
    difference,
    ratio_of_users,
    se_for,
)
from replay.estimators.intervals import LEVEL
from replay.estimators.ratios import SumRatio
from replay.evaluate.calibration import ArmSizes, compare_arm_sizes
from replay.evaluate.gates import Gates
from replay.join.join import SETTLE_MS
from replay.join.whole import WholeJoin

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_BEHIND_MS = 12 * _HOUR_MS  # the last time zone's midnight after that of UTC
_LEAST_FOREIGN = 1_000
_RATE_HOURS = 24

FigureName = Literal[
    "reward_per_card",
    "watch_s_per_card",
    "likes_per_card",
    "cards_per_user",
    "active_days_per_user",
    "returned_next_day",
]
Verdict = Literal["better", "worse", "no difference", "too early"]


class Rules(msgspec.Struct, frozen=True):
    """The rules of a readout, stated before any result is seen.

    Attributes:
        worth: smallest difference worth knowing, as a share of the control's value; above 0.
        least_users: users in each arm below which it is too early.
        level: share of experiments in which the intervals of a figure hold at all looks together.
        min_p: p-value of the sample ratio below which the readout is not to be trusted.
    """

    worth: float = 0.05
    least_users: int = 50
    level: float = LEVEL
    min_p: float = Gates().min_p


class ArmFigure(msgspec.Struct, frozen=True):
    """One figure of one arm."""

    figure: FigureName
    arm: str
    value: float | None  # None: not known yet
    se: float | None  # clustered by user
    difference: Difference | None  # to the control; None: it is the control, or not known yet


class ArmUsers(msgspec.Struct, frozen=True):
    """The users of one arm, and the verdict on it."""

    arm: str
    users: int  # dealt to it and to no other arm
    active: int  # of these: saw a card
    cards: int  # answered: seen, with a known end
    verdict: Verdict | None  # on reward a card against the control; None: it is the control


class Readout(msgspec.Struct, frozen=True):
    """The result of an experiment so far.

    Attributes:
        control: the arm that the others are compared to.
        winner: the arm that earns the most reward a card, once that is certain; else empty.
        trusted: whether the sample ratio is as planned.
        arms: in the order of the settings.
        figures: figure by figure, in the order of the arms.
        sample_ratio: test of the arms' users against the shares; None: too few users.
        switched: users left out because they were dealt to several arms.
        cards_needed: more cards until no arm is too early, about; 0: none is, None: not known.
        cards_per_day: answered cards in the last 24 hours of the log, or at that rate.
        rules: as they were applied.
        interval: method of the intervals.
    """

    control: str
    winner: str
    trusted: bool
    arms: tuple[ArmUsers, ...]
    figures: tuple[ArmFigure, ...]
    sample_ratio: ArmSizes | None
    switched: int
    cards_needed: int | None
    cards_per_day: float
    rules: Rules
    interval: str = INTERVAL

    @property
    def is_early(self) -> bool:
        """Whether it is too early to judge any of the arms."""
        return any(arm.verdict == "too early" for arm in self.arms)

    def figure(self, name: FigureName, arm: str) -> ArmFigure:
        """Return one figure of an arm."""
        return next(f for f in self.figures if f.figure == name and f.arm == arm)


@dataclass(slots=True)
class _User:
    arm: str
    switched: bool = False
    cards: int = 0
    reward: float = 0.0
    watch_s: float = 0.0
    likes: int = 0
    days: set[int] = field(default_factory=set)  # with a card seen, by the user's own calendar


class ArmsFold:
    """Folds a log into the totals of each user of the experiment's arms.

    Cards close as they do for the online learner, and late feedback corrects them. Those still on a
    screen at the end are left out, since closing them early would keep the long views and drop the
    short ones.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        reward: Reward,
        *,
        settle_ms: int = SETTLE_MS,
        past: Past | None = None,
    ) -> None:
        """Start before the first record.

        Args:
            shares: planned share of each arm, relative to their sum; pages of other arms are none
                of the experiment's.
            reward: reward of a card.
            settle_ms: as in the online join.
            past: finds the pages of late feedback; None: all pages stay in memory.

        Raises:
            ValueError: there are fewer than two arms.
        """
        if len(shares) < 2:
            raise ValueError(f"expected at least two arms, got {', '.join(shares) or 'none'}")
        self._shares = dict(shares)
        self._join = WholeJoin(reward, settle_ms=settle_ms, past=past)
        self._users: dict[UserKey, _User] = {}
        self._hours: Counter[int] = Counter()  # answered cards by hour of their pages
        self._foreign: set[PageId] = set()  # open pages of other arms, and some that have closed
        self._most_foreign = _LEAST_FOREIGN
        self.others: set[str] = set()  # arms of the log that are none of these

    def fold(self, record: Record) -> None:
        """Fold one record."""
        if isinstance(record, PageRecord) and not self._deal(record):
            self._foreign.add(record.page_id)
        for example in self._join.fold(record):
            if isinstance(example, Correction):
                if self._join.corrected_page and self._join.corrected_page.arm in self._shares:
                    self._correct(example)
            elif example.page_id not in self._foreign:
                self._count(example)
        if len(self._foreign) > self._most_foreign:
            self._foreign = set(filter(self._join.is_open, self._foreign))
            self._most_foreign = 2 * len(self._foreign) + _LEAST_FOREIGN

    def readout(self, control: str, rules: Rules) -> Readout:
        """Return the result so far.

        Args:
            control: one of the arms.
            rules: what it takes to judge.
        """
        kept = [user for user in self._users.values() if not user.switched]
        by_arm = {arm: [user for user in kept if user.arm == arm] for arm in self._shares}
        level = 1.0 - (1.0 - rules.level) / (len(by_arm) - 1)
        figures = tuple(_figures(by_arm, control, self._day_over(), rules.worth, level))
        rewards = {f.arm: f for f in figures if f.figure == "reward_per_card"}
        sizes = compare_arm_sizes({arm: len(users) for arm, users in by_arm.items()}, self._shares)
        is_trusted = sizes is None or sizes.p_value >= rules.min_p
        verdicts = {
            arm: _verdict(rewards[arm], rewards[control], by_arm, rules)
            for arm in by_arm
            if arm != control
        }
        return Readout(
            control=control,
            winner=_winner(verdicts, control) if is_trusted else "",
            trusted=is_trusted,
            arms=tuple(_arm(arm, users, verdicts.get(arm)) for arm, users in by_arm.items()),
            figures=figures,
            sample_ratio=sizes,
            switched=len(self._users) - len(kept),
            cards_needed=_needed(rewards, verdicts, control, by_arm, rules, level),
            cards_per_day=self._cards_per_day(),
            rules=rules,
        )

    def _deal(self, page: PageRecord) -> bool:
        """Note the arm of a page's user; return whether it is one of the experiment's."""
        if page.arm not in self._shares:
            self.others.add(page.arm)
            return False
        user = self._users.setdefault(page.user, _User(page.arm))
        user.switched |= user.arm != page.arm
        return True

    def _count(self, interaction: Interaction) -> None:
        self._users[interaction.user].days.add(local_day(interaction.scene))
        self._add(interaction, 1)

    def _correct(self, correction: Correction) -> None:
        """Count a decision as late feedback has left it."""
        self._add(correction.before, -1)
        self._count(correction.after)

    def _add(self, interaction: Interaction, n: int) -> None:
        user, feedback = self._users[interaction.user], interaction.feedback
        if is_censored(feedback, interaction.duration_s):
            return
        user.cards += n
        user.reward += n * interaction.reward
        user.watch_s += n * feedback.dwell_s
        user.likes += n * feedback.like
        self._hours[interaction.scene.at_ms // _HOUR_MS] += n

    def _day_over(self) -> int:
        """Return the last day that is over in every time zone."""
        return (self._join.clock_ms - _BEHIND_MS) // _DAY_MS - 1

    def _cards_per_day(self) -> float:
        if not self._hours:
            return 0.0
        last, first = max(self._hours), min(self._hours)
        hours = min(last - first + 1, _RATE_HOURS)
        recent = sum(n for hour, n in self._hours.items() if hour > last - _RATE_HOURS)
        return recent * _RATE_HOURS / hours


def local_day(scene: Scene) -> int:
    """Return the day of a page in the user's time zone, as days since 1 January 1970.

    The weekday that the page was analysed with tells the zone's day from that of UTC.

    >>> local_day(Scene(at_ms=86_400_000 - 1, weekday=4))  # Thursday in UTC, Friday there
    1
    """
    day = scene.at_ms // _DAY_MS
    ahead = (scene.weekday - (day + 3) % 7 + 3) % 7 - 3
    return day + ahead if abs(ahead) <= 1 else day


def _figures(
    by_arm: Mapping[str, list[_User]], control: str, day_over: int, worth: float, level: float
) -> Iterable[ArmFigure]:
    totals = {arm: _totals(users, day_over) for arm, users in by_arm.items()}
    for name in totals[control]:
        ratios = {arm: ratio_of_users(of_arm[name]) for arm, of_arm in totals.items()}
        base = ratios[control]
        for arm, ratio in ratios.items():
            told = None if arm == control else _compare(ratio, base, worth, level)
            yield ArmFigure(
                figure=name,
                arm=arm,
                value=None if ratio is None else ratio.value,
                se=None if ratio is None else ratio.se,
                difference=told,
            )


def _totals(users: list[_User], day_over: int) -> dict[FigureName, SumRatio]:
    """Return numerator and denominator of each figure by user.

    A day counts for the return once the next one is over, so that it could have been seen.
    """
    cards, ones = _column(user.cards for user in users), np.ones(len(users))
    back = _column(sum(day + 1 in u.days for day in u.days if day < day_over) for u in users)
    seen = _column(sum(day < day_over for day in user.days) for user in users)
    return {
        "reward_per_card": SumRatio(_column(user.reward for user in users), cards),
        "watch_s_per_card": SumRatio(_column(user.watch_s for user in users), cards),
        "likes_per_card": SumRatio(_column(user.likes for user in users), cards),
        "cards_per_user": SumRatio(cards, ones),
        "active_days_per_user": SumRatio(_column(len(user.days) for user in users), ones),
        "returned_next_day": SumRatio(back, seen),
    }


def _column(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def _compare(
    treated: UserRatio | None, control: UserRatio | None, worth: float, level: float
) -> Difference | None:
    """Return the difference; None where it is not known, or nothing ever happened.

    The interval is tightest around twice the difference worth knowing, see the decisions.
    """
    if treated is None or control is None or control.value == 0.0:
        return None
    if treated.se == 0.0 and control.se == 0.0:
        return None
    return difference(treated, control, 2.0 * worth * abs(control.value), level)


def _verdict(
    figure: ArmFigure, control: ArmFigure, by_arm: Mapping[str, list[_User]], rules: Rules
) -> Verdict:
    told = figure.difference
    users = min(len(by_arm[figure.arm]), len(by_arm[control.arm]))
    if told is None or control.value is None or users < rules.least_users:
        return "too early"
    if told.low > 0.0:
        return "better"
    if told.high < 0.0:
        return "worse"
    worth = rules.worth * abs(control.value)
    return "no difference" if -worth < told.low and told.high < worth else "too early"


def _winner(verdicts: Mapping[str, Verdict], control: str) -> str:
    """Return the arm that is certain to earn the most; empty: none is."""
    if "too early" in verdicts.values():
        return ""
    better = [arm for arm, verdict in verdicts.items() if verdict == "better"]
    if len(better) == 1:
        return better[0]
    return control if set(verdicts.values()) == {"worse"} else ""


def _needed(
    rewards: Mapping[str, ArmFigure],
    verdicts: Mapping[str, Verdict],
    control: str,
    by_arm: Mapping[str, list[_User]],
    rules: Rules,
    level: float,
) -> int | None:
    """Return about how many more cards settle every arm that is too early; None: not known.

    Users come with cards as they did so far, and the variance falls with them.
    """
    cards = sum(user.cards for users in by_arm.values() for user in users)
    times = [1.0]
    for arm in (arm for arm, verdict in verdicts.items() if verdict == "too early"):
        fewest = min(len(by_arm[arm]), len(by_arm[control]))
        told, base = rewards[arm].difference, rewards[control].value
        if told is None or base is None:
            return None
        worth = rules.worth * abs(base)
        enough = se_for(max(worth, abs(told.value)), 2.0 * worth, level)
        times += [rules.least_users / fewest, (told.se / enough) ** 2]
    return round(cards * (max(times) - 1.0))


def _arm(arm: str, users: list[_User], verdict: Verdict | None) -> ArmUsers:
    return ArmUsers(
        arm=arm,
        users=len(users),
        active=sum(bool(user.days) for user in users),
        cards=sum(user.cards for user in users),
        verdict=verdict,
    )
