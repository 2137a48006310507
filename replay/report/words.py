"""The sentences of a report: the verdict on each policy, and its conclusions and limits.

A reader takes a number as the answer to their own question, so the report states the question it
answers and the evidence in the log against it. Each sentence depends on a figure.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from replay.evaluate.evaluate import Evaluation, PolicyReport
from replay.evaluate.gates import GateFailure
from replay.evaluate.health import LogHealth

MUCH_CENSORED = 0.05
MUCH_LEARNED = 0.01
LITTLE_P = 0.01


def users_words(n_users: int, health: LogHealth) -> str:
    """Return the number of a log's users in words; each unnamed decision is counted as a user."""
    if not health.n_unnamed:
        return f"{n_users:,} users"
    if health.n_unnamed >= n_users:
        return "users who are not named, each decision counted as one"
    named = n_users - health.n_unnamed
    return f"{named:,} users and {health.n_unnamed:,} decisions of users who are not named"


def flattery(report: PolicyReport) -> str:
    """Return why the value of a card flatters a policy, and what to read instead."""
    page = report.page_value
    why = (
        "the value of a card takes the logged cards before it as given, so it flatters a policy "
        "that would have shown its best ones there"
    )
    if page is not None and page.is_answered:
        return (
            f"{why}; read that of a whole page first: {page.value:.3f} ({page.low:.3f} to "
            f"{page.high:.3f}), logged {page.logged.value:.3f}"
        )
    gates = "" if page is None else ", ".join(refusal.gate for refusal in page.refusals)
    return (
        f"{why}; the value of a whole page is refused ({gates}), and that of the first slot is "
        "free of this (--segment slot)"
    )


def verdict(report: PolicyReport) -> tuple[str, str]:
    """Return a policy's verdict: a word and a sentence.

    The word is "better", "worse" or "open" by the paired gain's interval; "refused" without a gain;
    "flattered" if the policy learned from these decisions.
    """
    gain, logged = report.gain, report.logged.value
    if gain is None:
        gates = ", ".join(refusal.gate for refusal in report.refusals)
        return "refused", f"The log cannot say what {report.policy} would have earned ({gates})."
    relative = f" ({gain.value / abs(logged):+.1%})" if logged else ""
    size = (
        f"{gain.value:+.4f} a card{relative} by dr, {gain.level:.0%} interval {gain.low:+.4f} to "
        f"{gain.high:+.4f}"
    )
    warning = " Forced: the log did not pass its gates, do not rely on it." if report.forced else ""
    if report.learned_share > MUCH_LEARNED:
        return "flattered", (
            f"{report.policy} learned from {report.learned_share:.0%} of these decisions, so this "
            f"flatters it: {size}. Evaluate it on pages that it did not learn from (--held-out)."
            f"{warning}"
        )
    if report.card_flatters:
        return _page_verdict(report, warning)
    if gain.low > 0.0:
        return (
            "better",
            f"{report.policy} would have earned more than what was logged: {size}.{warning}",
        )
    if gain.high < 0.0:
        return (
            "worse",
            f"{report.policy} would have earned less than what was logged: {size}.{warning}",
        )
    return (
        "open",
        f"Whether {report.policy} earns more or less than the log is open: {size}.{warning}",
    )


def _page_verdict(report: PolicyReport, warning: str) -> tuple[str, str]:
    """Return the verdict by whole pages, of a policy that the value of a card flatters.

    The two intervals are not paired, so those that overlap leave it open.
    """
    page = report.page_value
    if page is None or not page.is_answered or page.low is None or page.high is None:
        return "flattered", f"{report.policy}: {flattery(report)}.{warning}"
    logged = page.logged
    said = (
        f"a page that {report.policy} fills itself is worth {page.value:.3f} ({page.low:.3f} to "
        f"{page.high:.3f}), one as logged {logged.value:.3f} ({logged.low:.3f} to "
        f"{logged.high:.3f}){'.' + warning if warning else '.'}"
    )
    if page.low > logged.high:
        return "better", f"More than what was logged: {said}"
    if page.high < logged.low:
        return "worse", f"Less than what was logged: {said}"
    return "open", f"Open: {said}"


def refused(refusal: GateFailure) -> str:
    """Return a refusal as a sentence, with its remedy."""
    return (
        f"{refusal.gate.capitalize()}: expected {refusal.expected}, got {refusal.got}. "
        f"What to do: {refusal.advice}."
    )


def conclusions(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Return the conclusions that the log supports, and those that it does not."""
    return list(_can(evaluation)), list(_cannot(evaluation))


def span(first_ms: int, last_ms: int) -> str:
    """Return the days that a log covers, in words; empty without times."""
    if not last_ms:
        return ""
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (first_ms, last_ms))
    if first.date() == last.date():
        return f"{first:%Y-%m-%d %H:%M} to {last:%H:%M} UTC"
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"


def moments(at_ms: Sequence[int]) -> list[str]:
    """Return times of a log in short form: days, or times of day."""
    times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in at_ms]
    in_days = at_ms[-1] - at_ms[0] > 3 * 24 * 3_600_000
    return [f"{time:%m-%d}" if in_days else f"{time:%H:%M}" for time in times]


def _can(evaluation: Evaluation) -> Iterator[str]:
    words = {"better": "Better than what was logged", "worse": "Worse", "open": "Not to be told"}
    for word, said in words.items():
        names = [r.policy for r in evaluation.reports if not r.forced and verdict(r)[0] == word]
        if names:
            yield f"{said}: {', '.join(names)}."
    for report in evaluation.reports:
        page = report.page_value
        if page is not None and page.is_answered:
            yield (
                f"A whole page that {report.policy} fills itself is worth {page.value:.3f} "
                f"({page.low:.3f} to {page.high:.3f}), one as logged {page.logged.value:.3f}."
            )
    if not any(verdict(r)[0] in words and not r.forced for r in evaluation.reports):
        yield "Nothing about these policies: no estimate may be relied on."
    judged = evaluation.health.calibration
    if judged is not None and judged.p_value >= LITTLE_P:
        yield (
            f"The logged propensities fit the draws (p = {judged.p_value:.2f} over {judged.n:,} "
            "draws), so weights mean what they say."
        )


def _cannot(evaluation: Evaluation) -> Iterator[str]:
    health = evaluation.health
    yield (
        "What another retrieval, other filters or another page would bring: values are per seen "
        "card, on the candidates that were logged and after the cards that stood before it."
    )
    yield (
        "What a policy does to later pages, to the length of sessions or to whether users return. "
        "That takes a split of traffic."
    )
    unknown = [
        report.policy
        for report in evaluation.reports
        if report.card_flatters and report.leads_with == "card"
    ]
    if unknown:
        yield (
            f"What {', '.join(unknown)} earns when it fills whole pages itself: here each of its "
            "cards follows the log's, so that its best ones are still there at every slot. Only "
            "the first slot is free of that: ask by slot."
        )
    flattered = [r.policy for r in evaluation.reports if verdict(r)[0] == "flattered"]
    if flattered:
        yield (
            f"How good {', '.join(flattered)} is: a policy looks better than it is on decisions "
            "that it learned from."
        )
    if health.calibration is None:
        yield "Whether the logged propensities are right: there are too few draws to judge them by."
    if health.censored_share > MUCH_CENSORED:
        yield (
            f"Anything that hangs on how cards end: of {health.censored_share:.0%} of the seen "
            "cards the end was never reported, and which ones may depend on the card."
        )
    drift = evaluation.reports[0].health.drift
    if drift is not None and drift.p_value < LITTLE_P:
        yield (
            f"What would be earned today: the reward changed during the log (p = "
            f"{drift.p_value:.1e}), and estimates are averages over that time."
        )
    if len(evaluation.reports) > 1:
        yield (
            f"That the best of {len(evaluation.reports)} is as good as it looks: the highest of "
            "several estimates is high by chance too. Confirm it by a split of traffic."
        )
    yield from _not_of_parts(evaluation)


def _not_of_parts(evaluation: Evaluation) -> Iterator[str]:
    if any(report.parts for report in evaluation.reports):
        yield (
            "That a part of the log differs because its interval does: of many intervals at "
            f"{evaluation.level:.0%}, some miss by chance."
        )
    for segment, n in evaluation.hidden_values.items():
        yield f"Anything about {n:,} values of {segment} with few decisions, which are not shown."
