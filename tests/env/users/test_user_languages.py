"""The tally of languages: a pure fold of plays, in rows and records of before as well."""

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, catalogue_with
from queries import feature_query

from env.columns.schema import LANGUAGE_SHARE, action_index
from env.features.encode import encode
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    decode_record,
    encode_record,
    pack_halves,
)
from env.users.fold import fold
from env.users.interests import (
    LANGUAGE_CARDS,
    OTHER_RATE,
    OWN_RATE,
    TALLY_DECAY,
    LanguageRates,
    tally_columns,
)
from env.users.state import UserState, decode_state, encode_state, newcomer
from env.vocabulary import (
    DecisionId,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
    primary_language,
)

USER, SESSION = UserKey("u"), SessionId("s")
OWN = ("th",)
PLAY_S = 20.0


def page(*languages: str, name: str = "p") -> PageRecord:
    return PageRecord(
        page_id=PageId(name),
        at_ms=0,
        user=USER,
        session=SESSION,
        scene=Scene(0),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=1,
        rules=(),
        slots=(),
        drawn=tuple(Drawn(slot, slot, 0.1) for slot, _ in enumerate(languages)),
        cards=tuple(
            Card(ItemId(f"{name}{k}"), b"", duration_s=60.0, language=language)
            for k, language in enumerate(languages)
        ),
        reasons=(),
        policy="uniform@0",
        explorer={},
        eps=0.1,
    )


def said(slot: int, kind: FeedbackKind, value: float = 0.0, name: str = "p") -> FeedbackRecord:
    return FeedbackRecord(
        f"{kind}{slot}", DecisionId(f"{name}:{slot}"), 1 + slot, USER, SESSION, kind, value
    )


def folded(*records: Record, start: UserState | None = None) -> UserState:
    state = start or newcomer(Profile(language="th"))
    for record in records:
        after = fold(state, record)
        assert after is not None
        state = after
    return state


def tally(state: UserState) -> dict[str, tuple[float, float]]:
    names, exposure, plays = tally_columns(state.languages, state.n_cards)
    return {name: (float(exposure[k]), float(plays[k])) for k, name in enumerate(names)}


def rates(state: UserState, own: tuple[str, ...] = OWN) -> LanguageRates:
    return LanguageRates.of(state.languages, state.n_cards, own)


def test_each_card_with_words_counts_for_its_language_and_each_play_once() -> None:
    state = folded(
        page("en", "", "th", "en"),
        said(0, "dwell", PLAY_S),
        said(0, "dwell", 2 * PLAY_S),
        said(1, "dwell", PLAY_S),
        said(2, "leave"),
        said(3, "dwell", 1.0),
    )
    of_en = 1.0 + TALLY_DECAY**3
    assert set(tally(state)) == {"en", "th"}
    assert tally(state)["en"] == pytest.approx((of_en, TALLY_DECAY**3))
    assert tally(state)["th"] == pytest.approx((TALLY_DECAY, 0.0))


def test_a_play_that_was_turned_away_is_taken_back() -> None:
    played = folded(page("en"), said(0, "dwell", PLAY_S))
    assert tally(played)["en"] == (1.0, 1.0)
    assert tally(folded(said(0, "not_interested"), start=played))["en"] == (1.0, 0.0)


def test_the_row_holds_all_of_it_and_a_row_or_record_of_before_has_none() -> None:
    delivered = page("en", "th")
    state = folded(delivered, said(0, "dwell", PLAY_S))
    assert decode_state(encode_state(state)) == state
    assert decode_record(encode_record(delivered)) == delivered

    n_before = UserState.__struct_fields__.index("languages")
    row = msgspec.msgpack.encode(
        [getattr(state, f) for f in UserState.__struct_fields__[:n_before]]
    )
    former = decode_state(row)
    assert former.languages == ()
    assert former == msgspec.structs.replace(state, languages=(), topic_answers=(), answers=b"")
    silent = msgspec.structs.replace(
        delivered,
        cards=tuple(msgspec.structs.replace(card, language="") for card in delivered.cards),
    )
    assert b"language" not in encode_record(silent)
    assert folded(silent, said(0, "dwell", PLAY_S)).languages == ()


@pytest.mark.parametrize(
    ("language", "expected"), [("en-GB", "en"), ("zxx", ""), ("und", ""), ("", "")]
)
def test_a_card_carries_its_language_without_region_and_none_without_words(
    language: str, expected: str
) -> None:
    catalogue, item = Catalogue(), Item(ItemId("a"), language=language)
    catalogue.apply(ItemRecord(item.item_id, 0, item, pack_halves(static_block(item))))
    assert catalogue.card(0).language == primary_language(language) == expected
    assert catalogue.codes.language("zxx") == -1


def test_the_prior_is_the_own_language_and_a_few_cards_overcome_it() -> None:
    fresh = rates(folded())
    assert (fresh.own, fresh.met, fresh.liked_share) == (OWN_RATE, {}, 0.0)

    state = folded(page("en"), said(0, "dwell", PLAY_S))
    once = (1.0 + LANGUAGE_CARDS * OTHER_RATE) / (1.0 + LANGUAGE_CARDS)
    assert rates(state).met["en"] == pytest.approx(once)
    assert rates(state).liked_share == pytest.approx(once / (once + OWN_RATE))

    for k in range(3):
        name = f"q{k}"
        cards = page(*["en"] * 5, *["th"] * 5, name=name)
        played = [said(slot, "dwell", PLAY_S, name) for slot in range(5)]
        left = [said(slot, "leave", 0.0, name) for slot in range(5, 10)]
        state = folded(cards, *played, *left, start=state)
    assert rates(state).liked_share > 0.85


def test_skipping_a_language_lets_go_of_it() -> None:
    state = folded(page("en"), said(0, "dwell", PLAY_S))
    cards = page(*["en"] * 10, name="q")
    state = folded(cards, *[said(k, "leave", 0.0, "q") for k in range(10)], start=state)
    assert rates(state).liked == {}
    assert rates(state).liked_share == 0.0


def test_without_a_known_language_all_begin_alike() -> None:
    state = folded(page("en", "es"), said(0, "dwell", PLAY_S), said(1, "leave"))
    found = rates(state, ())
    assert found.other == OWN_RATE
    assert found.met["en"] > OWN_RATE > found.met["es"]


def test_a_language_has_the_share_of_its_rate_beside_the_own_ones() -> None:
    items = {"own": "th-TH", "none": "zxx", "en": "en", "unmet": "vi"}
    catalogue = catalogue_with(**{name: {"language": code} for name, code in items.items()})
    fresh = folded()
    state = folded(page(*["en"] * 4), *[said(k, "dwell", PLAY_S) for k in range(4)], start=fresh)

    def shares(user: UserState, language: str) -> list[float]:
        query = feature_query(user, Scene(NOW_MS, "TH", language), catalogue, ItemStates())
        column = encode(query, np.arange(4)).actions[:, action_index(LANGUAGE_SHARE)]
        return [float(value) for value in column]

    unmet = OTHER_RATE / (OTHER_RATE + OWN_RATE)
    assert shares(fresh, "th") == pytest.approx([0.5, 0.5, unmet, unmet], abs=1e-3)
    rate = rates(state).met["en"]
    moved = [0.5, 0.5, rate / (rate + OWN_RATE), unmet]
    assert shares(state, "th") == pytest.approx(moved, abs=1e-3)
    assert moved[2] > 0.5
    assert shares(fresh, "") == [0.5] * 4
    assert shares(state, "")[2] > 0.5
