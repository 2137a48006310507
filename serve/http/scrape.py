"""Metrics of the whole server in Prometheus' text format, from one scrape of one replica.

Totals of the log come from the database and have no process. A process's own counters carry its
name, new with each start, as the label `process`; silent processes are left out. Rejected
alternatives: `docs/decisions/serve-monitoring.md`.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from replay.evaluate.arms import Readout
from serve.monitoring.heartbeats import (
    GONE_MS,
    ArmsHeartbeat,
    EmbeddingCounts,
    Family,
    FeedHeartbeat,
    LearnerHeartbeat,
)
from serve.monitoring.metrics import Metrics
from serve.monitoring.status import Overview, Readings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The label and the meaning of each total.
_TOTALS = {
    "pages": ("", "Pages that were delivered."),
    "pages_degraded": ("", "Pages that were less than asked for."),
    "cards": ("policy", "Cards delivered, by policy."),
    "candidates_removed": ("reason", "Retrieved items that the filters took away, by reason."),
    "feedback_events": ("kind", "Feedback events that were taken, by kind."),
    "item_changes": ("change", "Items that were put (added or changed) or removed."),
    "user_changes": ("change", "Users who were put (registered or changed) or forgotten."),
    "imported_views": ("", "Cards that users saw elsewhere, of imported histories."),
    "blocks": ("change", "Requests that blocked creators or tags, or took that back."),
}


def scrape(metrics: Metrics, overview: Overview, n_items: int) -> bytes:
    """Return the metrics of the whole server, of which `n_items` is the number of listed items."""
    registry = CollectorRegistry()
    registry.register(_Fixed([*_whole(overview, n_items), *_processes(metrics, overview)]))
    return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, collected: Iterable[Metric]) -> None:
        self._collected = collected

    def collect(self) -> Iterable[Metric]:
        return self._collected


def _whole(overview: Overview, n_items: int) -> Iterator[Metric]:
    """Yield the metrics that exist once, however many replicas run."""
    is_readable = overview.readings is not None
    yield _gauge("database_readable", "Whether the database can be read.", is_readable)
    yield _gauge("catalogue_items", "Items that may be shown.", n_items)
    if overview.readings is not None:
        yield from _log(overview.readings)
    yield from _learner(overview)
    if overview.arms is not None:
        yield from _arms(overview.arms)


def _log(readings: Readings) -> Iterator[Metric]:
    for name, (label, meaning) in _TOTALS.items():
        metric = Metric(f"nextswipe_{name}", meaning, "counter")
        values = {total.label: n for total, n in readings.totals.items() if total.name == name}
        for of, n in sorted(values.items()) or ([] if label else [("", 0)]):
            metric.add_sample(f"nextswipe_{name}_total", {label: of} if label else {}, n)
        yield metric
    version = readings.version
    yield _gauge("log_offset", "Offset of the log's last line.", readings.offset)
    yield _gauge("version", "Current version of the model.", version.version if version else 0)


def _learner(overview: Overview) -> Iterator[Metric]:
    health, beat = overview.learner_health, overview.learner
    is_up = health.state == "learning"
    yield _gauge("learner_up", "Whether the learner learns.", is_up)
    if beat is None:
        return
    age_s = health.age_s or 0.0
    yield _gauge("learner_beat_age_seconds", "Time since the learner's last sign of life.", age_s)
    yield _gauge("learner_epoch", "The learner's epoch; a new one takes over.", beat.epoch)
    yield _gauge("learner_version", "Version that the learner published last.", beat.version)
    yield _gauge("learner_offset", "Offset up to which the learner has folded.", beat.offset)
    if overview.readings is not None:
        lag = max(overview.readings.offset - beat.offset, 0)
        yield _gauge("learner_lag_records", "Offsets from the learner to the log's end.", lag)
    yield from _learned(beat)


def _learned(beat: LearnerHeartbeat) -> Iterator[Metric]:
    """Yield the learner's counters, under a new name when a learner folds the log anew."""
    of = {"process": f"learner-{beat.epoch}"}
    for name, meaning, n in (
        ("learned", "Interactions that moved the model.", beat.learned),
        ("closed", "Interactions that closed.", beat.closed),
        ("censored", "Closed interactions whose end was never reported.", beat.censored),
        ("never_seen", "Decisions that were dropped without any feedback.", beat.never_seen),
        ("late", "Feedback events about no open decision.", beat.late),
        ("poisoned", "Interactions left out because the model broke on them.", beat.poisoned),
        ("rollbacks", "Times that the canary took the model back.", beat.rollbacks),
    ):
        metric = Metric(f"nextswipe_learner_{name}", meaning, "counter")
        metric.add_sample(f"nextswipe_learner_{name}_total", of, n)
        yield metric
    meaning = "Interactions that were not learned from, by what was wrong."
    metric = Metric("nextswipe_learner_refused", meaning, "counter")
    for reason, n in sorted(beat.refused.items()):
        metric.add_sample("nextswipe_learner_refused_total", {**of, "reason": reason}, n)
    yield metric
    meaning = "Feedback events about no open decision, by what they changed."
    metric = Metric("nextswipe_learner_late_events", meaning, "counter")
    for outcome, n in sorted(beat.late_outcomes.items()):
        metric.add_sample("nextswipe_learner_late_events_total", {**of, "outcome": outcome}, n)
    yield metric
    meaning = "Interactions that a policy of one's own raised on, which it did not learn from."
    metric = Metric("nextswipe_learner_custom_failed", meaning, "counter")
    for policy, n in sorted(beat.custom_failed.items()):
        metric.add_sample("nextswipe_learner_custom_failed_total", {**of, "policy": policy}, n)
    yield metric
    meaning = "Share of a market's cards that its uploads need, where it exceeds the budget."
    metric = Metric("nextswipe_fair_start_overdrawn", meaning, "gauge")
    for market, share in sorted(beat.overdrawn.items()):
        metric.add_sample("nextswipe_fair_start_overdrawn", {"market": market}, share)
    yield metric
    if beat.embedding is not None:
        yield from _embedding(beat.embedding, of)


def _embedding(counts: EmbeddingCounts, of: dict[str, str]) -> Iterator[Metric]:
    yield _gauge("embedding_waiting", "Items that wait for their vector.", counts.waiting)
    meaning = "Items that the embedding hook was asked about, by outcome."
    metric = Metric("nextswipe_embedding_items", meaning, "counter")
    for outcome, n in sorted(counts.outcomes.items()):
        metric.add_sample("nextswipe_embedding_items_total", {**of, "outcome": outcome}, n)
    yield metric


def _arms(beat: ArmsHeartbeat) -> Iterator[Metric]:
    """Yield the experiment's readout; the control has no difference, hence no such sample."""
    readout = beat.readout
    yield _gauge("arms_offset", "Offset up to which the experiment was read.", beat.offset)
    trusted = "Whether the arms' users are as their shares say; 0: do not believe the figures."
    yield _gauge("arms_trusted", trusted, readout.trusted)
    if readout.sample_ratio is not None:
        meaning = "Chance of arms so far from their shares (chi-square test)."
        yield _gauge("arms_sample_ratio_p", meaning, readout.sample_ratio.p_value)
    counts = (
        ("users", "Users dealt to the arm.", {arm.arm: arm.users for arm in readout.arms}),
        (
            "active_users",
            "Users of the arm who saw a card.",
            {a.arm: a.active for a in readout.arms},
        ),
        ("cards", "Answered cards of the arm.", {arm.arm: arm.cards for arm in readout.arms}),
    )
    for name, meaning, by_arm in counts:
        metric = Metric(f"nextswipe_arm_{name}", meaning, "gauge")
        for arm, n in by_arm.items():
            metric.add_sample(f"nextswipe_arm_{name}", {"arm": arm}, n)
        yield metric
    yield from _arm_figures(readout)
    metric = Metric("nextswipe_arm_verdict", "The verdict on the arm by reward a card.", "gauge")
    for one in readout.arms:
        if one.verdict is not None:
            labels = {"arm": one.arm, "verdict": one.verdict}
            metric.add_sample("nextswipe_arm_verdict", labels, 1.0)
    yield metric


def _arm_figures(readout: Readout) -> Iterator[Metric]:
    value = Metric("nextswipe_arm_value", "Figure of the arm, the user as its unit.", "gauge")
    apart = Metric("nextswipe_arm_difference", "Its difference to the control.", "gauge")
    low = Metric("nextswipe_arm_difference_low", "Lower end; may be looked at any time.", "gauge")
    high = Metric("nextswipe_arm_difference_high", "Upper end; may be looked at any time.", "gauge")
    for one in readout.figures:
        labels = {"arm": one.arm, "figure": one.figure}
        if one.value is not None:
            value.add_sample(value.name, labels, one.value)
        if one.difference is not None:
            apart.add_sample(apart.name, labels, one.difference.value)
            low.add_sample(low.name, labels, one.difference.low)
            high.add_sample(high.name, labels, one.difference.high)
    yield from (value, apart, low, high)


def _processes(metrics: Metrics, overview: Overview) -> Iterator[Metric]:
    """Yield each feed replica's own metrics, metric by metric."""
    families = {metrics.process: metrics.families()}
    for name, beat in overview.beats.items():
        if isinstance(beat, FeedHeartbeat) and overview.at_ms - beat.at_ms <= GONE_MS:
            families.setdefault(name, beat.families)
    merged: dict[str, Metric] = {}
    for process, theirs in families.items():
        for family in theirs:
            _merge(merged, family, process)
    yield from merged.values()


def _merge(merged: dict[str, Metric], family: Family, process: str) -> None:
    new = Metric(family.name, family.documentation, family.kind)
    metric = merged.setdefault(family.name, new)
    for name, labels, value in family.samples:
        metric.add_sample(name, {**labels, "process": process}, value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    metric = Metric(f"nextswipe_{name}", meaning, "gauge")
    metric.add_sample(f"nextswipe_{name}", {}, float(value))
    return metric
