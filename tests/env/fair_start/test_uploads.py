"""Uploads that look like others, move, pause or change: who shares a trial, and who starts anew."""

import msgspec
import pytest
from auditions import (
    DAY_MS,
    FEW,
    HOUR_MS,
    START_MS,
    Line,
    catalogue_after,
    debut,
    folded,
    lines,
    only,
    shown,
    takedown,
)

from env.fair_start.audience import IDLE_MS, Audiences
from env.fair_start.budget import MarketKey
from env.fair_start.settings import OPEN_LEVEL, AudienceArgs, FairStart, Pools
from env.fair_start.trial import BELOW_BAR, NOBODY, TAKEN_DOWN
from env.fair_start.uploads import Uploads
from env.records import ItemRecord

TITLE = "The very same cat video"
QUICK = AudienceArgs(FairStart(impressions=10), Pools(caps=(20, 40, 80), at_least=10, tests=(0, 0)))


def twin(name: str, at_ms: int = START_MS, **fields: object) -> ItemRecord:
    """Return a debut of which there are near-duplicates."""
    return debut(name, at_ms, **{"title": TITLE, "creator": "ann", **fields})


def change(name: str, at_ms: int = START_MS, **fields: object) -> ItemRecord:
    """Return a change of such an upload."""
    return msgspec.structs.replace(twin(name, at_ms, **fields), debut=False)


def liked(name: str, n: int = 60) -> list[Line]:
    return [*lines(shown(name, reward=3.0), *[shown("old")] * 3)] * n


def disliked(name: str, n: int = 60) -> list[Line]:
    return [*lines(shown(name, reward=-1.0), *[shown("old", reward=1.0)] * 3)] * n


def columns(records: list[Line], args: AudienceArgs = QUICK) -> list[tuple[int, bool, float]]:
    """Return level, stopped and owed of each item after these records, however often restarted."""
    whole, audiences = folded(records, Audiences(args)), Audiences(args)
    catalogue = catalogue_after(records)
    for record in records:
        folded([record], audiences)
        if isinstance(record, ItemRecord):
            audiences.aligned(catalogue_after(records))
            audiences = Audiences.from_bytes(audiences.to_bytes(), args)
    assert audiences.to_bytes() == whole.to_bytes()
    reach = audiences.aligned(catalogue)
    return [*zip(reach.level.tolist(), reach.stopped.tolist(), reach.owed.tolist(), strict=True)]


# --- near-duplicates ---


@pytest.mark.parametrize("creator", ["ann", ""])
def test_a_creators_near_duplicates_share_the_trial_that_is_under_way(creator: str) -> None:
    records: list[Line] = [
        twin("a", creator=creator),
        shown("a"),
        twin("b", creator=creator),
        shown("b"),
    ]
    assert columns(records) == [(0, False, 8.0)] * 2


@pytest.mark.parametrize("fields", [{"creator": "eve"}, {"creator": ""}, {"country": "TH"}])
def test_a_copy_by_a_user_else_or_from_elsewhere_is_an_upload_of_its_own(
    fields: dict[str, object],
) -> None:
    records: list[Line] = [twin("a"), shown("a"), twin("b", START_MS, **fields), *[shown("b")] * 3]
    assert columns(records) == [(0, False, 9.0), (0, False, 7.0)]


@pytest.mark.parametrize("creator", ["eve", ""])
def test_nobody_has_an_original_stopped_by_copying_its_title(creator: str) -> None:
    copy = twin("copy", creator=creator)
    poor = columns([copy, *disliked("copy"), twin("a"), twin("b", creator="bob")])
    assert poor == [(0, True, 0.0), (0, False, 10.0), (0, False, 10.0)]
    assert columns([twin("a"), copy, *disliked("copy")])[0] == (0, False, 10.0)


@pytest.mark.parametrize("creator", ["eve", "ann", ""])
def test_nobody_skips_the_pools_by_copying_a_title(creator: str) -> None:
    records: list[Line] = [twin("a"), *liked("a"), twin("b", creator=creator)]
    owed = 0.0 if creator == "ann" else 10.0
    assert columns(records) == [(OPEN_LEVEL, False, 0.0), (0, False, owed)]


def test_a_near_duplicate_of_an_open_upload_that_is_owed_still_does_not_skip_the_pools() -> None:
    args = AudienceArgs(FairStart(impressions=100), QUICK.pools)
    records: list[Line] = [twin("a"), *liked("a"), twin("b")]
    assert columns(records, args) == [(OPEN_LEVEL, False, 40.0), (0, False, 0.0)]


def test_a_creator_does_not_try_again_what_was_stopped() -> None:
    records: list[Line] = [twin("a"), *disliked("a"), twin("b")]
    assert columns(records) == [(0, True, 0.0)] * 2
    assert columns([*records, *liked("b")]) == [(0, True, 0.0)] * 2


def test_of_unknown_creators_nothing_is_inherited() -> None:
    records: list[Line] = [twin("a", creator=""), *disliked("a"), twin("b", creator="")]
    assert columns(records) == [(0, True, 0.0), (0, False, 10.0)]


# --- moving ---


def test_the_next_near_duplicate_stands_for_one_that_is_taken_down() -> None:
    audiences = folded([twin("a", language="fr"), twin("b", language="en"), takedown("a")])
    upload = only(audiences)
    assert (upload.item_id, upload.country, upload.language) == ("b", "GB", "en")
    assert audiences.share("GB", "en") > 0.0 == audiences.share("GB", "fr")


def test_who_moves_alone_takes_the_trial_along() -> None:
    records: list[Line] = [twin("a"), *[shown("a")] * 3, change("a", country="TH", language="th")]
    assert columns(records) == [(0, False, 7.0)]
    upload = only(folded(records, Audiences(QUICK)))
    assert (upload.country, upload.language, upload.n_counted) == ("TH", "th", 3.0)


def test_who_moves_away_from_near_duplicates_leaves_them_what_they_share() -> None:
    records: list[Line] = [twin("a"), twin("b"), shown("a"), change("a", country="TH")]
    assert columns(records) == [(0, False, 0.0), (0, False, 9.0)]
    first, second = folded(records, Audiences(QUICK)).uploads()
    assert (first.item_id, first.country, second.item_id, second.country) == ("b", "GB", "a", "TH")


@pytest.mark.parametrize(
    ("country", "markets", "home"),
    [
        ("GB", ("us",), "US"),
        ("GB", ("US", "CA"), "CA"),
        ("GB", ("US", " gb"), "GB"),
        ("GB", (), "GB"),
        ("", ("US",), "US"),
        ("", (), ""),
    ],
)
def test_an_upload_is_at_home_where_it_may_be_shown(
    country: str, markets: tuple[str, ...], home: str
) -> None:
    record = debut("a", country=country, markets=markets)
    assert only(folded([record])).country == home
    catalogue = catalogue_after([record])
    assert catalogue.countries[0] == max(catalogue.codes.country(home), 0)


def test_the_debt_of_an_upload_is_that_of_the_market_where_it_is_at_home() -> None:
    audiences = folded([debut("a", country="GB", markets=("TH",)), *[shown("old")] * 9])
    assert (audiences.share("GB", "en"), audiences.share("TH", "en") > 0.0) == (0.0, True)
    assert audiences.aligned(catalogue_after([debut("a", markets=("TH",))])).owed[0] == 5.0
    assert str(MarketKey(only(audiences).country, "en")) == "TH/en"


# --- pauses ---


def days(first: int, last: int) -> list[Line]:
    return [shown("old", START_MS + day * DAY_MS) for day in range(first, last)]


@pytest.mark.parametrize(
    "begin", [[twin("a", listed=False)], [twin("a"), change("a", listed=False)]]
)
def test_a_draft_or_a_pause_waits_for_as_long_as_it_takes(begin: list[ItemRecord]) -> None:
    later = START_MS + 40 * DAY_MS
    records: list[Line] = [*begin, *days(0, 40), change("a", later)]
    assert columns(records) == [(0, False, 10.0)]
    audiences, catalogue = folded(records, Audiences(QUICK)), catalogue_after(records)
    reach = audiences.aligned(catalogue)
    assert (reach.due_ms[0], reach.price[0]) == (later + DAY_MS, 0.0)
    folded(days(40, 70), audiences)
    assert not audiences.aligned(catalogue).stopped[0], "its idle time begins with its return"
    folded(days(70, 72), audiences)
    assert only(audiences).stopped == NOBODY


def test_a_pause_moves_the_deadline_by_its_length() -> None:
    at_ms = [START_MS + hour * HOUR_MS for hour in (0, 6, 36)]
    records = lines(twin("a", at_ms[0]), change("a", at_ms[1], listed=False), change("a", at_ms[2]))
    audiences = folded(records)
    reach = audiences.aligned(catalogue_after(records))
    assert reach.due_ms[0] == START_MS + (24 + 30) * HOUR_MS
    on_time = folded([twin("a", at_ms[0]), shown("old", at_ms[1])])
    assert reach.price[0] == on_time.aligned(catalogue_after(records)).price[0]


def test_what_is_reported_during_a_pause_was_not_paid_after_it() -> None:
    at_ms = [START_MS + hour * HOUR_MS for hour in range(4)]
    records = lines(twin("a", at_ms[0]), change("a", at_ms[1], listed=False))
    records += [*lines(*[shown("a", at_ms[2])] * 3), change("a", at_ms[3])]
    assert only(folded(records)).paid_ms == at_ms[3]


def test_a_draft_of_an_import_is_born_when_it_is_listed() -> None:
    records: list[Line] = [
        twin("a", 0, listed=False),
        shown("old"),
        change("a", START_MS + HOUR_MS),
    ]
    assert only(folded(records)).born_ms == START_MS + HOUR_MS


def test_what_was_taken_down_long_ago_is_not_kept_under_trial_and_starts_anew_if_it_returns() -> (
    None
):
    records = lines(twin("a"), *liked("a", 4), takedown("a"))
    records += days(0, IDLE_MS // DAY_MS + 3)
    audiences = folded(records, Audiences(QUICK))
    assert only(audiences).stopped == TAKEN_DOWN
    back: list[Line] = [*records, change("a", audiences.clock_ms)]
    assert columns(back) == [(0, False, 0.0)]
    assert columns([*back, *liked("a")])[0][0] == OPEN_LEVEL


# --- changes ---


@pytest.mark.parametrize("fields", [{"title": "An altogether other video"}, {"media": "b.mp4"}])
@pytest.mark.parametrize("n", [3, 12, 60])
def test_what_shows_something_else_starts_anew_and_is_owed_no_more(
    fields: dict[str, object], n: int
) -> None:
    records: list[Line] = [twin("a"), *liked("a", n)]
    level, _, owed = columns(records)[0]
    assert (level > 0, owed) == (n >= 10, max(10.0 - n, 0.0))
    assert columns([*records, change("a", START_MS, **fields)]) == [(0, False, owed)]
    upload = only(folded([*records, change("a", START_MS, **fields)], Audiences(QUICK)))
    assert (upload.n_counted, upload.level_ms[1:]) == (0.0, (0, 0, 0))


@pytest.mark.parametrize("media", ["http://[", "//host]/b.mp4", "//caf\u2100.example/b.mp4"])
def test_an_address_that_cannot_be_parsed_is_one_like_any_other(media: str) -> None:
    records: list[Line] = [twin("a", media=media), *liked("a")]
    assert columns(records)[0][0] == OPEN_LEVEL
    signed = [*records, change("a", media=f"{media}?signed=2#t=1")]
    assert columns(signed) == columns(records)
    assert columns([*records, change("a", media=f"{media}/c.mp4")])[0][0] == 0


def test_what_started_anew_is_judged_by_what_it_shows_now() -> None:
    records: list[Line] = [twin("a"), *liked("a", 12), change("a", media="b.mp4")]
    audiences = folded([*records, *disliked("a")], Audiences(QUICK))
    assert (only(audiences).stopped, only(audiences).impressions) == (BELOW_BAR, 22)
    assert columns([*records, *liked("a")])[0] == (OPEN_LEVEL, False, 0.0)


def test_what_was_stopped_is_not_revived_by_a_change() -> None:
    records: list[Line] = [
        twin("a"),
        *disliked("a"),
        change("a", title="An altogether other video"),
    ]
    assert columns(records) == [(0, True, 0.0)]


def test_one_of_two_that_shows_something_else_goes_its_own_way() -> None:
    records: list[Line] = [twin("a"), twin("b"), *liked("a", 12)]
    (level, *_), same = columns(records)
    assert level == same[0] > 0
    changed = columns([*records, change("b", title="An altogether other video")])
    assert changed == [(level, False, 0.0), (0, False, 0.0)]


def test_who_leaves_drafts_behind_does_not_stand_for_them_any_more() -> None:
    drafts = [twin("a", listed=False), twin("b", listed=False)]
    changed = change("a", title="An altogether other video", listed=False)
    uploads = folded([*drafts, changed], Audiences(QUICK)).uploads()
    assert [upload.item_id for upload in uploads] == ["b", "a"]
    assert [upload.owed for upload in uploads] == [10, 0]


def test_a_change_into_a_near_duplicate_shares_what_that_has() -> None:
    stopped: list[Line] = [twin("a"), *disliked("a"), twin("b", title="An altogether other video")]
    assert columns([*stopped, change("b")]) == [(0, True, 0.0)] * 2
    under_way: list[Line] = [twin("a"), shown("a"), twin("b", title="An altogether other video")]
    assert columns([*under_way, change("b")]) == [(0, False, 9.0)] * 2


def test_a_change_of_tags_or_of_nothing_changes_nothing() -> None:
    records: list[Line] = [twin("a"), *liked("a", 12)]
    before = columns(records)
    assert columns([*records, change("a"), change("a", tags=("cats",))]) == before
    records += liked("a")
    assert columns([*records, change("a", tags=("cats",), country="TH")]) == columns(records)


def test_a_reach_follows_an_item_to_its_new_row() -> None:
    records = lines(twin("a"), *liked("a"))
    audiences, catalogue = folded(records, Audiences(QUICK)), catalogue_after(records)
    assert audiences.aligned(catalogue).level[0] == OPEN_LEVEL
    audiences.put(change("a", media="b.mp4"))
    assert audiences.aligned(catalogue).level[0] == 0


def test_columns_of_uploads_that_differ_in_length_are_refused() -> None:
    uploads = Uploads(FEW.fair_start)
    uploads.put(twin("a"), 0, START_MS)
    stored = uploads.to_stored()
    for name in ("contents", "keys", "rows"):
        fields = {field: getattr(stored, field) for field in stored.__struct_fields__}
        with pytest.raises(ValueError, match=f"expected 1 {name}, got 0"):
            Uploads.from_stored(type(stored)(**fields | {name: b""}), FEW.fair_start)
