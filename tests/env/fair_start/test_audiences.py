"""The fold of audiences: debts, debuts, near-duplicates, time, and a state that restarts."""

import msgspec
import numpy as np
import pytest
from auditions import (
    DAY_MS,
    FEW,
    HOUR_MS,
    START_MS,
    catalogue_after,
    debut,
    folded,
    lines,
    only,
    shown,
    takedown,
)
from builders import catalogue_of, make_item, put

from env.fair_start.audience import IDLE_MS, SILENCE_MS, Audiences
from env.fair_start.settings import OPEN_LEVEL, AudienceArgs, FairStart, Guards, Pools
from env.fair_start.trial import AIM, BELOW_BAR, NOBODY, UploadTrial
from env.fair_start.uploads import Uploads
from env.vocabulary import CreatorId, Feedback, ItemId

QUICK = AudienceArgs(FairStart(impressions=10), Pools(caps=(20, 40, 80), at_least=10))


def a_trial(owed: int) -> UploadTrial:
    """Return an upload that was born at 0 and is owed so many impressions within a day."""
    name = ItemId("a")
    return UploadTrial(0, name, CreatorId(""), "GB", "en", {name: "en"}, 0, owed, DAY_MS, 0)


def test_what_never_debuted_is_open_and_owed_nothing() -> None:
    records = lines(put(make_item("old", country="GB")), shown("old"))
    reach = folded(records).aligned(catalogue_after(records))
    assert (reach.level[0], reach.stopped[0]) == (OPEN_LEVEL, False)
    assert (reach.owed[0], reach.due_ms[0], reach.price[0]) == (0.0, 0, 0.0)


def test_every_impression_that_counts_pays_whatever_came_of_it() -> None:
    cut = shown("u")
    cut = msgspec.structs.replace(cut, feedback=Feedback(seen=True, dwell_s=1.0))
    records = lines(debut("u"), shown("u"), cut)
    catalogue = catalogue_after(records)
    reach = folded(records).aligned(catalogue)
    assert (reach.level[0], reach.owed[0], reach.due_ms[0]) == (0, 1.0, START_MS + DAY_MS)
    audiences = folded([*records, shown("u", START_MS + HOUR_MS)])
    reach = audiences.aligned(catalogue)
    assert (reach.owed[0], reach.due_ms[0], reach.price[0]) == (0.0, 0, 0.0)
    assert only(audiences).paid_ms == START_MS + HOUR_MS
    assert only(audiences).impressions == 3


def test_a_home_may_owe_another_number() -> None:
    records = lines(debut("a"), debut("b", country=" th "), debut("c", country=""))
    audiences = folded(records)
    assert audiences.aligned(catalogue_after(records)).owed.tolist() == [3.0, 5.0, 3.0]
    assert [u.country for u in audiences.uploads()] == ["GB", "TH", ""]


def test_a_debut_that_the_fold_has_not_met_starts_at_the_bottom_with_its_whole_debt() -> None:
    records = lines(debut("a"), debut("new", country="TH"), put(make_item("old")))
    audiences = folded([debut("a"), shown("a")])
    reach = audiences.aligned(catalogue_after(records))
    assert reach.level.tolist() == [0, 0, OPEN_LEVEL]
    assert reach.owed.tolist() == [2.0, 5.0, 0.0]
    assert reach.due_ms.tolist() == [START_MS + DAY_MS, START_MS + DAY_MS, 0]


def test_reach_is_remembered_until_something_happens() -> None:
    catalogue, audiences = catalogue_of(make_item("old")), folded([debut("a")])
    first = audiences.aligned(catalogue)
    assert audiences.aligned(catalogue) is first
    catalogue.apply(debut("a"))
    second = audiences.aligned(catalogue)
    assert (len(first.level), second.owed.tolist()) == (1, [0.0, 3.0])
    audiences.fold(shown("a"))
    assert audiences.aligned(catalogue).owed.tolist() == [0.0, 2.0]
    assert second.owed.tolist() == [0.0, 3.0]
    assert audiences.aligned(catalogue_of(make_item("b"), make_item("a"))).owed.tolist() == [0, 2]


def test_a_change_is_no_second_debut() -> None:
    audiences = folded([debut("a"), shown("a"), debut("a", START_MS + 1, title="Another title")])
    assert (only(audiences).impressions, only(audiences).owed) == (1, 3)
    assert only(audiences).born_ms == START_MS


def test_an_upload_that_moves_home_keeps_its_debt() -> None:
    audiences = folded([debut("a"), debut("a", country="TH", language="TH-th")])
    upload = only(audiences)
    assert (upload.country, upload.language, upload.owed) == ("TH", "th", 3)


def test_near_duplicates_are_one_upload() -> None:
    title = "The very same cat video"
    records = lines(debut("a", title=title), shown("a"), debut("b", title=title), shown("b"))
    audiences = folded(records)
    reach = audiences.aligned(catalogue_after(records))
    assert reach.owed.tolist() == [1.0, 1.0]
    assert (only(audiences).item_id, only(audiences).impressions) == ("a", 2)
    poor = [shown("old"), shown("a", reward=-1.0)] * 300
    stopped = folded(poor, audiences)
    assert stopped.aligned(catalogue_after(records)).stopped.tolist() == [True, True]


def test_what_is_taken_down_is_owed_nothing_until_it_is_back() -> None:
    records = lines(debut("a"), shown("a"), takedown("a"))
    gone = folded(records)
    assert gone.aligned(catalogue_after(records)).owed.tolist() == [0.0]
    assert gone.share("GB", "en") == 0.0
    records.append(debut("a", START_MS + HOUR_MS))
    back = folded(records)
    reach = back.aligned(catalogue_after(records))
    assert (reach.owed.tolist(), reach.due_ms.tolist()) == ([2.0], [START_MS + HOUR_MS + DAY_MS])


def test_a_near_duplicate_keeps_the_debt_of_one_that_was_taken_down() -> None:
    title = "The very same cat video"
    records = lines(debut("a", title=title), debut("b", title=title), takedown("a"))
    assert folded(records).aligned(catalogue_after(records)).owed[1] == 3.0


def test_an_upload_is_born_when_it_is_first_listed() -> None:
    later = START_MS + 30 * HOUR_MS
    audiences = folded([debut("a", listed=False), shown("old", START_MS + HOUR_MS)])
    assert audiences.share("GB", "en") == 0.0
    audiences = folded([debut("a", later)], audiences)
    assert only(audiences).born_ms == later
    catalogue = catalogue_after([debut("a", later)])
    assert audiences.aligned(catalogue).due_ms[0] == later + DAY_MS


def test_an_upload_is_born_at_its_records_time_and_the_clock_is_the_latest() -> None:
    audiences = folded([shown("old", START_MS + HOUR_MS), debut("a", START_MS)])
    assert audiences.clock_ms == START_MS + HOUR_MS
    assert only(audiences).born_ms == START_MS
    folded([debut("b", START_MS + DAY_MS), shown("old", START_MS)], audiences)
    assert audiences.clock_ms == START_MS + DAY_MS


def test_a_record_of_long_ago_is_born_now() -> None:
    audiences = folded([shown("old"), debut("a", START_MS - SILENCE_MS - 1), debut("b", 0)])
    assert [u.born_ms for u in audiences.uploads()] == [START_MS, START_MS]


def test_a_silence_counts_for_no_deadline() -> None:
    audiences = folded([debut("a", 0), shown("a", 5), shown("old", START_MS)])
    catalogue = catalogue_after([debut("a", 0)])
    reach, upload = audiences.aligned(catalogue), only(audiences)
    assert upload.born_ms == START_MS - 5
    assert (upload.level_ms, reach.due_ms[0]) == ((START_MS - 5, 0, 0, 0), START_MS - 5 + DAY_MS)
    assert reach.price[0] == 0.0
    folded([shown("old", START_MS + SILENCE_MS)], audiences)
    assert audiences.aligned(catalogue).due_ms[0] == START_MS - 5 + DAY_MS
    assert audiences.aligned(catalogue).price[0] > 12.0


@pytest.mark.parametrize(("elapsed", "left"), [(0.3, 0.7), (0.5, 0.5), (0.9, 0.25), (3.0, 0.25)])
def test_the_price_is_how_far_an_upload_is_behind_by_the_time_that_is_left(
    elapsed: float, left: float
) -> None:
    upload = a_trial(owed=3)
    upload.show(1, counts=True)
    price = upload.price(round(elapsed * AIM * DAY_MS))
    assert price == pytest.approx(max(elapsed - 1 / 3, 0.0) / left)


def test_what_was_shown_to_nobody_goes_before_what_is_later_and_had_a_part() -> None:
    late, new = a_trial(owed=100), a_trial(owed=100)
    aim_ms = AIM * DAY_MS
    assert new.price(round(0.2 * aim_ms)) == pytest.approx(0.4 / 0.6)
    for n_paid in range(100):
        on_schedule = late.price(round(n_paid / 100 * aim_ms))
        assert on_schedule == pytest.approx(0.0, abs=1e-6), "the first part is paid by then"
        if n_paid == 30:
            assert new.price(round(0.75 * aim_ms)) > late.price(round(1.5 * aim_ms))
        late.show(1, counts=True)
    assert late.price(3 * DAY_MS) == 0.0


def test_without_a_debt_uploads_are_tried_all_the_same() -> None:
    args = AudienceArgs(FairStart(impressions=0), QUICK.pools)
    audiences = folded([debut("a")], Audiences(args))
    assert audiences.aligned(catalogue_after([debut("a")])).level[0] == 0
    for _ in range(10):
        folded([shown("a", reward=3.0), shown("old"), shown("old")], audiences)
    assert (only(audiences).level, only(audiences).paid_ms) == (1, 0)


def test_censored_cards_pay_and_say_nothing() -> None:
    audiences = folded([debut("a")], Audiences(QUICK))
    cut = msgspec.structs.replace(shown("a"), feedback=Feedback(seen=True, dwell_s=1.0))
    assert all(audiences.fold(cut) for _ in range(12))
    upload = only(audiences)
    assert (upload.impressions, upload.n_counted, upload.uplift) == (12, 12, 0.0)


def test_an_upload_that_nobody_sees_is_given_up_in_the_end() -> None:
    audiences, catalogue = folded([debut("a"), shown("a")]), catalogue_after([debut("a")])
    for day in range(1, IDLE_MS // DAY_MS + 1):
        folded([shown("old", START_MS + day * DAY_MS)], audiences)
    assert not audiences.aligned(catalogue).stopped[0]
    folded([shown("old", START_MS + IDLE_MS + DAY_MS)], audiences)
    reach = audiences.aligned(catalogue)
    assert (reach.stopped[0], reach.owed[0], only(audiences).stopped) == (True, 0.0, NOBODY)


def test_an_end_is_kept_for_the_audit_and_is_an_end() -> None:
    records = lines(debut("good"), debut("poor"))
    audiences = folded(records, Audiences(QUICK))
    for _ in range(60):
        folded([shown("good", reward=3.0), shown("old"), shown("old"), shown("old")], audiences)
        folded([shown("poor", reward=-1.0)], audiences)
    good, poor = audiences.uploads()
    assert (good.level, good.stopped, good.impressions < 60) == (OPEN_LEVEL, "", True)
    assert all(good.level_ms)
    assert (poor.level, poor.stopped, poor.impressions) == (0, BELOW_BAR, 10)
    reach = audiences.aligned(catalogue_after(records))
    assert (reach.level.tolist(), reach.stopped.tolist()) == ([OPEN_LEVEL, 0], [False, True])


def test_of_old_uploads_a_bounded_number_is_kept_for_the_audit() -> None:
    uploads = Uploads(FairStart(impressions=0), max_remembered=50)
    for k in range(60):
        uploads.put(debut(f"u{k}"), 0, START_MS)
        trial = uploads.trial(make_item(f"u{k}").item_id)
        assert trial is not None
        trial.stopped = NOBODY
        uploads.follow(trial, lambda t: t.state(Audiences()._verdicts, (0.0, 0.0, 0.0)))
    stored = uploads.to_stored()
    assert (len(stored.ended), len(stored.standing)) == (50, 60)
    assert stored.trials == []
    assert min(stored.ended) == 10


def test_guards_can_be_turned_off() -> None:
    farm = [shown("a", origin="farm", reward=4.0) for _ in range(50)]
    crowd = [shown("old", origin=f"o{k}") for k in range(5000)]
    guarded = folded([*crowd, debut("a")], Audiences(FEW))
    assert sum(guarded.fold(each) for each in farm) < 10
    assert only(guarded).n_cut > 40
    free = folded([*crowd, debut("a")], Audiences(AudienceArgs(guards=Guards(enabled=False))))
    assert all(free.fold(each) for each in farm)


def test_what_a_guard_cut_off_does_not_pay() -> None:
    args = AudienceArgs(FairStart(impressions=20))
    audiences = folded([shown("old", origin=f"o{k}") for k in range(5000)], Audiences(args))
    folded([debut("a")], audiences)
    n_heard = sum(audiences.fold(shown("a", origin="farm")) for _ in range(50))
    catalogue = catalogue_after([debut("a")])
    assert 0 < n_heard < 10
    assert audiences.aligned(catalogue).owed[0] == 20 - n_heard
    assert only(audiences).paid_ms == 0
    for k in range(20 - n_heard):
        assert audiences.aligned(catalogue).owed[0] == 20 - n_heard - k
        assert audiences.fold(shown("a", START_MS + k, origin=f"o{k}"))
    assert audiences.aligned(catalogue).owed[0] == 0.0
    assert only(audiences).paid_ms == START_MS + 19 - n_heard


def test_reach_follows_the_catalogue_as_if_it_were_made_anew() -> None:
    records = [debut(f"u{k}", country=("GB", "TH", "")[k % 3]) for k in range(12)]
    audiences = folded(lines(*records[:6], *(shown(f"u{k % 6}") for k in range(30))))
    data, catalogue = audiences.to_bytes(), catalogue_of(make_item("old"))
    rng = np.random.default_rng(3)
    for k in range(60):
        name = f"u{rng.integers(12)}"
        change = (
            debut(name, listed=bool(rng.random() < 0.6)),
            takedown(name),
            put(make_item(f"old{k}")),
        )[rng.integers(3)]
        catalogue.apply(change)
        if rng.random() < 0.3:
            continue
        reach, anew = (
            audiences.aligned(catalogue),
            Audiences.from_bytes(data, FEW).aligned(catalogue),
        )
        for column in ("level", "stopped", "owed", "due_ms", "price", "tried", "owing"):
            assert np.array_equal(getattr(reach, column), getattr(anew, column)), column
