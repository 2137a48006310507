"""Log lines: time, level, component and message, of all processes in one place."""

import io
import logging
import multiprocessing
import re
from contextlib import redirect_stderr

import msgspec
import pytest

from serve.config import LogSettings
from serve.processes.logs import collecting, write_logs

logger = logging.getLogger("serve.learn.learner")


def _learn(settings: LogSettings) -> None:
    write_logs(settings, "learner")
    logger.info("in another process")
    logger.debug("not asked for")


def written(settings: LogSettings) -> list[str]:
    """Return the lines that two processes write."""
    out = io.StringIO()
    with redirect_stderr(out), collecting(settings):
        logger.warning("epoch=%d", 3)
        process = multiprocessing.get_context("spawn").Process(target=_learn, args=(settings,))
        process.start()
        process.join()
        try:
            int("broken")
        except ValueError:
            logger.exception("it failed")
    return out.getvalue().splitlines()


def test_a_line_has_time_level_component_and_message() -> None:
    first, second, third, *trace = written(LogSettings())
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(at + r" WARNING server  epoch=3", first)
    assert re.fullmatch(at + r" INFO    learner in another process", second)
    assert re.fullmatch(at + r" ERROR   server  it failed", third)
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1].startswith("ValueError: invalid literal")


def test_a_line_can_be_one_json_object() -> None:
    lines = [
        msgspec.json.decode(line, type=dict[str, str | int])
        for line in written(LogSettings(form="json"))
    ]
    assert [line["message"] for line in lines] == ["epoch=3", "in another process", "it failed"]
    assert [line["level"] for line in lines] == ["warning", "info", "error"]
    assert [line["component"] for line in lines] == ["server", "learner", "server"]
    assert {line["logger"] for line in lines} == {"serve.learn.learner"}
    assert "ValueError: invalid literal" in str(lines[2]["error"])


def test_the_least_level_is_kept_to_and_all_is_put_back() -> None:
    lines = written(LogSettings(level="error"))
    assert "it failed" in lines[0]
    package = logging.getLogger("serve")
    assert (package.handlers, package.propagate, package.level) == ([], True, logging.NOTSET)


def test_without_a_collector_lines_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_learn, args=(LogSettings(),))
    process.start()
    process.join()
    assert "INFO    learner in another process" in capfd.readouterr().err
