"""The window of answers: a bounded fold that can be cut anywhere."""

import msgspec
import numpy as np
import pytest
from builders import interaction
from hypothesis import given, settings
from hypothesis import strategies as st

from env.records import item_key
from env.vocabulary import Feedback, Interaction, UserKey
from policies.collaborative.answers import AnswerWindow

PLAYED = Feedback(seen=True, left=True, dwell_s=25.0)
SKIPPED = Feedback(seen=True, left=True, dwell_s=1.0)


def answered(user: str, item: str, feedback: Feedback = PLAYED) -> Interaction:
    return msgspec.structs.replace(
        interaction(item, feedback), user=UserKey(user), item_key=item_key(item)
    )


def window_of(*interactions: Interaction, size: int = 100) -> AnswerWindow:
    window = AnswerWindow(size)
    window.fold(interactions)
    return window


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60),
    size=st.integers(1, 30),
    cut=st.integers(0, 60),
)
def test_wherever_the_fold_is_cut_and_restored_the_bytes_are_the_same(
    pairs: list[tuple[int, int]], size: int, cut: int
) -> None:
    log = [answered(f"u{u}", f"i{i}", (PLAYED, SKIPPED)[(u + i) % 2]) for u, i in pairs]
    through = window_of(*log, size=size)
    resumed = AnswerWindow.from_bytes(window_of(*log[:cut], size=size).to_bytes(), size)
    resumed.fold(log[cut:])
    assert resumed.to_bytes() == through.to_bytes()
    assert len(through) == min(len(log), size)


def test_the_last_answer_of_a_user_to_an_item_counts() -> None:
    answers = window_of(
        answered("u", "a"), answered("u", "b"), answered("u", "a", SKIPPED)
    ).answers(10)
    by_key = dict(zip(answers.keys[answers.items].tolist(), answers.values.tolist(), strict=True))
    assert by_key == {item_key("a"): 0.0, item_key("b"): 1.0}


def test_of_each_user_the_latest_answers_are_taken() -> None:
    log = [answered(user, f"i{k}") for k in range(6) for user in ("u", "v")]
    answers = window_of(*log, answered("w", "i0")).answers(2)
    assert np.bincount(answers.users).tolist() in ([2, 2, 1], [2, 1, 2], [1, 2, 2])
    assert set(answers.keys.tolist()) == {item_key(name) for name in ("i0", "i4", "i5")}


def test_what_is_older_than_the_window_is_forgotten() -> None:
    answers = window_of(*(answered("u", f"i{k}") for k in range(9)), size=4).answers(100)
    assert set(answers.keys.tolist()) == {item_key(f"i{k}") for k in range(5, 9)}


def test_a_copy_does_not_move() -> None:
    window = window_of(answered("u", "a"))
    copy, before = window.copy(), window.to_bytes()
    window.fold([answered("u", "b")])
    assert copy.to_bytes() == before != window.to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no window of answers"),
        (b"\x01\x02", "no window of answers"),
        (AnswerWindow(7).to_bytes(), "expected a window of 8 answers"),
        (window_of(answered("u", "a"), size=8).to_bytes()[:-2], "no window of answers"),
    ],
)
def test_bytes_that_are_no_such_window_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerWindow.from_bytes(data, 8)


def test_a_window_holds_at_least_one_answer() -> None:
    with pytest.raises(ValueError, match="at least 1 answer"):
        AnswerWindow(0)
