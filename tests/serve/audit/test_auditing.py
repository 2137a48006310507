"""The audit of fair start and breakout: its numbers against ones that were computed by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from auditions import debut
from auditions import shown as swiped
from builders import catalogue_of, folded, interaction, make_item
from servers import START_MS, ask, serving

from env.fair_start.audience import Audiences
from env.fair_start.reach import UploadState
from env.fair_start.settings import AudienceArgs, FairStart, Pools
from env.fair_start.traffic import Heard
from env.vocabulary import Floats, ItemId
from serve.audit.audit import AuditInputs, answer_audit, make_audit
from serve.audit.exposure import Exposed, ItemColumns, gini, lorenz, measure_exposure
from serve.audit.floor import WaitingTimes
from serve.audit.html import audit_html
from serve.audit.response import Audit
from serve.audit.words import sentences, tables
from serve.learn.served import Folds
from serve.wire.codec import ProblemError
from serve.wire.items import ItemBody, ItemsRequest

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BORN_MS = 20_000 * DAY_MS  # 2024-10-04, midnight UTC
NOW_MS = BORN_MS + 30 * HOUR_MS
ARGS = AudienceArgs(FairStart(impressions=10, within_h=24.0, budget=0.1), Pools(at_least=20))


def upload(name: str, **fields: object) -> UploadState:
    """Return an upload that has just come to Britain and was seen by nobody."""
    made: dict[str, object] = {
        "item_id": name,
        "creator": f"of {name}",
        "country": "GB",
        "language": "en",
        "born_ms": BORN_MS,
        "owed": 10,
        "impressions": 0,
        "paid_ms": 0,
        "level": 0,
        "level_ms": (BORN_MS, 0, 0, 0),
        "stopped": "",
        "n_counted": 0.0,
        "n_cut": 0,
        "uplift": 0.0,
        "uplift_sd": 0.1,
        "chance": 0.5,
    }
    return msgspec.convert({**made, **fields}, UploadState)


def paid(name: str, after_h: float, **fields: object) -> UploadState:
    """Return an upload that had all it is owed so many hours after it came."""
    paid_ms = BORN_MS + round(after_h * HOUR_MS)
    return upload(name, **{"impressions": 12, "paid_ms": paid_ms, **fields})


def findings(
    *uploads: UploadState,
    shares: Mapping[str, float] | None = None,
    overdrawn: Mapping[str, float] | None = None,
    impressions: Floats | None = None,
    gone: frozenset[ItemId] = frozenset(),
    unreachable: frozenset[str] = frozenset(),
    heard: Mapping[str, Heard] | None = None,
) -> AuditInputs:
    seen = np.zeros(0) if impressions is None else impressions
    homes = dict.fromkeys(sorted({u.country for u in uploads}), 0.0)
    return AuditInputs(
        market="",
        uploads=uploads,
        clock_ms=NOW_MS,
        shares={**homes, **(shares or {})},
        overdrawn=overdrawn or {},
        exposed=Exposed(seen, np.arange(1, len(seen) + 1)),
        gone=gone,
        args=ARGS,
        version=3,
        offset=77,
        unreachable=unreachable,
        heard=heard or {},
    )


def audit_of(*uploads: UploadState, **how: Any) -> Audit:
    return make_audit(findings(*uploads, **how))


# --- exposure ---


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_half_the_relative_mean_difference_of_all_pairs(seed: int) -> None:
    amounts = np.random.default_rng(seed).pareto(1.2, 40).round(2)
    pairs = np.abs(amounts[:, None] - amounts[None, :])
    assert gini(amounts) == pytest.approx(pairs.mean() / (2.0 * amounts.mean()), rel=1e-12)


def test_gini_is_twice_the_area_between_the_lorenz_curve_and_the_diagonal() -> None:
    amounts = np.array([3.0, 0.0, 1.0, 6.0, 2.0])
    even = np.linspace(0.0, 1.0, len(amounts) + 1)
    curve = lorenz(amounts, even)
    area = float(np.sum((curve[1:] + curve[:-1]) / 2.0) / len(amounts))
    assert gini(amounts) == pytest.approx(1.0 - 2.0 * area)


def test_what_the_many_get_is_counted_by_hand() -> None:
    spread = measure_exposure(np.array([10.0, 0.0, 1.0, 7.0, 2.0]))
    # 0, 1, 2, 7, 10: four fifths of the videos have 10 of 20; 2 * 82 / (5 * 20) - 6 / 5
    assert (spread.n, spread.n_shown, spread.impressions) == (5, 4, 20)
    assert spread.bottom_share == pytest.approx(0.5)
    assert spread.gini == pytest.approx(0.52)
    assert (spread.lorenz[0], spread.lorenz[60], spread.lorenz[100]) == (0.0, 0.15, 1.0)


@pytest.mark.parametrize("n", [0, 3])
def test_of_nothing_there_is_no_share(n: int) -> None:
    spread = measure_exposure(np.zeros(n))
    assert (spread.n, spread.gini, spread.bottom_share, spread.lorenz) == (n, None, None, ())


def test_exposure_is_of_listed_items_by_their_home_and_creator() -> None:
    catalogue = catalogue_of(
        make_item("a", creator="ann", country="GB"),
        make_item("b", creator="ann", country="GB"),
        make_item("c", creator="bob", country="TH"),
        make_item("d", country="GB"),
        make_item("hidden", creator="eve", country="GB", listed=False),
    )
    states = folded(map(interaction, ["a", "a", "a", "b", "c", "d", "d", "hidden"]))

    everywhere = Exposed.of(states, catalogue, "")
    assert everywhere.impressions.tolist() == [3.0, 1.0, 1.0, 2.0]
    by_creator = everywhere.by_creator()
    assert (by_creator.n, by_creator.impressions) == (2, 5)  # ann 4, bob 1; d has no creator
    assert by_creator.gini == pytest.approx(0.3)

    assert Exposed.of(states, catalogue, "TH").impressions.tolist() == [1.0]
    assert Exposed.of(states, catalogue, "VN").by_creator().n == 0


# --- the floor ---


def test_waits_that_have_not_ended_count_for_as_long_as_they_were_seen_to_last() -> None:
    """By hand: of 5 one ends at 2 h (4/5 wait), of 4 one at 4 h (3/5), of 2 one at 8 h (3/10)."""
    hours = np.array([2.0, 4.0, 6.0, 8.0, 10.0])
    waits = WaitingTimes.of(hours, np.array([True, True, False, True, False]))
    assert waits.times.tolist() == [2.0, 4.0, 8.0]
    assert waits.share.tolist() == pytest.approx([0.2, 0.4, 0.7])
    assert (waits.quantile(0.4), waits.quantile(0.5), waits.quantile(0.9)) == (4.0, 8.0, None)
    assert waits.longest() == 8.0
    assert waits.curve([0.0, 1.9, 2.0, 7.9, 100.0]) == (0.0, 0.0, 0.2, 0.4, 0.7)


def test_the_floor_of_uploads_is_counted_by_hand() -> None:
    audit = audit_of(
        paid("quick", 6.0),
        paid("just in time", 24.0),
        paid("too late", 24.5),
        upload("late", impressions=4),
        upload("young", born_ms=NOW_MS - HOUR_MS, impressions=7),
        upload("owed nothing", owed=0, impressions=100),
    )
    floor = audit.floor
    assert (floor.uploads, floor.owed, floor.paid) == (5, 50, 10 + 10 + 10 + 4 + 7)
    assert (floor.full, floor.over, floor.met, floor.late) == (3, 4, 2, 1)
    assert floor.met_share == 0.5
    # Of 4 that are older than an hour one has it after 6 h, one after 24 h, one after 24.5 h.
    assert (floor.p50_h, floor.p90_h, floor.max_h) == (24.0, None, 24.5)
    assert floor.curve_h == 36.0
    assert (floor.curve[15], floor.curve[16], floor.curve[64], floor.curve[96]) == (
        *(0.0, 0.25, 0.5, 0.75),
    )
    assert audit.n_uploads == 6


def test_an_upload_is_late_from_the_moment_that_its_time_is_over() -> None:
    on_time = upload("on time", born_ms=NOW_MS - DAY_MS + 1)
    late = upload("late", born_ms=NOW_MS - DAY_MS)
    told = {each.item_id: each for each in audit_of(on_time, late).uploads}
    assert (told["on time"].late, told["late"].late) == (False, True)  # type: ignore[index]
    assert audit_of(on_time, late).floor.late == 1


def test_to_what_was_taken_down_nothing_is_owed_any_longer() -> None:
    gone = frozenset({ItemId("had it"), ItemId("had it not")})
    audit = audit_of(paid("had it", 3.0), upload("had it not"), upload("there"), gone=gone)
    assert (audit.floor.uploads, audit.floor.withdrawn) == (2, 1)
    assert (audit.floor.full, audit.floor.over, audit.floor.late) == (1, 2, 1)
    told = {each.item_id: (each.late, each.gone) for each in audit.uploads}
    assert told == {"had it": (False, True), "had it not": (False, True), "there": (True, False)}


def test_an_upload_is_there_while_one_of_its_near_duplicates_is() -> None:
    twin = {"title": "The very same film", "creator": "ann", "duration_s": 30.0}
    catalogue = catalogue_of(
        make_item("first", **twin, listed=False),
        make_item("second", **twin),
        make_item("alone", title="Another one", creator="ann", duration_s=9.0, listed=False),
    )
    assert catalogue.duplicates[0] == catalogue.duplicates[1]
    shown = ItemColumns.of(Folds(Audiences(ARGS), folded([]), catalogue, ARGS))
    names = [ItemId(name) for name in ("first", "second", "alone", "never put")]
    assert shown.gone(names) == {"alone"}


def test_each_home_has_its_floor_and_says_what_is_reserved_there() -> None:
    audit = audit_of(
        paid("a", 3.0),
        paid("b", 5.0),
        upload("c", country="TH"),
        shares={"GB": 0.04, "TH": 0.1},
        overdrawn={"TH": 0.25},
    )
    assert [
        (m.market, m.uploads, m.full, m.share, m.overdrawn, m.needed) for m in audit.markets
    ] == [
        ("GB", 2, 2, 0.04, False, None),
        ("TH", 1, 0, 0.1, True, 0.25),
    ]
    assert audit.floor.share is None
    assert audit.floor.overdrawn
    (alarm,) = [sentence for sentence in sentences(audit) if sentence.startswith("alarm")]
    assert alarm == "alarm in TH: 25.0% of the cards would be needed, and the budget is 10.0%"


def test_a_market_without_traffic_raises_an_alarm_and_no_number() -> None:
    audit = audit_of(upload("a", country="PH"), overdrawn={"PH": np.inf})
    (market,) = audit.markets
    assert (market.overdrawn, market.needed, market.late) == (True, None, 1)
    assert msgspec.json.decode(msgspec.json.encode(audit), type=Audit) == audit
    assert "alarm in PH: no cards are shown there" in sentences(audit)[0]


def test_a_home_whose_users_have_all_been_asked_is_named() -> None:
    audit = audit_of(upload("a"), upload("b", country="TH"), unreachable=frozenset({"TH"}))
    assert {m.market: m.unreachable for m in audit.markets} == {"GB": False, "TH": True}
    (alarm,) = [sentence for sentence in sentences(audit) if sentence.startswith("alarm")]
    assert alarm.startswith("alarm in TH: cards are kept free for late uploads and nobody is left")


def test_what_guards_cut_off_is_not_paid() -> None:
    audit = audit_of(upload("a", impressions=8, n_cut=3), upload("b", impressions=30, n_cut=2))
    assert audit.floor.paid == 5 + 10


def test_a_home_of_two_languages_is_told_by_the_one_that_needs_the_most() -> None:
    audiences = Audiences(AudienceArgs(FairStart(impressions=400)))
    for k in range(600):
        language, at_ms = ("en", "ms")[k % 2], START_MS + k * 36_000
        audiences.fold(swiped("old", at_ms, country="MY", language=language))
        if k in (400, 500):
            new = debut(f"u{k}", audiences.clock_ms, country="MY", language=("en", "ms")[k == 500])
            audiences.put(new)
    overdrawn = audiences.overdrawn()
    assert set(overdrawn) == {"MY/en", "MY/ms"}
    folds = Folds(audiences, folded([]), catalogue_of(), ARGS)
    found = AuditInputs.of(folds, ItemColumns.of(folds, ""))
    assert found.overdrawn == {"MY": max(overdrawn.values())}
    assert found.shares == {"MY": pytest.approx(0.1)}


# --- pools ---

UPLOADS = (
    upload("new", born_ms=BORN_MS - 3 * DAY_MS, level_ms=(BORN_MS - 3 * DAY_MS, 0, 0, 0)),
    upload("open", level=3, level_ms=(BORN_MS, BORN_MS, BORN_MS + DAY_MS, BORN_MS + DAY_MS)),
    upload("near", level=2, level_ms=(BORN_MS, BORN_MS, BORN_MS + DAY_MS, 0)),
    upload("back", level=1, level_ms=(BORN_MS, BORN_MS, BORN_MS + 1, 0), stopped="cap"),
    upload("bad", stopped="not good enough", n_cut=3, n_counted=20.0),
    upload("worse", stopped="not good enough", n_cut=8, n_counted=12.0),
)


def test_the_way_through_the_pools_is_counted_by_hand() -> None:
    pools = audit_of(*UPLOADS).pools
    assert pools.at == (1, 0, 1, 1)
    assert pools.reached == (6, 3, 3, 1)
    assert pools.stopped == (2, 1, 0, 0)
    assert pools.spent == (2, 0, 1, 0)  # the one that was sent back had been in pool 2
    assert pools.reasons == {"not good enough": 2, "cap": 1}
    assert [(day.day, day.promoted) for day in pools.days] == [
        ("2024-10-04", (3, 1, 0)),
        ("2024-10-05", (0, 2, 1)),
    ]


def test_what_guards_cut_off_is_told_by_upload_the_most_first() -> None:
    guards = audit_of(*UPLOADS).guards
    assert (guards.counted, guards.cut) == (32.0, 11)
    assert [(c.item_id, c.counted, c.cut) for c in guards.items] == [
        ("worse", 12.0, 8),
        ("bad", 20.0, 3),
    ]


def test_surges_of_young_accounts_are_told_by_market_and_loud_ones_in_a_sentence() -> None:
    heard = {
        "GB": Heard(900, 96, unheard=4),
        "TH": Heard(500, 50, unheard=150),
        "US": Heard(800, 80),
    }
    audit = audit_of(upload("a"), heard=heard)
    assert [(s.market, s.heard, s.unheard) for s in audit.guards.surges] == [
        ("TH", 50, 150),
        ("GB", 96, 4),
    ]
    (sentence,) = [text for text in sentences(audit) if text.startswith("surge")]
    assert sentence.startswith(
        "surge in TH: of 200 impressions by young accounts 150 taught nothing"
    )
    titles = [cells.title for cells in tables(audit)]
    assert "young accounts beyond the usual" in titles
    assert msgspec.json.decode(msgspec.json.encode(audit), type=Audit) == audit


def test_promotions_are_judged_by_the_best_tenth_of_what_is_known_now() -> None:
    """Twenty are judged, so two are the best: one broke out, one was stopped at once."""
    twenty = [upload(f"u{k}", n_counted=20.0, uplift=0.01 * k) for k in range(20)]
    broke_out = {"level": 2, "level_ms": (BORN_MS, 1, 2, 0)}
    twenty[19] = msgspec.structs.replace(twenty[19], **broke_out)
    twenty[18] = msgspec.structs.replace(twenty[18], stopped="not good enough")
    for k in (3, 4):
        twenty[k] = msgspec.structs.replace(twenty[k], **broke_out)
    unjudged = upload("lucky", n_counted=19.0, uplift=9.0)

    breakout = audit_of(*twenty, unjudged).breakout
    assert (breakout.judged, breakout.best, breakout.promoted) == (20, 2, 3)
    assert breakout.bar == pytest.approx(0.18)
    assert breakout.precision == pytest.approx(1 / 3)
    assert breakout.recall == 0.5
    assert breakout.false_kills == 1


def test_evidence_that_was_forgotten_at_a_promotion_was_enough() -> None:
    promoted = upload("p", n_counted=10.0, level=1, level_ms=(BORN_MS, 1, 0, 0))
    assert audit_of(promoted, upload("q", n_counted=10.0)).breakout.judged == 1


def test_of_few_uploads_there_is_no_best_tenth() -> None:
    breakout = audit_of(*(upload(f"u{k}", n_counted=20.0) for k in range(9))).breakout
    assert (breakout.judged, breakout.bar, breakout.precision, breakout.recall) == (
        *(9, None, None, None),
    )


# --- one by one ---


def test_every_field_of_an_upload_is_told() -> None:
    state = paid("a", 7.5, n_counted=8.0, n_cut=4, uplift=0.2, chance=0.7, stopped="cap")
    (told,) = audit_of(state).uploads
    named = msgspec.to_builtins(told)
    others = {"n_counted": "counted", "n_cut": "cut"}
    for field, value in msgspec.to_builtins(state).items():
        assert named[others.get(field, field)] == value, field
    assert (told.hours_to_paid, told.due_ms, told.late) == (7.5, BORN_MS + DAY_MS, False)


def test_uploads_are_paged_the_latest_first() -> None:
    found = findings(*(upload(f"u{k}", born_ms=BORN_MS + k) for k in range(5)))
    names, after = [], ""
    for _ in range(3):
        page = make_audit(found, after=after, limit=2)
        names += [each.item_id for each in page.uploads]
        after = page.next
    assert names == ["u4", "u3", "u2", "u1", "u0"]
    assert after == ""


def test_a_last_page_that_is_full_has_none_behind_it() -> None:
    found = findings(*(upload(f"u{k}") for k in range(4)))
    assert make_audit(found, after="u1", limit=2).next == ""


def test_a_page_of_no_uploads_goes_nowhere() -> None:
    page = make_audit(findings(upload("a")), limit=0)
    assert (page.uploads, page.next, page.n_uploads) == ((), "", 1)


def test_without_uploads_everything_is_said_to_be_nothing() -> None:
    audit = audit_of(impressions=np.zeros(4))
    assert (audit.floor.uploads, audit.floor.met_share, audit.floor.p50_h) == (0, None, None)
    assert (audit.markets, audit.uploads, audit.videos.gini) == ((), (), None)
    assert sum(audit.pools.reached) == 0
    assert [cells.title for cells in tables(audit)] == [
        "the audience owed",
        "who gets the impressions",
        "the pools",
    ]


# --- the page ---


def test_the_page_escapes_what_comes_from_outside_and_is_the_same_each_time() -> None:
    audit = audit_of(upload("<script>alert(1)</script>", stopped="<b>"), impressions=np.ones(3))
    page = audit_html(audit)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page == audit_html(audit)
    assert page.count("<svg") == 3
    assert "http-equiv" in page


# --- the endpoint ---


def _folds() -> Folds:
    catalogue = catalogue_of(
        make_item("a", creator="ann", country="GB"), make_item("b", creator="bob", country="TH")
    )
    states = folded(map(interaction, ["a", "a", "b"]))
    return Folds(Audiences(ARGS), states, catalogue, ARGS, version=4, offset=9)


async def test_the_endpoint_answers_from_what_is_served() -> None:
    audit = await answer_audit(_folds(), {})
    assert (audit.version, audit.offset, audit.videos.impressions) == (4, 9, 3)


async def test_the_endpoint_tells_of_one_market() -> None:
    audit = await answer_audit(_folds(), {"market": "TH"})
    assert (audit.market, audit.videos.n, audit.videos.impressions) == ("TH", 1, 1)
    assert [market.market for market in audit.markets] == ["TH"]


async def test_the_audit_is_asked_for_over_http(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = ItemBody(item_id=ItemId("a"), country="GB", published_ms=START_MS)
        await server.engine.shelf.put_many(ItemsRequest((body,)))
        answer = await ask(server.app, "GET", "/v1/audit?market=GB&limit=5")
        audit = msgspec.json.decode(answer.body, type=Audit)
        assert (answer.status, audit.market, audit.videos.n, audit.version) == (200, "GB", 1, 0)
        refused = await ask(server.app, "GET", "/v1/audit?country=GB")
        assert refused.problem() == (400, "country")


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"market": "gb"}, "market"),
        ({"market": "Britain"}, "market"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"after": "nobody"}, "after"),
    ],
)
async def test_a_query_that_cannot_be_answered_is_refused(
    parameters: dict[str, str], field: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        await answer_audit(_folds(), parameters)
    assert (refused.value.problem.status, refused.value.problem.field) == (422, field)
