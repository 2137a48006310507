"""Logs of other systems are opened by their suffix and evaluated like ours."""

import json
from pathlib import Path

import numpy as np
import pytest

from replay.evaluate.evaluate import evaluate_all
from replay.formats.dsjson_source import DsjsonSource
from serve.errors import JobError
from serve.importers.obp import ObpSource
from serve.jobs.evaluate import external_log_target, open_external_log

N = 3_000


def write_dsjson_log(path: Path, *, pmf: bool = True) -> float:
    """Write a log in which the first of three candidates is worth .8; return what it earned."""
    rng = np.random.default_rng(5)
    lines, earned = [], 0.0
    for k in range(N):
        p = [0.2, 0.5, 0.3]
        action = int(rng.choice(3, p=p))
        reward = float(rng.random() < (0.8, 0.3, 0.1)[action])
        earned += reward
        order = [action, *(other for other in range(3) if other != action)]
        line = {
            "_label_cost": -reward,
            "_label_probability": p[action],
            "_label_Action": action + 1,
            "_labelIndex": action,
            "EventId": f"e{k}",
            "a": [each + 1 for each in order],
            "c": {"_multi": [{}, {}, {}]},
        }
        lines.append(line | ({"p": [p[each] for each in order]} if pmf else {}))
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return earned / N


def test_a_log_is_opened_by_its_suffix(tmp_path: Path) -> None:
    table = tmp_path / "log.csv"
    table.write_text("action,reward,pscore\n0,1,1\n")
    assert isinstance(open_external_log(table), ObpSource)
    write_dsjson_log(tmp_path / "log.DSJSON")
    assert isinstance(open_external_log(tmp_path / "log.DSJSON"), DsjsonSource)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"expected a log that ends in one of \.json, \.dsjson"):
        open_external_log(tmp_path)
    with pytest.raises(JobError, match="expected a log, found no such file"):
        open_external_log(tmp_path / "log.json")


def test_the_baseline_is_worth_what_its_candidate_is(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    earned = write_dsjson_log(path)
    first, logged = external_log_target("first"), external_log_target("behaviour")
    assert first is not None
    assert logged is not None
    evaluation = evaluate_all(open_external_log(path), [first, logged])
    of_first, of_logged = evaluation.reports
    for name in ("ips", "snips", "dr"):
        estimate = of_first.estimate(name)
        assert abs(estimate.value - 0.8) < 4.0 * estimate.se, name
    assert of_logged.estimate("ips").value == pytest.approx(earned)
    assert of_logged.health.max_weight == pytest.approx(1.0)


def test_a_log_without_distributions_cannot_be_asked_about_them(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    write_dsjson_log(path, pmf=False)
    logged = external_log_target("behaviour")
    assert logged is not None
    with pytest.raises(ValueError, match="expected a log with the whole distribution of every"):
        evaluate_all(open_external_log(path), [logged])


def test_other_names_are_for_others_to_find() -> None:
    assert external_log_target("uniform") is None
