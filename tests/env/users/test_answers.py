"""The ring of a user's last answers, and the values of answers."""

import numpy as np
import pytest
from lines import feedback, page

from env.users import fold as user_fold
from env.users.answers import MAX_ANSWERS, put_answer, quantise_value, read_answers, value_of
from env.users.open_cards import OpenCard, hear
from env.users.state import UserState, decode_state, encode_state, newcomer
from env.vocabulary import CreatorId, Feedback, Profile


def card(duration_s: float = 30.0) -> OpenCard:
    return OpenCard(0, 7, b"", CreatorId("c"), (), duration_s)


@pytest.mark.parametrize("dwell_s", [0.0, 3.0, 10.0, 25.0])
@pytest.mark.parametrize("reactions", [(), ("like",), ("share", "follow"), ("not_interested",)])
def test_an_open_card_and_a_closed_interaction_have_the_same_value(
    dwell_s: float, reactions: tuple[str, ...]
) -> None:
    heard = hear(card(), "dwell", dwell_s, 0.3)
    for kind in reactions:
        heard = hear(heard, kind, 0.0, 0.3)
    said = Feedback(seen=True, left=True, dwell_s=dwell_s, **dict.fromkeys(reactions, True))  # type: ignore[arg-type]
    assert heard.value == value_of(said, 30.0)


def test_an_answer_is_kept_once_and_the_latest_stands_last() -> None:
    ring = put_answer(put_answer(put_answer(b"", 5, 1.0), 6, 0.0), 5, -2.0)
    keys, values = read_answers(ring)
    assert keys.tolist() == [6, 5]
    assert values.tolist() == [0.0, -2.0]


def test_the_ring_is_bounded_and_drops_the_oldest() -> None:
    ring = b""
    for key in range(3 * MAX_ANSWERS):
        ring = put_answer(ring, key, 0.5)
    assert read_answers(ring)[0].tolist() == list(range(2 * MAX_ANSWERS, 3 * MAX_ANSWERS))


def test_keys_that_only_match_across_two_rows_are_others() -> None:
    rng = np.random.default_rng(3)
    kept: dict[int, float] = {}
    ring = b""
    for key in (rng.integers(0, 3, 2_000) * 0x01010101).tolist():
        value = float(rng.integers(-4, 4))
        kept.pop(key, None)
        kept[key] = value
        ring = put_answer(ring, key, value)
    keys, values = read_answers(ring)
    assert dict(zip(keys.tolist(), values.tolist(), strict=True)) == kept


def test_values_are_kept_within_a_byte() -> None:
    assert [quantise_value(v) for v in (1.5, -2.0, 1e9, -1e9)] == [6, -8, 127, -127]


def folded(*kinds: str) -> UserState:
    state: UserState | None = newcomer(Profile())
    state = user_fold.fold(state, page())
    for k, kind in enumerate(kinds):
        record = feedback(f"e{k}")
        record = type(record)(
            **{f: getattr(record, f) for f in record.__struct_fields__} | {"kind": kind}
        )
        state = user_fold.fold(state, record)
    assert state is not None
    return state


def test_a_card_counts_as_answered_once_its_watching_is_known_and_later_feedback_corrects() -> None:
    assert folded("impression").answers == b""
    left = read_answers(folded("impression", "leave").answers)
    liked = read_answers(folded("impression", "leave", "like").answers)
    assert left[0].tolist() == liked[0].tolist()
    assert liked[1].tolist() == [left[1][0] + 1.0]


def test_a_state_with_answers_is_read_from_its_row_and_an_older_row_has_none() -> None:
    state = folded("impression", "leave")
    assert decode_state(encode_state(state)).answers == state.answers != b""
    assert newcomer(Profile()).answers == b""
