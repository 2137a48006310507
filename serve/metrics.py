"""What one process of the feed counts about itself: requests, what was not taken, what it serves.

The registry belongs to the app, not to the process, so that two apps in one process (tests, a
benchmark) count apart. Labels hold routes and outcomes, never ids: their number is bounded. What is
in the log is counted there (`serve.totals`); how all processes come together in one scrape stands
in `serve.scrape`.
"""

import secrets

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.beats import Family
from serve.wire import FeedbackResponse, FeedResponse

LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The figures of one app.

    Attributes:
        process: a name of its own, new with each start, so that its counters start anew with it.
    """

    def __init__(self) -> None:
        """Start at 0."""
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

    def answered(self, operation: str, status: int, seconds: float, answer: object) -> None:
        """Count a request and what it did."""
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
        """Note which version is served now, and how many could not be so far."""
        self._version.set(version)
        self._versions_refused.set(n_refused)

    def ranked(self, version: int, n_refused: int) -> None:
        """Note which ranker there is to blend with, and how many could not be used so far."""
        self._ranker.set(version)
        self._rankers_refused.set(n_refused)

    def families(self) -> tuple[Family, ...]:
        """Return everything, as it is now."""
        return tuple(
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                tuple(
                    (sample.name, dict(sample.labels), sample.value)
                    for sample in metric.samples
                    if not sample.name.endswith("_created")  # as many again, of use to nobody
                ),
            )
            for metric in self._registry.collect()
        )
