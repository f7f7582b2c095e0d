"""One HTTP exchange with the service: key, retries with an idempotency key, and answers turned into typed errors."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from client.errors import Problem, Unreachable, problem_from

LONGEST_PAUSE = 30.0  # seconds: a Retry-After beyond this is the caller's to wait
TRY_LATER = frozenset({429, 502, 503, 504})
TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class _TryAgain(Exception):
    """An answer that invites another try, and when."""

    def __init__(self, problem: Problem, after: float | None) -> None:
        super().__init__(str(problem))
        self.problem, self.after = problem, after


def _pause(state: RetryCallState, backoff: Callable[[RetryCallState], float]) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _TryAgain) else None
    return backoff(state) if asked is None else asked


class Transport:
    """Sends requests relative to `base_url` with a bearer key.

    Every POST carries an Idempotency-Key that stays the same over its retries, so a retry never makes a second job.
    Raises `Unreachable` when nothing answers, and a `Problem` for every answer that is not a success.
    """

    def __init__(self, base_url: str, key: str | None, *, attempts: int = 5, timeout: httpx.Timeout = TIMEOUT) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout)
        self.attempts = attempts

    def retrying(self) -> Retrying:
        """The retry rule of every exchange: connection faults, 429/502/503/504, and 409 while the first try runs."""
        backoff = wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2)
        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, httpx.TransportError | _TryAgain)),
            stop=stop_after_attempt(self.attempts),
            wait=lambda state: _pause(state, backoff),
            reraise=True,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        content: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One exchange with retries. `content` is called anew for each try and gives the body to stream."""
        sent = dict(headers or {})
        if method == "POST":
            sent.setdefault("Idempotency-Key", str(uuid.uuid4()))

        def once() -> httpx.Response:
            body = content() if content else None
            response = self.http.request(method, path, json=json, params=params, content=body, headers=sent)
            raise_for(response)
            return response

        with self.named_errors():
            return self.retrying()(once)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns what is left after the retries into the client's own errors."""
        try:
            yield
        except _TryAgain as error:
            raise error.problem from None
        except httpx.TransportError as error:
            raise Unreachable(f"No answer from {self.base_url}: {error}") from error

    def close(self) -> None:
        self.http.close()


def raise_for(response: httpx.Response) -> None:
    """Raises for every answer that is not a success. The body is read first where it was streamed."""
    if response.is_success:
        return
    response.read()
    problem = problem_from(response)
    after = _retry_after(response)
    still_running = problem.type == "idempotency-key-in-use"
    if (response.status_code in TRY_LATER or still_running) and (after is None or after <= LONGEST_PAUSE):
        raise _TryAgain(problem, after)
    raise problem


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
