"""What /metrics tells Prometheus. Counts and times only; no text of anybody's."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from edgespec.runtime import Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1)


class Metrics:
    """A registry of its own, so that two servers in one process do not share counts."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "edgespec_requests", "Requests by route and HTTP status.", ["route", "status"], registry=self.registry
        )
        self._tokens = Counter(
            "edgespec_tokens",
            "Tokens: of prompts, of answers, of answers that the draft proposed, and proposed but rejected.",
            ["kind"],
            registry=self.registry,
        )
        self._ended = Counter(
            "edgespec_answers",
            "Answers by how they ended: stop, length, client_gone, client_slow, timeout, shutdown, error.",
            ["ended"],
            registry=self.registry,
        )
        self._queue = Histogram(
            "edgespec_queue_seconds", "Wait before an answer began.", buckets=_SECONDS, registry=self.registry
        )
        self._first = Histogram(
            "edgespec_first_token_seconds",
            "From the whole request to the first token, the wait included.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._each = Histogram(
            "edgespec_token_seconds", "A token after the first.", buckets=_TOKEN_SECONDS, registry=self.registry
        )
        Gauge("edgespec_running", "Answers being written.", registry=self.registry).set_function(running)
        Gauge("edgespec_waiting", "Requests in line.", registry=self.registry).set_function(waiting)

    def request(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def began(self, queue_s: float) -> None:
        self._queue.observe(queue_s)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def ended(self, how: str, result: Result | None = None) -> None:
        self._ended.labels(how).inc()
        if result is None:
            return
        metrics = result.metrics
        self._tokens.labels("prompt").inc(metrics.prompt_tokens)
        self._tokens.labels("answer").inc(len(result.token_ids))
        self._tokens.labels("accepted").inc(metrics.draft_tokens)
        self._tokens.labels("rejected").inc(metrics.rejected_tokens or 0)
        if metrics.tpot_ms is not None:
            self._each.observe(metrics.tpot_ms / 1e3)

    def text(self) -> bytes:
        return generate_latest(self.registry)
