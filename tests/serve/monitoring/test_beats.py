"""Signs of life: what is no beat is left out, and what cannot be written harms nobody."""

import logging
from pathlib import Path

import msgspec
import pytest

from serve.monitoring.heartbeats import Beat, FeedHeartbeat, Heartbeats, LearnerHeartbeat


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", msgspec.msgpack.encode(FeedHeartbeat(1))[:-1], msgspec.msgpack.encode([1])],
)
def test_what_is_no_beat_is_left_out(tmp_path: Path, content: bytes) -> None:
    beats = Heartbeats(tmp_path)
    assert beats.read() == {}
    beats.write("learner-3", LearnerHeartbeat(1, 3, "learning"))
    for name in ("feed-0a", "notes.txt", ".feed-0b"):
        (tmp_path / "beats" / name).write_bytes(content)
    assert set(beats.read()) == {"learner-3"}


def test_a_beat_that_cannot_be_written_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats = Heartbeats(tmp_path / "data")
    beat: Beat = FeedHeartbeat(1)
    with caplog.at_level(logging.WARNING, logger="serve.monitoring.heartbeats"):
        for _ in range(3):
            beats.write("feed-0a", beat)
        assert len(caplog.messages) == 1
        (tmp_path / "data").mkdir()
        beats.write("feed-0a", beat)
        (tmp_path / "data" / "beats" / ".feed-0a").mkdir()
        beats.write("feed-0a", beat)
    assert len(caplog.messages) == 2
    assert beats.read() == {"feed-0a": beat}
