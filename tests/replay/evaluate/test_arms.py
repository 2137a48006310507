"""An experiment's readout: totals by user, returns that could be seen, verdicts by its rules."""

from collections.abc import Iterator

import numpy as np
import pytest
from lines import page
from msgspec.structs import replace

from env.records import FeedbackKind, FeedbackRecord, Record, TickRecord
from env.reward import Reward
from env.vocabulary import DecisionId, PageId, Scene, SessionId, UserKey
from replay.evaluate.arms import ArmsFold, Readout, Rules, local_day

DAY_MS = 86_400_000
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
HALVES = {"control": 1.0, "learned": 1.0}
FEW = Rules(least_users=20)


def card(
    user: str, arm: str, at_ms: int, *, dwell_s: float | None = 3.0, like: bool = False
) -> Iterator[Record]:
    """Yield a page of one card of 12.5 s; without a dwell it is dealt and not seen."""
    page_id = f"{user}-{at_ms}"
    weekday = (at_ms // DAY_MS + 3) % 7
    yield replace(
        page(page_id, at_ms),
        user=UserKey(user),
        session=SessionId(page_id),
        arm=arm,
        scene=Scene(at_ms, weekday=weekday),
    )
    if dwell_s is None:
        return
    told: list[tuple[FeedbackKind, float]] = [("impression", 0.0), ("dwell", dwell_s)]
    if like:
        told.append(("like", 0.0))
    told.append(("leave", 0.0))
    for k, (kind, value) in enumerate(told):
        yield FeedbackRecord(
            event_id=f"{page_id}-{k}",
            decision_id=DecisionId(f"{PageId(page_id)}:0"),
            at_ms=at_ms + k,
            user=UserKey(user),
            session=SessionId(page_id),
            kind=kind,
            value=value,
        )


def fold_of(*records: Record, shares: dict[str, float] | None = None) -> ArmsFold:
    fold = ArmsFold(shares or HALVES, Reward())
    for record in records:
        fold.fold(record)
    return fold


def read(*records: Record, rules: Rules = FEW, shares: dict[str, float] | None = None) -> Readout:
    end = max(record.at_ms for record in records) + 10_000
    return fold_of(*records, TickRecord(end), shares=shares).readout("control", rules)


class NoPast:
    """Fails where a page is looked up: no event here is late."""

    def history(self, event: FeedbackRecord) -> None:
        raise AssertionError(f"{event.decision_id} was looked up")


def test_prompt_feedback_on_pages_of_other_arms_is_looked_up_nowhere() -> None:
    fold = ArmsFold(HALVES, Reward(), past=NoPast())
    for k in range(3_000):
        arm = "control" if k % 2 else "before"
        for record in card(f"u{k}", arm, NOON_MS + 10_000 * k):
            fold.fold(record)
    fold.fold(TickRecord(NOON_MS + DAY_MS))
    assert fold.others == {"before"}
    assert fold.readout("control", FEW).figure("cards_per_user", "control").value == 1.0
    assert len(fold._foreign) < 1_500


def many(n: int, arm: str, chance: float, n_cards: int = 10, seed: int = 1) -> list[Record]:
    """Return users who watch each card to its end with this chance, which is worth 1."""
    rng = np.random.default_rng(seed)
    return [
        record
        for user in range(n)
        for k in range(n_cards)
        for record in card(
            f"{arm}{user}",
            arm,
            NOON_MS + 100_000 * k + user,
            dwell_s=20.0 if rng.random() < chance else 1.0,
        )
    ]


def by_time(*parts: list[Record]) -> list[Record]:
    return sorted((r for part in parts for r in part), key=lambda record: record.at_ms)


def value(readout: Readout, name: str, arm: str) -> float | None:
    return next(f.value for f in readout.figures if f.figure == name and f.arm == arm)


def test_each_figure_is_a_ratio_of_sums_over_users() -> None:
    told = read(
        *card("a", "control", NOON_MS, dwell_s=20.0, like=True),
        *card("b", "control", NOON_MS + 1, dwell_s=1.0),
        *card("b", "control", NOON_MS + 20_000, dwell_s=2.0),
        *card("c", "control", NOON_MS + 20_001, dwell_s=None),
        *card("d", "learned", NOON_MS + 20_002),
    )
    assert [(one.users, one.active, one.cards) for one in told.arms] == [(3, 2, 3), (1, 1, 1)]
    assert value(told, "reward_per_card", "control") == pytest.approx(1.5 / 3)
    assert value(told, "watch_s_per_card", "control") == pytest.approx(23.0 / 3)
    assert value(told, "likes_per_card", "control") == pytest.approx(1 / 3)
    assert value(told, "cards_per_user", "control") == pytest.approx(1.0)
    assert value(told, "active_days_per_user", "control") == pytest.approx(2 / 3)
    assert value(told, "reward_per_card", "learned") is None  # a single user has no error


def test_a_return_counts_only_where_the_whole_next_day_was_seen() -> None:
    days = {"a": (0, 1, 3), "b": (0,), "c": (2, 3)}
    records = [
        record
        for user, active in days.items()
        for day in active
        for record in card(user, "control", NOON_MS + day * DAY_MS)
    ]
    records.sort(key=lambda record: record.at_ms)
    end = fold_of(*records, TickRecord(NOON_MS + 4 * DAY_MS - 1)).readout("control", FEW)
    assert value(end, "returned_next_day", "control") == pytest.approx(1 / 3)  # days 0 and 1
    later = fold_of(*records, TickRecord(NOON_MS + 4 * DAY_MS)).readout("control", FEW)
    assert value(later, "returned_next_day", "control") == pytest.approx(2 / 4)  # and day 2
    assert value(later, "active_days_per_user", "control") == pytest.approx(6 / 3)


@pytest.mark.parametrize(("hours", "ahead"), [(11.0, 1), (-11.0, -1), (0.0, 0)])
def test_a_day_is_that_of_the_users_zone(hours: float, ahead: int) -> None:
    at_ms = 20_000 * DAY_MS + (23 if ahead > 0 else 1) * 3_600_000
    there = at_ms + int(hours * 3_600_000)
    scene = Scene(at_ms, weekday=(there // DAY_MS + 3) % 7)
    assert local_day(scene) == 20_000 + ahead == there // DAY_MS


@pytest.mark.slow
def test_pages_of_other_arms_and_users_of_several_are_left_out() -> None:
    plain = by_time(many(30, "control", 0.3), many(30, "learned", 0.6, seed=2))
    wanted = read(*plain)
    stray = [
        *card("x", "control", NOON_MS + 1, dwell_s=20.0),
        *card("x", "learned", NOON_MS + 50_000, dwell_s=20.0),
        *card("control1", "all", NOON_MS + 2_000, dwell_s=20.0),
    ]
    told = read(*by_time(plain, stray))
    assert told.switched == 1
    assert replace(told, switched=0, cards_per_day=wanted.cards_per_day) == wanted
    assert fold_of(*stray).others == {"all"}


def test_an_open_card_counts_once_it_has_closed() -> None:
    seen = list(card("a", "control", NOON_MS, dwell_s=20.0))
    fold = fold_of(*seen)
    assert fold.readout("control", FEW).arms[0].cards == 0
    fold.fold(TickRecord(NOON_MS + 10_000))
    assert fold.readout("control", FEW).arms[0].cards == 1


@pytest.mark.slow
def test_a_clear_difference_names_the_winner_either_way() -> None:
    low, high = many(60, "control", 0.3), many(60, "learned", 0.6, seed=2)
    told = read(*by_time(low, high))
    assert (told.winner, told.is_early, told.cards_needed) == ("learned", False, 0)
    apart = told.figure("reward_per_card", "learned").difference
    assert apart is not None
    assert 0.0 < apart.low < 0.3 < apart.high

    low, high = many(60, "control", 0.6), many(60, "learned", 0.3, seed=2)
    assert read(*by_time(low, high)).winner == "control"


def test_few_users_are_too_early_however_large_the_difference() -> None:
    records = by_time(many(19, "control", 0.1), many(60, "learned", 0.9, seed=2))
    told = read(*records, shares={"control": 0.25, "learned": 0.75})
    assert told.is_early
    assert told.winner == ""
    assert told.cards_needed == round(790 * (20 / 19 - 1))
    told = read(*records, shares={"control": 0.25, "learned": 0.75}, rules=Rules(least_users=10))
    assert told.winner == "learned"


@pytest.mark.slow
def test_the_cards_that_it_says_are_needed_are_about_enough() -> None:
    rules = Rules(worth=0.15, least_users=20)
    told = read(*by_time(many(40, "control", 0.5), many(40, "learned", 0.5, seed=2)), rules=rules)
    assert told.is_early
    assert told.cards_needed is not None
    n = round(40 * (800 + told.cards_needed) / 800)
    enough = read(*by_time(many(n, "control", 0.5), many(n, "learned", 0.5, seed=2)), rules=rules)
    apart, base = (
        enough.figure("reward_per_card", "learned").difference,
        value(enough, "reward_per_card", "control"),
    )
    assert apart is not None
    assert base is not None
    width = (apart.high - apart.low) / 2.0
    assert width == pytest.approx(max(0.15 * base, abs(apart.value)), rel=0.25)


@pytest.mark.slow
def test_alike_arms_end_as_no_difference_and_have_no_winner() -> None:
    rules = Rules(worth=0.5, least_users=20)
    told = read(*by_time(many(80, "control", 0.5), many(80, "learned", 0.5, seed=2)), rules=rules)
    assert told.arms[1].verdict == "no difference"
    assert (told.winner, told.is_early) == ("", False)


@pytest.mark.slow
def test_several_arms_share_the_level() -> None:
    records = by_time(
        many(60, "control", 0.4), many(60, "learned", 0.5, seed=2), many(60, "third", 0.6, seed=3)
    )
    two = read(*records)
    three = read(*records, shares={**HALVES, "third": 1.0})
    narrow = two.figure("reward_per_card", "learned").difference
    wide = three.figure("reward_per_card", "learned").difference
    assert narrow is not None
    assert wide is not None
    assert narrow.value == wide.value
    assert wide.high - wide.low > 1.01 * (narrow.high - narrow.low)


def test_arms_of_another_size_than_planned_have_no_winner() -> None:
    records = by_time(many(60, "control", 0.3), many(140, "learned", 0.9, seed=2))
    told = read(*records)
    assert told.sample_ratio is not None
    assert told.sample_ratio.p_value < 1e-6
    assert (told.trusted, told.winner) == (False, "")
    assert read(*records, shares={"control": 0.3, "learned": 0.7}).winner == "learned"


def test_the_rate_is_that_of_the_last_day() -> None:
    old = [r for k in range(50) for r in card("old", "control", NOON_MS - 5 * DAY_MS + 20_000 * k)]
    new = [r for k in range(24) for r in card("new", "control", NOON_MS + k * 3_600_000)]
    assert read(*old, *new).cards_per_day == 24.0
    assert read(*old).cards_per_day == 50 * 24.0


def test_one_arm_is_no_experiment() -> None:
    with pytest.raises(ValueError, match="at least two arms, got control"):
        ArmsFold({"control": 1.0}, Reward())


def test_a_log_without_pages_says_that_it_knows_nothing() -> None:
    told = read(TickRecord(NOON_MS))
    assert told.is_early
    assert (told.cards_needed, told.sample_ratio, told.cards_per_day) == (None, None, 0.0)
    assert all(figure.value is None for figure in told.figures)
