"""What Prometheus reads at `/metrics`: requests, pictures, batches, the queue and the models."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "headstart_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "headstart_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter(
            "headstart_pictures",
            "Pictures by what became of them: answered, unreadable; requests refused (503), late (408, 504), gone.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.batch = Histogram(
            "headstart_batch_pictures",
            "Pictures of one run of a network.",
            buckets=(1, 2, 3, 4),
            registry=self.registry,
        )
        self.queue = Gauge("headstart_queue_pictures", "Pictures that wait for a thread.", registry=self.registry)
        self.loaded = Gauge(
            "headstart_model_loaded_seconds", "When a model was read.", ["model"], registry=self.registry
        )
        self.reloads = Counter(
            "headstart_model_reloads",
            "New models picked up or refused.",
            ["model", "outcome"],
            registry=self.registry,
        )

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Read the length of the queue whenever somebody asks."""
        self.queue.set_function(waiting)
