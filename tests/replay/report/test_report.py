"""The report: everything escaped, nothing to fetch, and words that say no more than the figures."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from logs import Batches, Fixed, draw_batch
from msgspec.structs import replace

from replay.evaluate.calibration import compare_arm_sizes
from replay.evaluate.evaluate import Evaluation, evaluate_all
from replay.evaluate.importance import FeatureImportance, Importance
from replay.evaluate.wholes import WholeValue
from replay.report.html import report_html
from replay.report.words import conclusions, moments, span, verdict

EVIL = "<script>alert('x')</script> & \"co\""
GREEDY, CAREFUL = Fixed((0.02, 0.03, 0.05, 0.3, 0.6), "late@1"), Fixed((0.2,) * 5, "even@0")
BACKWARDS = Fixed((0.6, 0.3, 0.05, 0.03, 0.02), "early@1")
VOID = {"meta", "line", "circle", "rect", "polyline"}


def evaluation(n: int = 4_000, *targets: Fixed, force: bool = False) -> Evaluation:
    """Return what a foreign log of two halves says of targets."""
    half = np.where(np.arange(n) % 2 == 0, EVIL, "b")
    source = Batches([draw_batch(n, segments={"half": half}, policy=np.full(n, EVIL))])
    arms = compare_arm_sizes({"a": 500, "b": 480}, {"a": 1.0, "b": 1.0})
    return evaluate_all(
        source, targets or (GREEDY, CAREFUL), segments=["half"], arms=arms, force=force
    )


class Reader(HTMLParser):
    """Checks that tags close in order, and gathers what is said and what is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.referred: list[str] = []
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.referred += [f"{name}={value}" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_what_came_from_outside_is_text_and_nothing_is_fetched() -> None:
    feature = FeatureImportance(EVIL, "item", 0.2, 0.1, 0.3)
    found = Importance((feature,), {EVIL: (feature,)})
    strange = Fixed(CAREFUL.pmf, EVIL)
    page = report_html(replace(evaluation(4_000, GREEDY, strange), importance=found))
    reader = read(page)
    assert "script" not in reader.tags
    assert {"html", "svg", "table"} <= reader.tags
    assert reader.referred == []
    assert "url(" not in page
    assert "://" not in page
    assert "<script" not in page.lower()
    assert EVIL in reader.said


def test_a_figure_of_the_report_is_that_of_the_evaluation() -> None:
    asked = evaluation()
    said = read(report_html(asked)).said
    for report in asked.reports:
        first = report.estimates[0]
        assert f"{first.value:.4f} [{first.low:.3f}, {first.high:.3f}]" in said
        assert f"{report.health.ess:,.0f} of 4,000" in said
        for estimate in report.estimates:
            assert estimate.estimator in said
    assert "500, expected 490" in said
    assert "by half" in said


def test_a_refused_policy_has_no_number_anywhere() -> None:
    asked = evaluation(400)
    page = report_html(asked)
    reader = read(page)
    assert "no number" in reader.said
    assert "What to do: take a longer log" in reader.said
    assert "All estimators" not in reader.said
    assert not re.search(r"a card \([+-]", reader.said)
    assert "Nothing about these policies" in conclusions(asked)[0][0]


def test_a_forced_number_is_marked_where_it_stands() -> None:
    said = read(report_html(evaluation(400, force=True))).said
    assert "Forced: the log did not pass its gates" in said
    assert "Nothing about these policies" in said


@pytest.mark.parametrize(
    ("target", "word"), [(GREEDY, "better"), (BACKWARDS, "worse"), (CAREFUL, "open")]
)
def test_the_verdict_is_by_the_gains_interval(target: Fixed, word: str) -> None:
    (report,) = evaluation(6_000, target).reports
    assert report.gain is not None
    assert verdict(report)[0] == word
    assert {"better": report.gain.low > 0.0, "worse": report.gain.high < 0.0}.get(word, True)


def test_what_a_policy_learned_from_is_held_against_it() -> None:
    asked = evaluation(6_000, GREEDY)
    learned = replace(asked, reports=(replace(asked.reports[0], learned_share=0.4),))
    word, sentence = verdict(learned.reports[0])
    assert word == "flattered"
    assert "learned from 40% of these decisions" in sentence
    assert "by dr" in sentence
    assert "Forced" not in sentence
    forced = replace(learned.reports[0], forced=True)
    assert "Forced: the log did not pass its gates" in verdict(forced)[1]
    can, cannot = conclusions(learned)
    assert "Nothing about these policies" in can[0]
    assert any("How good late@1 is" in sentence for sentence in cannot)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(5.0, 6.0, "better"), (0.1, 0.2, "worse"), (0.5, 6.0, "open")]
)
def test_whole_pages_decide_about_a_policy_that_the_value_of_a_card_flatters(
    low: float, high: float, word: str
) -> None:
    asked = evaluation()
    logged = replace(asked.logged, value=1.0, low=0.9, high=1.1)
    page = WholeValue(
        unit="page",
        estimator="dr-rl",
        value=(low + high) / 2,
        low=low,
        high=high,
        se=0.1,
        logged=logged,
        n=500,
        n_users=100,
        n_cards=5.0,
        ess=300.0,
        mean_weight=1.0,
        mean_weight_se=0.01,
        max_weight_share=0.01,
    )
    report = replace(asked.reports[0], card_flatters=True, leads_with="page", page_value=page)
    found, sentence = verdict(report)
    assert found == word
    assert "fills itself is worth" in sentence
    hidden = replace(report, leads_with="card", page_value=replace(page, value=None, low=None))
    assert verdict(hidden)[0] == "flattered"


def test_values_that_are_not_shown_are_said_to_be() -> None:
    hidden = replace(evaluation(6_000, GREEDY), hidden_values={"city": 7})
    assert any("Anything about 7 values of city" in each for each in conclusions(hidden)[1])


def test_what_speaks_against_the_log_is_among_what_cannot_be_concluded() -> None:
    asked = evaluation()
    _, cannot = conclusions(asked)
    assert not any("end was never reported" in sentence for sentence in cannot)
    assert not any("fills whole pages itself" in sentence for sentence in cannot)
    health = replace(asked.health, censored_share=0.2, calibration=None)
    reports = tuple(replace(report, card_flatters=True) for report in asked.reports)
    _, cannot = conclusions(replace(asked, health=health, reports=reports))
    assert any("of 20% of the seen cards the end was never reported" in s for s in cannot)
    assert any("fills whole pages itself" in s for s in cannot)
    assert any("too few draws to judge them by" in s for s in cannot)
    assert any("the best of 2 is as good as it looks" in s for s in cannot)
    leading = tuple(replace(report, leads_with="page") for report in reports)
    _, cannot = conclusions(replace(asked, reports=leading))
    assert not any("fills whole pages itself" in s for s in cannot)


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "said"),
    [
        (0, 0, ""),
        (1_700_000_000_000, 1_700_003_600_000, "2023-11-14 22:13 to 23:13 UTC"),
        (1_700_000_000_000, 1_700_100_000_000, "2023-11-14 to 2023-11-16"),
    ],
)
def test_a_span_is_in_days_or_in_hours(first_ms: int, last_ms: int, said: str) -> None:
    assert span(first_ms, last_ms) == said


def test_moments_of_a_long_log_are_days_and_those_of_a_short_one_times() -> None:
    start_ms, hour_ms = 1_700_000_000_000, 3_600_000
    assert moments([start_ms, start_ms + hour_ms]) == ["22:13", "23:13"]
    assert moments([start_ms, start_ms + 24 * 5 * hour_ms]) == ["11-14", "11-19"]


def test_a_policy_that_looks_at_no_feature_is_said_to() -> None:
    nothing = FeatureImportance("hour", "context", 0.0, 0.0, 0.0)
    found = Importance((nothing,), {"even@0": (nothing,)})
    said = read(report_html(replace(evaluation(), importance=found))).said
    assert "For even@0: how far its first card's distribution moves: by no feature." in said
