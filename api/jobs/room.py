"""Keeps the whole service's queue from growing without end; each tenant's own limit stands beside it, exact."""

import time
from threading import Lock

from sqlalchemy.orm import Session

from api.errors import ApiError
from store import jobs

_COUNT_EVERY_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 30


class QueueRoom:
    """How many jobs the whole service has queued, as one API process knows it. Safe in many threads.

    The queue is counted once a second at most, and only as far as the limit; in between, what this process adds is
    added. So the limit costs nothing at a million rows, and a few processes together may pass it by what they take in
    a second.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._queued = 0
        self._counted_at: float | None = None

    def require(self, session: Session) -> None:
        """Raises ApiError `queue-full`."""
        with self._lock:
            now = time.monotonic()
            if self._counted_at is None or now - self._counted_at >= _COUNT_EVERY_SECONDS:
                self._queued = jobs.queue_depth(session, at_most=self._limit)
                self._counted_at = now
            if self._queued < self._limit:
                return
        raise ApiError(
            "queue-full",
            f"{self._limit} jobs of all tenants are queued, which is the limit of this service.",
            headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
            limit=self._limit,
        )

    def add(self) -> None:
        """A job was queued here."""
        with self._lock:
            self._queued += 1
