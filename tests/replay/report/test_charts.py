"""The charts that the reports and the audit share: numbers in, one `<svg>` out."""

from xml.etree import ElementTree as ET

import pytest

from replay.report.charts import Curve, Stage, curves, stages


def drawn(svg: str) -> ET.Element:
    assert svg.count("<svg") == 1
    return ET.fromstring(svg)


def of(svg: str, kind: str) -> list[dict[str, str]]:
    return [each.attrib for each in drawn(svg).iter() if each.get("class") == kind]


def test_a_curve_runs_from_corner_to_corner_and_the_first_is_on_top() -> None:
    lines = [Curve("first", "note", (0.0, 0.25, 1.0)), Curve("<second>", "", (1.0, 0.0), "0")]
    svg = curves(lines, [(0.0, "0 h"), (1.0, "36 h")], (0.5, "half"), "A & B")
    (main,), (other,) = of(svg, "curve curve-main"), of(svg, "curve curve-0")
    assert main["points"] == "56.0,246.0 303.0,191.0 550.0,26.0"
    assert other["points"] == "56.0,26.0 550.0,246.0"
    assert svg.index("curve-0") < svg.index("curve-main")
    assert [line["x1"] for line in of(svg, "reference")] == ["303.0"]
    assert "&lt;second&gt;" in svg


@pytest.mark.parametrize("values", [(), (0.5,)])
def test_a_curve_of_too_few_values_is_drawn_as_what_there_is(values: tuple[float, ...]) -> None:
    assert len(of(curves([Curve("a", "", values)], [], None, "t"), "curve curve-main")) == 1


def test_a_bar_is_split_into_all_who_came() -> None:
    svg = stages([Stage("a", 10, 4, 1), Stage("b", 4, 0, 2)], "t")
    heights = {
        kind: [float(each["height"]) for each in of(svg, f"fill-{kind}")]
        for kind in ("main", "quiet", "bad")
    }
    assert heights == {"main": [60.0, 0.0, 30.0], "quiet": [75.0], "bad": [15.0, 30.0]}
    assert [float(each["height"]) for each in of(svg, "band")] == [60.0], "who went on"


def test_stages_to_which_nobody_came_are_empty() -> None:
    assert {
        float(each["height"]) for each in of(stages([Stage("a", 0, 0, 0)], "t"), "fill-bad")
    } == {0.0}
