"""Arms with policies of one's own: refused at the start or served, counted, verified, followed."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest
from custom_policies import BROKEN, HEAD, MEANS, write, write_changed
from histories import config_of, make_history, make_learner
from servers import ask, measured, sample
from typer.testing import CliRunner

from env.records import PageRecord
from policies.custom.guarded import WORDS
from policies.custom.learning import part_name
from policies.explorers import Greedy, Softmax
from serve.commands.main import app
from serve.config import Arm, Config, Custom, Experiment, parse
from serve.errors import JobError
from serve.jobs.evaluate import open_evaluation
from serve.jobs.verify import verify_log
from serve.learn.custom import load_customs, require_lawful
from serve.learn.settings import open_snapshots
from serve.processes.replica import FeedReplica
from serve.store.open import open_store

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
GOOD = f"{HEAD}\n\ndef make():\n    return Mine()\n"


def config_for(folder: Path, policy: str = "mine:make", limit_ms: float = 60_000.0) -> Config:
    """Return settings whose second arm has a policy that lies in this folder."""
    arms = Experiment("own", (Arm("control", "uniform"), Arm("mine", policy)))
    custom = Custom(str(folder), limit_ms=limit_ms)
    return msgspec.structs.replace(config_of(folder / "data", arms), custom=custom)


def pages_of(config: Config, arm: str = "mine") -> list[PageRecord]:
    with open_store(config, lambda: 0) as store:
        records = [line.record for line in store.log.read(kinds=["page"])]
    return [r for r in records if isinstance(r, PageRecord) and r.arm == arm]


# --- at the start ---


@pytest.mark.parametrize("name", BROKEN)
def test_an_arm_with_a_broken_policy_is_refused_at_the_start(name: str, tmp_path: Path) -> None:
    change, _, _ = BROKEN[name]
    write_changed(tmp_path, change)
    with pytest.raises(JobError, match=r"^mine:make breaks the law '\w+': ") as refused:
        require_lawful(config_for(tmp_path, limit_ms=50.0))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("command", ["config check", "up --no-ray --config"])
def test_a_policy_that_cannot_be_imported_is_refused_in_one_line(
    command: str, tmp_path: Path
) -> None:
    write(tmp_path, "import no_such_library\n")
    settings = tmp_path / "mine.toml"
    data = f'[data]\nfolder = "{tmp_path / "data"}"\n'
    settings.write_text(f'{data}[experiment]\narms = [{{ name = "a", policy = "mine:make" }}]\n')
    result = runner.invoke(app, [*command.split(), str(settings)])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("nextswipe: mine:make: importing it raised ModuleNotFoundError")


def test_the_check_says_which_law_is_broken_and_how(tmp_path: Path) -> None:
    write_changed(tmp_path, BROKEN["sums to .9"][0])
    settings = tmp_path / "mine.toml"
    settings.write_text('[experiment]\narms = [{ name = "a", policy = "mine:make" }]\n')
    words = ["policy", "check", "mine:make", "--config", str(settings)]
    told = runner.invoke(app, words)
    assert told.exit_code == 1
    broken = [line for line in told.output.splitlines() if line.startswith("broken")]
    assert any("pmf" in line and "But expected a sum of 1, got 0.9" in line for line in broken)
    verdicts = msgspec.json.decode(runner.invoke(app, [*words, "--json"]).output)
    assert {v["law"] for v in verdicts if v.get("reason")} >= {"pmf"}


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (
            'policy = "uniform", explorer = { kind = "uniform" }',
            "explorer is for a policy of one's",
        ),
        ('policy = "mine:f", explorer = { kind = "greedy" }', "must give every candidate a prob"),
        (
            'policy = "mine:f", explorer = { kind = "softmax", temp = 1 }',
            "explorer.temp: unknown key",
        ),
        ('policy = "mine.py:f:g"', "or MODULE:FUNCTION, got 'mine.py:f:g'"),
    ],
)
def test_an_arm_that_contradicts_itself_is_refused(arm: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(f'[experiment]\narms = [{{ name = "a", {arm} }}]')
    with pytest.raises(ValueError, match="must give every candidate"):
        Arm("a", "mine:f", explorer=Greedy())


def test_an_explorer_for_a_factory_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    arms = Experiment("own", (Arm("mine", "mine:make", explorer=Softmax(0.1)),))
    config = msgspec.structs.replace(config_for(tmp_path), experiment=arms)
    with pytest.raises(JobError, match="arm mine: explorer is for a function from features"):
        load_customs(config)


# --- while it serves ---


@pytest.mark.parametrize("name", [name for name, (_, _, why) in BROKEN.items() if why])
def test_a_page_of_a_policy_that_fails_is_drawn_uniformly_counted_told_and_drawn_again(
    name: str, tmp_path: Path
) -> None:
    change, _, why = BROKEN[name]
    write_changed(tmp_path, change)
    config = config_for(tmp_path, limit_ms=50.0 if why == "slow" else 60_000.0)
    make_history(config, n_users=8, rounds=range(1), publish=False)

    pages = pages_of(config)
    assert pages
    assert {page.policy for page in pages} == {"uniform@0"}
    assert {page.degraded for page in pages} <= {*WORDS.values()}
    assert WORDS["slow" if why == "slow" else "raised"] in {page.degraded for page in pages}
    verified = verify_log(config)
    assert verified.is_clean
    assert verified.n_pages == 8


async def _asked(replica: FeedReplica) -> tuple[float, dict[str, int]]:
    for k in range(30):
        body = msgspec.json.encode({"user_id": f"p{k}", "size": 2})
        assert (await ask(replica.app, "POST", "/v1/feed", body)).status == 200
    replica._beat()
    counted = await measured(replica.app)
    ready = msgspec.json.decode((await ask(replica.app, "GET", "/readyz")).body)
    of = {"policy": "mine:make", "reason": "raised", "process": replica._metrics.process}
    return sample(counted, "nextswipe_custom_pages_replaced_total", **of), ready.get("replaced", {})


def test_pages_that_were_replaced_are_in_the_metrics_and_in_readiness(tmp_path: Path) -> None:
    write_changed(tmp_path, BROKEN["raises"][0])
    config = config_for(tmp_path)
    make_history(config, n_users=8, rounds=range(1), publish=False)
    replica = FeedReplica(config, now_ms=lambda: 1_800_000_900_000)
    try:
        n, told = asyncio.run(_asked(replica))
    finally:
        replica.close()
    assert n > 0
    assert told == {"mine:make": n}


# --- in the log ---


def test_pages_of_changed_code_are_named_and_are_no_mismatches(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    config = config_for(tmp_path)
    make_history(config, rounds=range(2))
    n_first = len(pages_of(config))
    first = load_customs(config).codes["mine:make"].code
    assert verify_log(config).other_code == {}

    write(tmp_path, f"{GOOD}# changed\n")
    make_history(config, rounds=range(2, 3))

    verified = verify_log(config)
    assert verified.is_clean
    assert verified.other_code == {f"mine:make with the code {first}": n_first}
    assert verified.n_pages == 3 * 16 - n_first
    settings = tmp_path / "mine.toml"
    settings.write_text(
        f'[data]\nfolder = "{tmp_path / "data"}"\n[clock]\nsimulated = true\n'
        "[feed]\ncandidates = 20\neps = 0.1\nexplorer = { kind = 'squarecb', gamma = 300.0 }\n"
        "[learner]\nbits = 12\nlearning_rate = 1.0\n"
        '[experiment]\nname = "own"\narms = [{ name = "control", policy = "uniform" },\n'
        '{ name = "mine", policy = "mine:make" }]\n'
    )
    told = runner.invoke(app, ["log", "verify", "--config", str(settings)])
    assert told.exit_code == 0, told.output
    assert f"{n_first} more pages were drawn by other code: mine:make with" in told.output


def test_a_page_of_a_forged_policy_is_found(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    config = config_for(tmp_path)
    make_history(config, rounds=range(1))
    (page, *_) = pages_of(config)
    drawn = (msgspec.structs.replace(page.drawn[0], propensity=0.5), *page.drawn[1:])
    forged = msgspec.structs.replace(page, page_id=type(page.page_id)("forged"), drawn=drawn)
    with open_store(config, lambda: 0) as store:
        store.log.append([forged], durable=True)
    assert not verify_log(config).is_clean


def test_a_log_makes_nobody_import_what_the_settings_do_not_name(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    config = config_for(tmp_path)
    make_history(config, rounds=range(1))
    write(tmp_path, "raise SystemExit('imported')", "evil")
    (page, *_) = pages_of(config)
    explorer = {**page.explorer, "policy": "evil:make"}
    forged = msgspec.structs.replace(
        page, page_id=type(page.page_id)("forged"), explorer=explorer, policy="evil:make@0"
    )
    with open_store(config, lambda: 0) as store:
        store.log.append([forged], durable=True)
    assert [n for name, n in verify_log(config).other_code.items() if "evil:make" in name] == [1]
    assert "evil" not in sys.modules


# --- what it learns ---


def test_a_policy_learns_from_the_stream_is_published_followed_and_verified(tmp_path: Path) -> None:
    write(tmp_path, MEANS)
    config = config_for(tmp_path, "mine:Means")
    make_history(config, rounds=range(4))

    names = {page.policy for page in pages_of(config)}
    assert {"mine:Means@0", "mine:Means@1", "mine:Means@3"} <= names
    verified = verify_log(config)
    assert verified.is_clean
    assert verified.n_pages == 64
    with open_evaluation(config, ["mine:Means", "mine:Means@2", "mine:Means@0"]) as question:
        assert [target.name for target in question.targets] == [
            "mine:Means@4",
            "mine:Means@2",
            "mine:Means@0",
        ]
        learned = [getattr(target, "learned_share") for target in question.targets]  # noqa: B009
        assert learned[0] > learned[1] > learned[2] == 0.0


def test_a_learner_that_is_started_anew_goes_on_with_what_was_learned(tmp_path: Path) -> None:
    write(tmp_path, MEANS)
    config = config_for(tmp_path, "mine:Means")
    make_history(config, rounds=range(3))
    part = part_name("mine:Means")
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        assert learner.learning.offset > 0
        newest = open_snapshots(config).versions()[-1]
        assert learner.learning.parts()[part] == open_snapshots(config).load_part(newest, part)


def test_changed_code_learns_from_the_start_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, MEANS)
    config = config_for(tmp_path, "mine:Means")
    make_history(config, rounds=range(3))
    n_before = len(pages_of(config))

    write(tmp_path, f"{MEANS}# changed\n")
    with open_store(config, lambda: 0) as store:
        assert make_learner(config, store).learning.offset == 0
    assert "folded under other arguments" in caplog.text
    make_history(config, rounds=range(3, 5))

    verified = verify_log(config)
    assert verified.is_clean
    assert sum(verified.other_code.values()) == n_before
    assert {page.policy for page in pages_of(config)[n_before:]} > {"mine:Means@0"}


def test_a_policy_that_cannot_be_saved_leaves_the_others_alone(tmp_path: Path) -> None:
    change = "    def dumps(self):\n        raise OSError('full')\n"
    write(tmp_path, f"{MEANS}\n\nclass Full(Means):\n{change}")
    config = config_for(tmp_path, "mine:Full")
    make_history(config, rounds=range(2))
    assert {page.policy for page in pages_of(config)} == {"mine:Full@0"}
    assert verify_log(config).is_clean
