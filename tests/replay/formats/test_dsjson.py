"""dsjson: what comes in goes out the same, VW reads it alike, and what lies is refused by name."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from vowpal_wabbit_next import run_cli_driver

from replay.formats.dsjson_line import DanglingOutcome, DsjsonDecision, Label
from replay.formats.dsjson_source import MAX_DEPTH, MAX_LINE, DsjsonSource, read_dsjson
from replay.formats.dsjson_write import encode_line, write_dsjson
from replay.join.rows import CoverageCounts
from replay.source import BATCH_ROWS

SAMPLES = Path("../shared/data/vw")
NAMES = ("cb_simple_pdrop", "cb_test256", "decisionservice", "dsjson_cb")
LINE: Mapping[str, object] = {
    "_label_cost": -1.0,
    "_label_probability": 0.25,
    "_label_Action": 2,
    "_labelIndex": 1,
    "Version": "1",
    "EventId": "e1",
    "Timestamp": "2021-02-04T16:31:29.2460000Z",
    "a": [2, 1, 3],
    "p": [0.25, 0.5, 0.25],
    "c": {"U": {"hour": 3}, "_multi": [{"A": {"x": 1}}, {"A": {"x": 2}}, {"A": {"x": 3}}]},
}
LOSS = re.compile(r"number of examples = (\d+)[\s\S]*average loss = (\S+)[\s\S]*number = (\d+)")


def line(**changes: object) -> dict[str, object]:
    """Return the line with other members; None takes one away."""
    return {name: value for name, value in {**LINE, **changes}.items() if value is not None}


def file_of(folder: Path, *lines: Mapping[str, object] | str) -> Path:
    path = folder / "log.dsjson"
    texts = [text if isinstance(text, str) else json.dumps(text) for text in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def vw(path: Path, form: str = "--dsjson") -> tuple[str, ...]:
    """Return the number of examples, the average loss and the number of features as VW has them."""
    output, complaints = run_cli_driver([form, "--cb_explore_adf", "-d", str(path)], onethread=True)
    assert complaints == []
    found = LOSS.search(output)
    assert found is not None, output
    return found.groups()


def sample(name: str) -> Path:
    path = SAMPLES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there: Vowpal Wabbit's own dsjson logs")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_in_and_goes_out_comes_in_again_the_same(name: str, tmp_path: Path) -> None:
    decisions = list(read_dsjson(sample(name)))
    out = tmp_path / "out.dsjson"
    with out.open("wb") as file:
        assert write_dsjson(decisions, file) == len(decisions)
    assert list(read_dsjson(out)) == decisions


@pytest.mark.parametrize("name", NAMES)
def test_vw_has_the_same_average_loss_of_what_goes_out(name: str, tmp_path: Path) -> None:
    path, out = sample(name), tmp_path / "out.dsjson"
    with out.open("wb") as file:
        n = write_dsjson(read_dsjson(path), file)
    n_examples, loss, n_features = vw(out)
    assert (n_examples, loss, n_features) == vw(path, _form(path))
    assert int(n_examples) == n
    assert float(loss) != 0.0


def _form(path: Path) -> str:
    return "--dsjson" if b'"c":' in path.read_bytes() else "--json"


def test_a_line_is_a_decision_with_its_outcome(tmp_path: Path) -> None:
    (found,) = read_dsjson(file_of(tmp_path, line(pdrop=0.5, VWState={"m": "m1"})))
    assert isinstance(found, DsjsonDecision)
    assert (found.decision_id, found.n_actions, found.at_ms) == ("e1", 3, 1_612_456_289_246)
    assert found.ranking == (1, 0, 2)
    assert found.probability_of(0) == 0.5
    assert found.label == Label(action=1, probability=0.25, cost=-1.0)
    assert found.propensity == 0.25
    assert found.row_weight == 2.0
    assert json.loads(found.context) == LINE["c"]
    assert json.loads(found.rest["VWState"]) == {"m": "m1"}


def test_a_version_may_be_a_number(tmp_path: Path) -> None:
    (found,) = read_dsjson(file_of(tmp_path, line(Version=1)))
    assert isinstance(found, DsjsonDecision)


def test_a_propensity_that_was_thinned_by_pdrop_is_that_of_the_policy(tmp_path: Path) -> None:
    thinned = line(pdrop=0.8, _label_probability=0.05)
    (found,) = read_dsjson(file_of(tmp_path, thinned))
    assert isinstance(found, DsjsonDecision)
    assert found.propensity == 0.25
    assert encode_line(found).startswith(b'{"_label_cost":-1.0,"_label_probability":0.05,')


def test_a_feature_that_stands_twice_stays_two_features(tmp_path: Path) -> None:
    plain = (
        '{"s":"1","_labelIndex":0,"_label_Cost":1,"_label_Probability":.5,"s":"2","_multi":[{}]}'
    )
    (found,) = read_dsjson(file_of(tmp_path, plain.replace(":.5", ":0.5")))
    assert isinstance(found, DsjsonDecision)
    assert found.context == b'{"s":"1","s":"2","_multi":[{}]}'


def test_lines_without_a_label_or_a_decision_are_no_rows_and_are_counted(tmp_path: Path) -> None:
    unlabelled = line(
        _label_cost=None, _label_probability=None, _label_Action=None, _labelIndex=None
    )
    outcome = {"RewardValue": 1.0, "EventId": "e9"}
    path = file_of(tmp_path, line(), unlabelled, line(_skipLearn=True), outcome, "")
    lines = list(read_dsjson(path))
    assert [isinstance(each, DanglingOutcome) for each in lines] == [False, False, False, True]
    source = DsjsonSource(path)
    (batch,) = source.batches()
    assert len(batch) == 1
    assert source.coverage == CoverageCounts(drawn=3, seen=2, censored=1, unnamed=1, dangling=1)
    assert [encode_line(each) for each in lines[3:]] == [json.dumps(outcome).encode()]


def test_a_source_has_what_the_lines_say(tmp_path: Path) -> None:
    other = line(
        a=[1, 2],
        p=None,
        c={"_multi": [{}, {}]},
        _label_Action=1,
        _labelIndex=0,
        pdrop=0.75,
        user="u1",
        slot=3,
        policy="mine@1",
    )
    source = DsjsonSource(file_of(tmp_path, line(VWState={"m": "m1"}), other, other))
    (batch,) = source.batches()
    assert batch.reward.tolist() == [1.0, 1.0, 1.0]
    assert batch.propensity.tolist() == [0.25, 0.25, 0.25]
    assert batch.action.tolist() == [1, 0, 0]
    assert batch.mask.tolist() == [[True] * 3, [True, True, False], [True, True, False]]
    assert batch.row_weight is not None
    assert batch.row_weight.tolist() == [1.0, 4.0, 4.0]
    assert batch.pmf is not None
    np.testing.assert_array_equal(batch.pmf[:2], [[0.5, 0.25, 0.25], [np.nan] * 3])
    assert batch.user[1] == batch.user[2] != batch.user[0]
    assert batch.slot.tolist() == [0, 3, 3]
    assert batch.policy is not None
    assert batch.policy.tolist() == ["m1", "mine@1", "mine@1"]
    assert batch.segments["hour"].tolist() == ["16"] * 3
    assert source.coverage.unnamed == 1


def test_a_floor_is_what_the_line_says(tmp_path: Path) -> None:
    lines = line(eps=0.25, eligible=[0, 2]), line(eps=1), line()
    (batch,) = DsjsonSource(file_of(tmp_path, *lines)).batches()
    assert batch.eps is not None
    assert batch.eps.tolist() == [0.25, 1.0, 0.0]
    assert batch.eligible is not None
    assert batch.eligible.tolist() == [[True, False, True], [True] * 3, [True] * 3]


def test_users_without_a_name_and_with_one_never_share_a_code(tmp_path: Path) -> None:
    lines = [line(user=user) for user in ("ann", None, "bob", None, "ann", None)]
    source = DsjsonSource(file_of(tmp_path, *lines))
    (batch,) = source.batches()
    assert batch.user.tolist() == [0, 1, 2, 3, 0, 4]
    assert source.coverage.unnamed == 3


def test_a_long_log_comes_in_batches_and_each_line_without_a_user_is_one(tmp_path: Path) -> None:
    source = DsjsonSource(file_of(tmp_path, *[line()] * (BATCH_ROWS + 10)))
    batches = list(source.batches())
    assert [len(batch) for batch in batches] == [BATCH_ROWS, 10]
    users = np.concatenate([batch.user for batch in batches])
    assert sorted(users.tolist()) == list(range(BATCH_ROWS + 10))


DEEP = '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)
CHOICE = dict.fromkeys(("_label_Action", "_labelIndex"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            line(_label_probability=0.0),
            "field '_label_probability': expected a propensity in (0, 1], got 0",
        ),
        (
            line(_label_probability=1.25, p=None),
            "field '_label_probability': expected a propensity in (0, 1], got 1.25",
        ),
        (
            line(_label_probability=None),
            "field '_label_probability': expected a label with its cost and probability, got none",
        ),
        (
            line(_label_cost=None),
            "field '_label_cost': expected a label with its cost and probability, got none",
        ),
        (
            line(_label_probability=0.5),
            "field '_label_probability': expected 0.25 as p has it, got 0.5; was the pmf",
        ),
        (line(_label_cost=float("nan")), "field '_label_cost': expected a finite number, got NaN"),
        (
            line(_label_cost=float("-inf")),
            "field '_label_cost': expected a finite number, got -Infinity",
        ),
        (line(_label_cost="high"), "field '_label_cost': expected float, got str"),
        (
            line(p=[0.25, 0.5, 0.5]),
            "field 'p': expected probabilities that sum to 1, got 1.25",
        ),
        (
            line(p=[0.25, -0.5, 1.25]),
            "field 'p': expected probabilities in [0, 1], got [0.25,",
        ),
        (line(p=[0.25, 0.75]), "field 'p': expected 3 probabilities, got 2"),
        (
            line(_labelIndex=3, _label_Action=4),
            "field '_labelIndex': expected one of 3 candidates, got candidate 4",
        ),
        (
            line(_labelIndex=None, _label_Action=0),
            "field '_label_Action': expected one of 3 candidates, got candidate 0",
        ),
        (
            line(_label_Action=1),
            "field '_label_Action': expected 2, _labelIndex and 1, got 1",
        ),
        (line(**CHOICE), "field '_label_Action': expected one of 3 candidates, got candidate 0"),
        (
            line(a=[2, 2, 3]),
            "field 'a': expected each of the candidates 1 to 3 once, got",
        ),
        (line(a=None), "field 'a': expected the ranking of 3 candidates, got none"),
        (line(pdrop=1.0), "field 'pdrop': expected a probability in [0, 1), got 1"),
        (line(Version="2"), "field 'Version': expected version '1', got '2'"),
        (line(Version=2), "field 'Version': expected version '1', got '2'"),
        (line(slot=10**9), "field 'slot': expected a place from 0 to 999, got 1000000000"),
        (line(slot=-1), "field 'slot': expected a place from 0 to 999, got -1"),
        (line(eps=1.5), "field 'eps': expected a floor in [0, 1], got 1.5"),
        (line(eligible=[0, 3]), "field 'eligible': expected places from 0 to 2"),
        (line(eligible="all"), "field 'eligible': expected array, got str"),
        (
            line(c=None, a=None),
            "field 'c': expected the context of the decision that the label is of, got none",
        ),
        (
            line(Timestamp="yesterday"),
            "field 'Timestamp': expected a time as ISO 8601, got 'yesterday'",
        ),
        (line(c={"_multi": []}), "field '_multi': expected at least one candidate, got none"),
        (line(c={"_multi": 3}), "field 'c': expected array | null, got int"),
        (
            line(c={"_multi": [{}], "_slots": [{}, {}]}),
            "field '_slots': expected one choice a line, got decisions of several slots",
        ),
        (
            {"_outcomes": [], "c": {}},
            "field '_outcomes': expected one choice among candidates, got decisions of several",
        ),
        (
            line(_label_ca={}),
            "field '_label_ca': expected one choice among candidates, got an action on a continuum",
        ),
        ({"Version": "1"}, "field 'c': expected a decision with its context, or an outcome"),
        (
            json.dumps(LINE, indent=2),
            "expected a whole JSON object, but it goes on in the next line; dsjson has one decis",
        ),
        ("[1, 2]", "expected a JSON object, but Expected `object`, got `array`"),
        ('{"a": }', "expected a JSON object, but JSON is malformed"),
        ('{"c":{},,}', "expected a JSON object, but JSON is malformed"),
        ("not JSON", "expected a JSON object, but JSON is malformed"),
        ('{"c":"\xff"}', "field 'c': expected object, got str"),
        ('{"c":{"x":1e999}}', "expected a JSON object, but Number out of range"),
        (DEEP, f"expected at most {MAX_DEPTH} levels of objects and lists"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number_and_field(
    bad: Mapping[str, object] | str, message: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, line(), bad)
    place = f"{path}, line 2" + (", " if message.startswith("field") else ": ")
    with pytest.raises(ValueError, match=re.escape(place + message)):
        list(read_dsjson(path))


def test_a_line_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, line())
    path.write_bytes(path.read_bytes() + b'{"c":{"x":"\xff"}}\n')
    with pytest.raises(ValueError, match="line 2: expected UTF-8, got byte 0xff"):
        list(read_dsjson(path))


def test_a_file_that_was_cut_is_refused_and_says_so(tmp_path: Path) -> None:
    path = file_of(tmp_path, line(), line(), line())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="line 3: the file ends in the middle of this"):
        list(read_dsjson(path))


def test_a_last_line_without_its_break_is_whole(tmp_path: Path) -> None:
    path = file_of(tmp_path, line(), line())
    path.write_bytes(path.read_bytes()[:-1])
    assert len(list(read_dsjson(path))) == 2


def test_an_endless_line_is_refused_before_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    path.write_bytes(b'{"c":"' + b"x" * (MAX_LINE + 1))
    with pytest.raises(ValueError, match="line 1: expected at most 16,777,216 bytes"):
        list(read_dsjson(path))
