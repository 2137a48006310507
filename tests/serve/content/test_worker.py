"""A hook in its process: whatever it does, each item has an answer."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Timer

import pytest
from hooks import answer_to, asked, hook_args, hook_settings, with_media, write_hook
from waiting import wait_until

from env.vocabulary import Item, ItemId
from serve.config import Config
from serve.content.hook import Embedded, HookError, needs_embedding
from serve.content.worker import HookStopped, HookWorker, require_hook
from serve.errors import JobError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_hook(tmp_path)
    return tmp_path


def test_it_answers_in_order_in_the_media_folder(folder: Path) -> None:
    with HookWorker(hook_args(folder)) as worker:
        answers = worker.embed([with_media("a.jpg"), with_media("none"), with_media("ab.jpg")])
        assert answers == [Embedded(answer_to("a.jpg")), Embedded(), Embedded(answer_to("ab.jpg"))]
        assert worker.embed([]) == []
    assert asked(folder) == ["a.jpg", "none", "ab.jpg"]


@pytest.mark.parametrize(
    ("media", "problem"),
    [
        ("raise", "raised RuntimeError: cannot be decoded"),
        ("exit", "ended its process with the exit code 7"),
        ("text", "expected a vector of numbers or None, got ValueError"),
        ("nan", "expected a finite vector of a length <= 1e+06"),
        ("matrix", r"expected 1 to 4096 numbers, got an array of shape (1, 2)"),
    ],
)
def test_an_item_that_fails_has_a_problem_and_the_others_their_vectors(
    media: str, problem: str, folder: Path
) -> None:
    with HookWorker(hook_args(folder)) as worker:
        first, bad, last = worker.embed([with_media(name) for name in ("a", media, "bc")])
        assert worker.embed([with_media("after")]) == [Embedded(answer_to("after"))]
    assert [first, last] == [Embedded(answer_to("a")), Embedded(answer_to("bc"))]
    assert bad.vector is None
    assert bad.problem.startswith(problem)


def test_too_few_answers_are_a_problem_of_each_item(folder: Path) -> None:
    with HookWorker(hook_args(folder, "hooks:too_few")) as worker:
        answers = worker.embed([with_media("a"), with_media("b")])
    assert answers == [Embedded(problem="expected a sequence of 1 answers, got 0")] * 2


def test_an_item_that_takes_too_long_is_given_up(folder: Path) -> None:
    with HookWorker(hook_args(folder), limit_s=3.0) as worker:
        assert worker.embed([with_media("hang")]) == [Embedded(problem="took longer than 3 s")]
        assert worker.embed([with_media("a")]) == [Embedded(answer_to("a"))]


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("absent:embed", "", "importing it raised ModuleNotFoundError: No module named 'absent'"),
        ("hooks:embed", "import absent_library", "importing it raised ModuleNotFoundError"),
        ("hooks:embed", "raise SystemExit(3)", "importing it raised SystemExit: 3"),
        ("hooks:embed", "import os; os._exit(5)", "loading it ended its process with the exit"),
        ("hooks:embed", "x = 1", "has no function embed"),
        ("hooks:embed", "embed = 1", "has no function embed"),
    ],
)
def test_a_hook_that_cannot_be_loaded_is_refused_in_one_line(
    name: str, source: str, problem: str, tmp_path: Path
) -> None:
    write_hook(tmp_path, source)
    with HookWorker(hook_args(tmp_path, name)) as worker, pytest.raises(HookError) as told:
        worker.start()
    assert problem in str(told.value)
    assert str(told.value).startswith(f"{name}: ")
    assert "\n" not in str(told.value)
    content, custom = hook_settings(tmp_path, name)
    with pytest.raises(JobError, match=f"content.embed: {name}: "):
        require_hook(Config(content=content, custom=custom))


def test_a_missing_media_folder_is_refused(folder: Path) -> None:
    (folder / "media").rmdir()
    content, custom = hook_settings(folder)
    with pytest.raises(
        JobError, match=r"content\.embed: hooks:embed: there is no media folder .*/media"
    ):
        require_hook(Config(content=content, custom=custom))


def test_its_owner_may_stop_in_the_middle_of_a_call(folder: Path) -> None:
    stop = Event()
    with HookWorker(hook_args(folder), stop=stop) as worker:
        worker.start()
        Timer(0.1, stop.set).start()
        with pytest.raises(HookStopped):
            worker.embed([with_media("hang")])


def test_it_ends_with_an_owner_that_is_killed_in_the_middle_of_a_call(folder: Path) -> None:
    folders = f"{str(folder)!r}, {str(folder / 'media')!r}"
    program = (
        "from serve.content.hook import HookArgs; from env.vocabulary import Item\n"
        "from serve.content.worker import HookWorker\n"
        f"worker = HookWorker(HookArgs('hooks:embed', {folders}))\n"
        "worker.start(); print(worker._process.pid, flush=True)\n"
        "worker.embed([Item('hang', media='hang')])\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    wait_until(lambda: asked(folder) == ["hang"])
    owner.kill()
    owner.communicate()
    wait_until(lambda: _is_gone(pid))


def _is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    ("item", "is_needed"),
    [
        (with_media("a"), True),
        (Item(ItemId("a")), False),
        (Item(ItemId("a"), media="a", vector=(1.0,)), False),
        (Item(ItemId("a"), media="a", vector=(1.0,), embedder="hooks:embed"), False),
        (Item(ItemId("a"), media="a", embedder="hooks:embed"), False),
        (Item(ItemId("a"), media="a", vector=(1.0,), embedder="hooks:other"), True),
        (Item(ItemId("a"), media="a", embedder="hooks:other"), True),
    ],
)
def test_it_is_asked_once_about_media_without_a_vector(item: Item, is_needed: bool) -> None:
    assert needs_embedding(item, "hooks:embed") is is_needed
