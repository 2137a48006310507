"""The state of audiences: the same bytes wherever its fold was interrupted, and few of them."""

import msgspec
import numpy as np
import pytest
from auditions import (
    FEW,
    HOUR_MS,
    START_MS,
    Line,
    by,
    catalogue_after,
    debut,
    draw_rewards,
    folded,
    shown,
    takedown,
)
from builders import interaction

from env.columns.schema import N_ACTION, N_SHARED, quantise
from env.fair_start.audience import Audiences
from env.fair_start.settings import OPEN_LEVEL, AudienceArgs, FairStart, Pools
from env.fair_start.trial import BELOW_BAR, NOT_PROVEN
from env.items.catalogue import Catalogue
from env.records import ItemRecord, pack_halves
from env.vocabulary import Feedback, Interaction, Scene, UserKey

GOOD = {f"u{k}" for k in range(0, 100, 3)}
QUICK = AudienceArgs(FairStart(impressions=10), Pools(caps=(20, 40, 80), at_least=10))


def a_stream(n: int, seed: int = 3) -> list[Line]:
    """Return debuts, changes, takedowns and swipes of many kinds, over weeks, with a silence."""
    rng = np.random.default_rng(seed)
    stream: list[Line] = []
    at_ms = 0
    for k in range(n):
        at_ms += int(rng.exponential(0.3 * HOUR_MS)) + (START_MS if k == n // 10 else 0)
        kind, who = rng.random(), f"u{rng.integers(max(k // 100 - 5, 0), 1 + k // 100)}"
        if kind < 0.04:
            title = f"A title long enough {rng.integers(40)}"
            home = ("GB", "TH", "")[rng.integers(3)]
            fields = {"title": title, "country": home, "creator": ("ann", "bob", "")[k % 3]}
            more = {"media": f"{k % 5}.mp4", "listed": rng.random() < 0.9}
            stream.append(debut(f"u{k // 100}", at_ms, **fields, **more))
        elif kind < 0.05:
            stream.append(takedown(who, at_ms))
        else:
            stream.append(_swipe(rng, who if kind < 0.7 else f"old{rng.integers(30)}", at_ms))
    return stream


def _swipe(rng: np.random.Generator, name: str, at_ms: int) -> Interaction:
    scene = Scene(
        at_ms,
        country=("GB", "TH", "")[rng.integers(3)],
        language=("en", "th", "")[rng.integers(3)],
        origin=("", "a", f"o{rng.integers(300)}")[rng.integers(3)],
        tenure_days=int(rng.integers(30)),
    )
    feedback = Feedback(seen=True, left=bool(rng.random() < 0.9), dwell_s=float(rng.exponential(9)))
    reward = 2.5 if name in GOOD else float(draw_rewards(rng, 1)[0])
    swipe = interaction(name, feedback, reward=reward, scene=scene)
    return msgspec.structs.replace(
        swipe,
        user=UserKey(f"p{at_ms % 499}"),
        closed_ms=max(at_ms - int(rng.integers(HOUR_MS)), 0),
        shared=pack_halves(quantise(rng.normal(0.0, 1.0, N_SHARED))),
        action=pack_halves(quantise(rng.normal(0.0, 1.0, N_ACTION))),
    )


@pytest.mark.slow
def test_the_same_stream_gives_the_same_bytes_wherever_it_is_interrupted() -> None:
    stream = a_stream(2500)
    whole = folded(stream, Audiences(QUICK))
    assert {(u.level, u.stopped) for u in whole.uploads()} >= {
        (0, NOT_PROVEN),
        (0, BELOW_BAR),
        (OPEN_LEVEL, ""),
    }
    for stop in (0, 1, 249, 251, 700, 1250, 2499, 2500):
        resumed = Audiences.from_bytes(folded(stream[:stop], Audiences(QUICK)).to_bytes(), QUICK)
        assert folded(stream[stop:], resumed).to_bytes() == whole.to_bytes()


def test_what_is_listed_is_under_trial_or_that_is_over_and_reach_follows_every_move() -> None:
    audiences, catalogue = Audiences(QUICK), Catalogue()
    listed: dict[str, bool] = {}
    for record in a_stream(4_000, seed=8):
        folded([record], audiences)
        if not isinstance(record, ItemRecord):
            continue
        catalogue.apply(record)
        listed[record.item_id] = record.item is not None and record.item.listed
        reach = audiences.aligned(catalogue)
        fresh = Audiences.from_bytes(audiences.to_bytes(), QUICK).aligned(catalogue)
        assert np.array_equal(reach.level, fresh.level)
        assert np.array_equal(reach.owed, fresh.owed)
        names = [upload.item_id for upload in audiences.uploads()]
        assert len(names) == len(set(names)), "an audit knows each by its item"
        trial = audiences._uploads.trial(record.item_id)
        index = catalogue.index_of(record.item_id)
        if trial is not None:
            assert (record.item_id in trial.members) == listed[record.item_id]
            assert trial.item_id in (trial.members or {trial.item_id: ""})
        elif listed[record.item_id]:
            assert reach.stopped[index] or reach.level[index] == OPEN_LEVEL


def test_an_upload_that_comes_back_is_summed_up_where_it_was() -> None:
    """Sums of floats depend on their order, so a restart must not change it."""
    begun = folded([shown("old", START_MS + k * HOUR_MS // 200) for k in range(201)])
    folded([debut(f"u{k}", START_MS + k * k * 1_777 + HOUR_MS) for k in range(30)], begun)
    folded([takedown(f"u{k}", begun.clock_ms) for k in range(15)], begun)
    folded([debut(f"u{k}", begun.clock_ms) for k in (9, 3, 12, 0, 7)], begun)
    resumed = Audiences.from_bytes(begun.to_bytes(), FEW)
    for k in range(1, 200):
        swipe = shown("old", begun.clock_ms + 20_000 + k)
        begun.fold(swipe)
        resumed.fold(swipe)
        assert 0.0 < resumed.share("GB", "en") == begun.share("GB", "en") < 0.1
    assert resumed.to_bytes() == begun.to_bytes()


def test_asking_changes_nothing_of_the_state() -> None:
    stream = a_stream(600)
    catalogue = catalogue_after(stream)
    asked, left_alone = Audiences(QUICK), Audiences(QUICK)
    for record in stream:
        folded([record], asked)
        folded([record], left_alone)
        asked.aligned(catalogue)
        asked.share("GB", "en")
        asked.reserved("GB")
        asked.unreachable()
        asked.overdrawn()
        asked.uploads()
    assert asked.to_bytes() == left_alone.to_bytes()


def test_a_restored_state_says_what_the_live_one_says() -> None:
    stream = a_stream(1500)
    live, catalogue = folded(stream, Audiences(QUICK)), catalogue_after(stream)
    restored = Audiences.from_bytes(live.to_bytes(), QUICK)
    a, b = live.aligned(catalogue), restored.aligned(catalogue)
    for name in ("level", "stopped", "owed", "due_ms", "price"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert restored.uploads() == live.uploads()
    for country in ("GB", "TH", "", "XX"):
        assert restored.reserved(country) == live.reserved(country)
        for language in ("en", "th", ""):
            assert restored.share(country, language) == live.share(country, language)
    assert restored.unreachable() == live.unreachable()
    assert (restored.overdrawn(), restored.clock_ms) == (live.overdrawn(), live.clock_ms)


def test_a_trial_takes_some_hundred_bytes_and_two_an_account() -> None:
    keep = AudienceArgs(pools=Pools(caps=(3000, 3001, 3002), at_least=3000))
    audiences = folded([debut("a")], Audiences(keep))
    empty, rng = len(audiences.to_bytes()), np.random.default_rng(1)
    folded([debut(f"u{k}") for k in range(50)], audiences)
    for k in range(10_000):
        swipe = shown(f"u{k % 50}", reward=float(rng.random()), origin=f"o{k % 997}")
        audiences.fold(by(f"p{k}", swipe))
    fixed = 2 * 8 * 258 + 256 * 16 * 8  # traffic of a market and everywhere, waiting rewards
    assert (len(audiences.to_bytes()) - empty - fixed) / 50 < 700 + 2 * 10_000 / 50


def test_bytes_that_are_no_state_are_refused() -> None:
    data = folded([debut("a"), debut("b")]).to_bytes()
    with pytest.raises(msgspec.DecodeError):
        Audiences.from_bytes(data[:-1])
    fields = msgspec.msgpack.decode(data)
    fields[3][1] = ["a"]
    with pytest.raises(ValueError, match="expected 1 rows, got 2"):
        Audiences.from_bytes(msgspec.msgpack.encode(fields))
