"""A log of hundreds of versions of which five are kept: nothing of it loses its probabilities."""

import json
from collections.abc import Iterable
from fcntl import LOCK_EX, LOCK_NB
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hours import N_KEPT, fill, small_config, swipe_windows
from redises import new_name, shared_url
from typer.testing import CliRunner

from env.pages.records import Blocks
from env.records import LogLine, PageRecord
from env.vocabulary import UserKey
from policies.bandit.cross_fitted import CrossFittedPolicy, fold_of
from policies.bandit.scorer import HybridBanditScorer
from policies.explorers import SquareCB
from policies.snapshots import _held
from replay.join.page_batches import drawn_from
from serve.commands.main import app
from serve.config import Config, StoreSettings
from serve.errors import JobError
from serve.jobs.evaluate import open_evaluation, open_external_evaluation, pin_versions
from serve.jobs.export import export_dsjson, export_obp, export_parquet
from serve.jobs.policies import bandit_version, behaviour, find_policy, leave_out_users
from serve.learn.fold import LearnerState
from serve.learn.settings import learning_args, open_snapshots
from serve.store.data_folder import open_data
from serve.store.generations import all_versions

N_WINDOWS = 320
runner = CliRunner()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = str(tmp_path_factory.mktemp("gone") / "data")
    store = StoreSettings(url=shared_url(), name=new_name(), shards=3)
    made = small_config(folder, store if request.param == "redis" else None)
    fill(made)
    swipe_windows(made, N_WINDOWS, present=45)
    return made


def test_hundreds_of_versions_drew_and_five_are_kept(config: Config) -> None:
    with open_data(config) as store:
        drew = {page.policy for page in _pages(store.log.read(kinds=["page"]))}
        assert len(all_versions(store)) > 200
    assert len(drew) > 100
    assert len(open_snapshots(config).versions()) <= N_KEPT + 1  # and the newest to resume from


def test_an_export_as_dsjson_has_every_distribution(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "log.dsjson"
    n = export_dsjson(config, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert n == len(lines) > 500
    for line in lines:
        assert len(line["p"]) == len(line["a"])
        assert line["p"][0] == line["_label_probability"]
        assert sum(line["p"]) == pytest.approx(1.0)


def test_an_export_as_parquet_has_every_distribution(config: Config, tmp_path: Path) -> None:
    n = export_parquet(config, tmp_path / "decisions")
    decisions = pq.read_table(tmp_path / "decisions" / "decisions.parquet").to_pydict()
    drawn_by = pq.read_table(tmp_path / "decisions" / "probabilities.parquet").to_pydict()
    assert n == len(drawn_by["pmf"]) > 500
    assert drawn_by["decision_id"] == decisions["decision_id"]
    rows = zip(drawn_by["pmf"], decisions["action"], strict=True)
    assert [pmf[action] for pmf, action in rows] == decisions["propensity"]


def test_an_export_for_obp_has_every_propensity(config: Config, tmp_path: Path) -> None:
    n = export_obp(config, tmp_path / "log.npz")
    assert np.load(tmp_path / "log.npz")["pscore"].shape == (n,)


def test_the_behaviour_of_such_an_export_earns_what_was_logged(
    config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "log.dsjson"
    export_dsjson(config, file)
    with open_external_evaluation(file, ["behaviour"]) as job:
        report = job.answer(force=True).reports[0]
    assert report.health.ess == pytest.approx(report.health.n)
    assert report.estimate("ips").value == pytest.approx(report.logged.value)


def test_pages_are_asked_for_in_any_order(config: Config) -> None:
    with open_data(config) as store:
        find, blocks, pages = behaviour(config, store), Blocks(), []
        for line in store.log.read():
            blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                pages.append(line.record)
        for record in [*pages[40:60], *pages[10:20], pages[-1], pages[0]]:
            page = blocks.page(record)
            pmfs = drawn_from(page, find(record))
            chosen = [pmf[d.action] for pmf, d in zip(pmfs, page.decisions, strict=True)]
            assert chosen == [decision.propensity for decision in page.decisions]


def test_versions_of_other_arguments_have_no_distributions_rather_than_wrong_ones(
    config: Config, tmp_path: Path
) -> None:
    learner = msgspec.structs.replace(config.learner, learning_rate=2.0)
    other = msgspec.structs.replace(config, learner=learner)
    export_dsjson(other, tmp_path / "log.dsjson")
    lines = [json.loads(line) for line in (tmp_path / "log.dsjson").read_text().splitlines()]
    known = [line for line in lines if "p" in line]
    assert 0 < len(known) < len(lines)  # those of version 0 and of the versions that are kept
    assert all(line["p"][0] == line["_label_probability"] for line in known)
    with open_evaluation(other, ["uniform"]) as job:
        report = job.answer(force=True).reports[0]
    assert "logged propensities" not in [refusal.gate for refusal in report.refusals]


def test_a_version_that_is_gone_is_evaluated(config: Config) -> None:
    gone = 7
    assert gone not in open_snapshots(config).versions()
    with open_data(config) as store:
        policy = find_policy(config, store, f"vowpal@{gone}")
        assert isinstance(policy, HybridBanditScorer)
        learning = LearnerState(learning_args(config))
        offset = next(each.offset for each in all_versions(store) if each.version == gone)
        learning.fold([line for line in store.log.read() if line.offset <= offset])
        assert policy.to_bytes() == learning.policy.frozen(gone).to_bytes()
        with pytest.raises(JobError, match="expected a version that was published"):
            find_policy(config, store, "vowpal@99999")


def test_a_version_of_a_while_ago_is_named_by_the_time(config: Config) -> None:
    with open_data(config) as store:
        names = [find_policy(config, store, f"vowpal@{minutes}m").name for minutes in (0, 2)]
        now, before = (bandit_version(name) or 0 for name in names)
        pages = list(_pages(store.log.read(kinds=["page"])))
        last_ms = max(page.at_ms for page in pages)
        drawn = [page for page in pages if page.at_ms <= last_ms - 120_000]
        assert before == max(bandit_version(page.policy) or 0 for page in drawn)
        assert now > before
        with pytest.raises(JobError, match="found none"):
            find_policy(config, store, "vowpal@9d")


def test_users_are_judged_by_what_a_version_would_be_without_them(config: Config) -> None:
    with open_data(config) as store:
        policy = find_policy(config, store, "vowpal")
        cross_fitted = leave_out_users(config, store, policy)
        assert isinstance(cross_fitted, CrossFittedPolicy)
        assert cross_fitted.name == policy.name
        assert leave_out_users(config, store, find_policy(config, store, "uniform")) is None
        blocks, moved = Blocks(), 0
        for line in store.log.read():
            blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                context = blocks.page(line.record).context
                moved += bool(np.any(cross_fitted.score(context) != policy.score(context)))
        assert moved > 50
    with open_evaluation(config, ["vowpal"]) as job:
        report = job.answer(force=True).reports[0]
        assert (report.learned_share, report.left_out_folds) == (0.0, 5)
    with open_evaluation(config, ["vowpal"], as_learned=True) as job:
        report = job.answer(force=True).reports[0]
        assert report.learned_share > 0.9
        assert report.left_out_folds == 0


def test_folds_are_of_users_and_about_equal() -> None:
    folds = np.bincount([fold_of(UserKey(f"user {k}"), 5) for k in range(5_000)])
    assert folds.sum() == 5_000
    assert np.abs(folds - 1_000).max() < 4 * np.sqrt(5_000 * 0.2 * 0.8)


def test_versions_that_are_asked_about_are_pinned(config: Config) -> None:
    kept = open_snapshots(config).versions()[0]
    with open_evaluation(config, [f"vowpal@{kept}", "vowpal@7", "uniform"]) as job:
        held = open_snapshots(config)._home(kept)
        with pytest.raises(BlockingIOError), _held([held], LOCK_EX | LOCK_NB):
            pytest.fail("nothing deletes a version that is asked about")
        assert pin_versions(config, job) == (kept,)
    assert [(pin.version, pin.why) for pin in open_snapshots(config).pins()] == [(kept, "evaluate")]
    assert open_snapshots(config).unpin(kept)


def test_a_plan_is_told_in_words_and_as_json(config: Config, tmp_path: Path) -> None:
    settings = tmp_path / "nextswipe.toml"
    settings.write_text(_as_file(config))
    words = ["evaluate", "uniform", "--plan", "--config", str(settings)]
    told = runner.invoke(app, words)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("uniform@0: ")
    as_json = runner.invoke(app, [*words, "--width", "0.001", "--json"])
    (plan,) = json.loads(as_json.output)
    assert (plan["never"], plan["width"]) == ([], 0.001)
    assert plan["more_swipes"] > 1_000
    assert plan["days"] == pytest.approx(plan["more_swipes"] / plan["per_day"], rel=0.2)
    wrong = runner.invoke(app, ["evaluate", "--width", "0.1", "--config", str(settings)])
    assert wrong.exit_code != 0


def _as_file(config: Config) -> str:
    learner, store = config.learner, config.store
    return f"""
data.folder = "{config.data.folder}"
clock.simulated = true
store = {{ url = "{store.url}", name = "{store.name}", shards = {store.shards} }}
learner = {{ bits = {learner.bits}, snapshots_kept = {learner.snapshots_kept} }}
"""


def _pages(lines: Iterable[LogLine]) -> list[PageRecord]:
    return [line.record for line in lines if isinstance(line.record, PageRecord)]


def test_an_explorer_changes_nothing_else(config: Config) -> None:
    with open_data(config) as store:
        policy = find_policy(config, store, "vowpal")
    assert isinstance(policy, HybridBanditScorer)
    other = policy.exploring(SquareCB(gamma=7.0))
    assert other.explorer == {"kind": "squarecb", "gamma": 7.0}
    assert (other.name, other.to_bytes()) == (policy.name, policy.to_bytes())
