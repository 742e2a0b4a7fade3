"""What the service counts, for Prometheus: its own registry, nothing of the machine or of the callers in it."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PROBLEM = "problem"
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Counts:
    """Requests, photographs, seconds and places.

    Attributes:
        n_decided: photographs that were decided.
        n_problems: photographs that could not be.
        n_refused: requests that were answered with an error.
        n_given_up: requests that were at hand when the service could wait no longer.
    """

    def __init__(self, n_places: int) -> None:
        self.n_decided = self.n_problems = self.n_refused = self.n_given_up = 0
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tinydefects_requests", "Requests by model and HTTP status.", ["model", "status"], registry=self._registry
        )
        self._photographs = Counter(
            "tinydefects_photographs",
            "Photographs by model and verdict; problem: it could not be decided.",
            ["model", "verdict"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "tinydefects_seconds",
            "Time of one photograph by step: read or decide.",
            ["model", "step"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._taken = Gauge("tinydefects_places_taken", "Requests at hand.", registry=self._registry)
        Gauge("tinydefects_places", "Requests at once, at most.", registry=self._registry).set(n_places)

    def request(self, model: str, status: int) -> None:
        """One request was answered; `model` is empty where it named none that is served."""
        self.n_refused += status >= 400
        self._requests.labels(model, str(status)).inc()

    def photograph(self, model: str, verdict: str | None) -> None:
        """One photograph was decided, or could not be: None."""
        self.n_decided += verdict is not None
        self.n_problems += verdict is None
        self._photographs.labels(model, PROBLEM if verdict is None else verdict).inc()

    def step(self, model: str, step: str, seconds: float) -> None:
        """One photograph was read or decided."""
        self._seconds.labels(model, step).observe(seconds)

    def places(self, n_taken: int) -> None:
        """So many requests are at hand."""
        self._taken.set(n_taken)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
