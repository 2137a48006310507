"""The HTML report of an evaluation.

It answers in a reader's order: the result, its reliability, and its limits.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape

from replay.estimators.intervals import Estimate
from replay.evaluate.evaluate import Evaluation, PolicyReport
from replay.evaluate.health import LogHealth
from replay.evaluate.importance import FeatureImportance, Importance
from replay.evaluate.segments import SegmentReport
from replay.report.charts import Bar, course, intervals, pairs, ratios
from replay.report.page import bullets, figure, page, section
from replay.report.words import conclusions, moments, refused, span, users_words, verdict

N_FEATURES = 12
NOTHING = 1e-9
"""Largest importance that is treated as 0, to allow for rounding."""

_WORDS = {
    "better": "better",
    "worse": "worse",
    "open": "open",
    "flattered": "flattered",
    "refused": "no number",
}


def report_html(evaluation: Evaluation) -> str:
    """Return the report as one HTML page."""
    importance = evaluation.importance
    sections = [
        _header(evaluation),
        _answer(evaluation),
        _conclusions(evaluation),
        *(_policy(report, evaluation.default) for report in evaluation.reports),
        _log(evaluation),
        *([] if importance is None else [_importance(importance)]),
        "<footer>Written by nextswipe. Intervals are clustered by user.</footer>",
    ]
    return page("Counterfactual evaluation", "".join(sections))


def _header(evaluation: Evaluation) -> str:
    logged, health = evaluation.logged, evaluation.health
    made_by = evaluation.reports[0].logged_policies
    facts = [
        f"{logged.n:,} decisions of {users_words(logged.n_users, health)}",
        span(health.first_ms, health.last_ms),
        f"made by {_families(made_by)}" if made_by else "",
        f"logged reward {logged.value:.4f} a card",
    ]
    said = " · ".join(escape(fact) for fact in facts if fact)
    return f"<header><h1>What would other policies have earned?</h1><p>{said}</p></header>"


def _families(policies: Sequence[str]) -> str:
    """Return policy names without versions, with the number of versions of each."""
    counts = Counter(policy.partition("@")[0] for policy in policies)
    return ", ".join(f"{name} ({n} versions)" if n > 1 else name for name, n in counts.items())


def _answer(evaluation: Evaluation) -> str:
    cards = []
    for report in evaluation.reports:
        word, sentence = verdict(report)
        cards.append(
            f'<li class="{word}"><b>{_WORDS[word]}</b><span>{escape(sentence)}</span></li>'
        )
    rows = [_bar("logged", evaluation.logged, "logged")]
    rows += [_first_bar(report) for report in evaluation.reports]
    title = f"Reward a card by {evaluation.default}, with {evaluation.level:.0%} intervals"
    return section(
        "The answer",
        f'<ul class="verdicts">{"".join(cards)}</ul>',
        figure(intervals(rows, evaluation.logged.value, title), title),
    )


def _conclusions(evaluation: Evaluation) -> str:
    can, cannot = conclusions(evaluation)
    return section(
        "What can be concluded, and what cannot",
        f'<div class="columns"><div><h3>Can</h3>{bullets(can)}</div>'
        f"<div><h3>Cannot</h3>{bullets(cannot)}</div></div>",
    )


def _policy(report: PolicyReport, default: str) -> str:
    health = report.health
    parts = [bullets(refused(refusal) for refusal in report.refusals)] if report.refusals else []
    if report.estimates:
        title = f"All estimators; {default} is the one that was chosen beforehand"
        bars = [_bar("logged", report.logged, "logged")]
        for place, estimate in enumerate(report.estimates):
            kind = "forced" if report.forced else "plain" if place else "main"
            bars.append(_bar(estimate.estimator, estimate, kind))
        parts.append(figure(intervals(bars, report.logged.value, title), title))
    shape = health.shape
    labels = [f"{edge:g}+" for edge in shape.edges]
    last = max(i for i, share in enumerate(shape.decisions) if share > 0.0) + 1
    overlap = pairs(labels[:last], shape.decisions[:last], shape.weight[:last], "Overlap")
    caption = (
        "Overlap: how often the policy would have done what was logged, against the log. Grey: "
        "share of the decisions at a weight; colour: share of the weight that they carry. A few "
        "bars of colour far to the right mean that few decisions decide."
    )
    parts += [figure(overlap, caption), _weights(report)]
    if report.parts:
        parts += [_parts(name, report) for name in dict.fromkeys(p.segment for p in report.parts)]
    return section(report.policy, *parts)


def _weights(report: PolicyReport) -> str:
    health = report.health
    rows = [
        ("Effective sample size", f"{health.ess:,.0f} of {health.n:,} ({health.ess_share:.1%})"),
        (
            "Mean weight",
            f"{health.mean_weight:.3f} ± {health.mean_weight_se:.3f} (1 if all is well)",
        ),
        ("Largest weight", f"{health.max_weight:,.1f} ({health.max_weight_share:.2%} of all)"),
        ("Person with the most weight", f"{health.max_user_share:.2%} of all"),
        ("Smallest propensity", f"{health.min_propensity:.3g}"),
        (
            "Rewards that are not the commonest",
            f"{health.n_rewards:,} (effective: {health.effective_rewards:,.1f})",
        ),
    ]
    if health.unsupported_share is not None:
        rows += [
            ("Where the log gave no chance", f"{health.unsupported_share:.2%} of the policy"),
            ("Largest weight that could have come", f"{health.largest_possible_weight or 0:,.1f}"),
        ]
    return _table(rows)


def _parts(segment: str, report: PolicyReport) -> str:
    parts = [part for part in report.parts if part.segment == segment]
    title = f"Gain over what was logged (dr), by {segment}"
    return figure(intervals([_part_bar(part) for part in parts], 0.0, title), title)


def _log(evaluation: Evaluation) -> str:
    health, drift = evaluation.health, evaluation.reports[0].health.drift
    parts = [_calibration(health)]
    if drift is not None:
        labels = moments([period.first_ms for period in drift.periods])
        caption = (
            "Logged reward in time, in tenths of the log, with 95% intervals; that it is the same "
            f"all the time: p = {drift.p_value:.2g}"
        )
        values, errors = [p.reward for p in drift.periods], [p.se for p in drift.periods]
        parts.append(figure(course(labels, values, errors, "Reward in time"), caption))
    rows = [
        ("Pages", f"{health.n_pages:,}"),
        ("Drawn decisions that were seen", f"{health.seen_share:.1%}"),
        ("Seen decisions whose end is not known", f"{health.censored_share:.1%}"),
    ]
    if health.n_dangling:
        rows.append(("Outcomes whose decision is not there", f"{health.n_dangling:,}"))
    if health.arms is not None:
        for name, n in health.arms.users.items():
            rows.append(
                (f"Users of arm {name}", f"{n:,}, expected {health.arms.expected[name]:,.0f}")
            )
        rows.append(("That the arms have their shares", f"p = {health.arms.p_value:.2g}"))
    return section("The log", *parts, _table(rows))


def _calibration(health: LogHealth) -> str:
    judged = health.calibration
    if judged is None:
        return "<p>The logged propensities could not be judged: too few draws to do it by.</p>"
    by_cell = judged.method == "pit"
    half = 1.96 * (len(judged.observed) / judged.n) ** 0.5 if by_cell else None
    what = (
        "Where in its distribution each draw fell, against where it should (1 everywhere; the "
        "band is what chance explains)"
        if by_cell
        else "Weight of the exploration floor in the quarters of the candidate list (1 everywhere)"
    )
    caption = (
        f"Calibration of the logged propensities. {what}: p = {judged.p_value:.2g} over "
        f"{judged.n:,} draws"
    )
    return figure(ratios(judged.observed, half, "Calibration"), caption)


def _importance(importance: Importance) -> str:
    title = "For the reward: growth of the squared error without it, in variances of the reward"
    figures = [_features(importance.reward, title)]
    for policy, features in importance.policies.items():
        figures.append(
            _features(features, f"For {policy}: how far its first card's distribution moves")
        )
    return section("Which features matter", *figures)


def _features(features: Sequence[FeatureImportance], title: str) -> str:
    bars = [
        Bar(f"{f.feature} ({f.of})", f.value, f.low, f.high, f"{f.value:.4f}")
        for f in features[:N_FEATURES]
        if f.value > NOTHING
    ]
    if not bars:
        return f"<p>{escape(title)}: by no feature.</p>"
    return figure(intervals(bars, 0.0, title), title)


def _first_bar(report: PolicyReport) -> Bar:
    if not report.estimates:
        gates = ", ".join(refusal.gate for refusal in report.refusals)
        return Bar(report.policy, None, 0.0, 0.0, f"no number: {gates}")
    return _bar(report.policy, report.estimates[0], "forced" if report.forced else "main")


def _bar(label: str, estimate: Estimate, kind: str) -> Bar:
    note = f"{estimate.value:.4f} [{estimate.low:.3f}, {estimate.high:.3f}]"
    return Bar(label, estimate.value, estimate.low, estimate.high, note, kind)


def _part_bar(part: SegmentReport) -> Bar:
    label = f"{part.value} ({part.n:,})"
    if part.gain is None:
        return Bar(label, None, 0.0, 0.0, f"no number: {', '.join(r.gate for r in part.refusals)}")
    note = f"{part.gain.value:+.3f} [{part.gain.low:+.3f}, {part.gain.high:+.3f}]"
    kind = "forced" if part.forced else "main"
    return Bar(label, part.gain.value, part.gain.low, part.gain.high, note, kind)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"
