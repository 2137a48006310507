"""What one replica counts about itself, for Prometheus.

The registry belongs to the app, not to the process, so that two apps in one process (tests, a
benchmark) count apart. Labels hold routes and reasons, never ids: their number is bounded.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.wire import FeedbackResponse, FeedResponse, ItemsResponse

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The figures of one app."""

    def __init__(self) -> None:
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
        self._cards = Counter(
            "nextswipe_cards", "Cards served, by policy.", ("policy",), registry=self._registry
        )
        self._degraded = Counter(
            "nextswipe_pages_degraded",
            "Pages that were less than asked for.",
            registry=self._registry,
        )
        self._events = Counter(
            "nextswipe_feedback_events",
            "Feedback events by what became of them.",
            ("outcome",),
            registry=self._registry,
        )
        self._changes = Counter(
            "nextswipe_item_changes",
            "Items added or changed in batches.",
            ("change",),
            registry=self._registry,
        )
        self._items = Gauge(
            "nextswipe_catalogue_items",
            "Items that this replica knows, taken down ones included.",
            registry=self._registry,
        )

    def answered(self, operation: str, status: int, seconds: float, answer: object) -> None:
        """Count a request and what it did."""
        self._requests.labels(operation, str(status)).inc()
        self._latency.labels(operation).observe(seconds)
        match answer:
            case FeedResponse():
                self._count_page(answer)
            case FeedbackResponse():
                self._events.labels("accepted").inc(answer.accepted)
                self._events.labels("duplicate").inc(answer.duplicates)
                self._events.labels("refused").inc(len(answer.refused))
            case ItemsResponse():
                self._changes.labels("added").inc(answer.added)
                self._changes.labels("changed").inc(answer.changed)
            case _:
                pass

    def text(self, n_items: int) -> bytes:
        """Return everything in Prometheus' text format."""
        self._items.set(n_items)
        return generate_latest(self._registry)

    def _count_page(self, page: FeedResponse) -> None:
        if page.degraded:
            self._degraded.inc()
        for policy in {card.policy for card in page.items}:
            # Without the version: each published one would be a time series of its own.
            name = policy.partition("@")[0]
            self._cards.labels(name).inc(len(page.items))
