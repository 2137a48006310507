"""The metrics of one feed process: requests, latencies, refused feedback and the served version.

The registry belongs to the app, so two apps in one process count apart. Labels hold routes and
outcomes, never ids, so their number is bounded. Totals of the log are in `serve.store.totals`;
`serve.http.scrape` merges all processes.
"""

import secrets

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from policies.custom.guarded import Replaced
from serve.monitoring.heartbeats import Family
from serve.wire.feed import FeedbackResponse, FeedResponse

CUSTOM_REPLACED = "nextswipe_custom_pages_replaced"
LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one app.

    Attributes:
        process: a name that is new with each start, because the counters restart with it.
    """

    def __init__(self) -> None:
        self.process = f"feed-{secrets.token_hex(4)}"
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nextswipe_requests",
            "Requests by operation and status.",
            ("operation", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "nextswipe_request_seconds",
            "Time to answer, by operation.",
            ("operation",),
            buckets=LATENCY_S,
            registry=self._registry,
        )
        self._empty = Counter(
            "nextswipe_pages_empty",
            "Answers without any card, which are no pages of the log.",
            registry=self._registry,
        )
        self._not_taken = Counter(
            "nextswipe_feedback_not_taken",
            "Feedback events that were duplicates or refused, which are not in the log.",
            ("outcome",),
            registry=self._registry,
        )
        self._version = Gauge(
            "nextswipe_served_version",
            "Version of the model that pages are drawn with.",
            registry=self._registry,
        )
        self._versions_refused = Gauge(
            "nextswipe_versions_refused",
            "Published versions that could not be used, since the start.",
            registry=self._registry,
        )
        self._replaced = Counter(
            CUSTOM_REPLACED,
            "Pages drawn uniformly in place of a policy of one's own, by reason.",
            ("policy", "reason"),
            registry=self._registry,
        )

        self._ranker = Gauge(
            "nextswipe_served_ranker",
            "Version of the retention ranker that pages can be blended with; 0: none.",
            registry=self._registry,
        )
        self._rankers_refused = Gauge(
            "nextswipe_rankers_refused",
            "Current rankers that could not be used, since the start.",
            registry=self._registry,
        )

        self._collaborative = Gauge(
            "nextswipe_served_collaborative",
            "Generation of the item factors that pages are matched with; 0: none.",
            registry=self._registry,
        )
        self._collaborative_refused = Gauge(
            "nextswipe_collaborative_refused",
            "Current generations of item factors that could not be used, since the start.",
            registry=self._registry,
        )

    def answered(self, operation: str, status: int, seconds: float, answer: object) -> None:
        """Count a request and its outcome."""
        self._requests.labels(operation, str(status)).inc()
        self._latency.labels(operation).observe(seconds)
        match answer:
            case FeedResponse():
                self._empty.inc(not answer.items)
            case FeedbackResponse():
                self._not_taken.labels("duplicate").inc(answer.duplicates)
                self._not_taken.labels("refused").inc(len(answer.refused))
            case _:
                pass

    def followed(self, version: int, n_refused: int) -> None:
        """Set the served version and the number of versions that could not be used."""
        self._version.set(version)
        self._versions_refused.set(n_refused)

    def ranked(self, version: int, n_refused: int) -> None:
        """Set the current ranker and the number of rankers that could not be used."""
        self._ranker.set(version)
        self._rankers_refused.set(n_refused)

    def collaborated(self, version: int, n_refused: int) -> None:
        """Set the current generation of item factors and the number that could not be used."""
        self._collaborative.set(version)
        self._collaborative_refused.set(n_refused)

    def replaced(self, policy: str, reason: Replaced) -> None:
        """Count a page that was drawn uniformly in place of a policy of one's own."""
        self._replaced.labels(policy, reason).inc()

    def families(self) -> tuple[Family, ...]:
        """Return all metrics with their present values."""
        return tuple(
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                tuple(
                    (sample.name, dict(sample.labels), sample.value)
                    for sample in metric.samples
                    if not sample.name.endswith("_created")  # doubles the samples, without use
                ),
            )
            for metric in self._registry.collect()
        )
