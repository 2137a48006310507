"""What is polled is polled again, also when the store was away."""

import threading

import pytest

from serve.learn.follower import keep_polling
from serve.store.store import StoreUnavailable


def test_a_store_that_is_away_is_asked_again_and_what_is_kept_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, answers = threading.Event(), [StoreUnavailable("away"), None, StoreUnavailable("gone")]

    def poll() -> None:
        answer = answers.pop(0)
        if not answers:
            stop.set()
        if answer is not None:
            raise answer

    keep_polling(poll, stop, poll_s=0.0, kept=lambda: f"version={len(answers)}")
    assert caplog.messages == ["kept version=2: away", "kept version=0: gone"]


def test_what_is_not_the_store_s_ends_it() -> None:
    def poll() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        keep_polling(poll, threading.Event(), poll_s=0.0, kept=str)
