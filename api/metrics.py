"""What the API counts for Prometheus; one registry per application."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters and histograms of one API process; labels never carry a tenant, a key or an id."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "modeconn_http_requests", "Answered requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "modeconn_http_request_seconds",
            "Seconds from the request line to the last byte of the answer",
            ["method", "route"],
            registry=self.registry,
        )
        self.upload_bytes = Counter(
            "modeconn_upload_bytes", "Bytes of accepted uploads", ["kind"], registry=self.registry
        )
        self.receive_seconds = Histogram(
            "modeconn_upload_receive_seconds",
            "Seconds from the first look at an upload's body to its last byte in a file",
            registry=self.registry,
        )
        self.streams = Gauge("modeconn_event_streams", "Open event streams", registry=self.registry)
        self.jobs_accepted = Counter("modeconn_jobs_accepted", "Accepted jobs", ["kind"], registry=self.registry)
        self.inspector_starts = Counter(
            "modeconn_inspector_starts", "Starts of the architecture inspector", registry=self.registry
        )
