"""Redis and Postgres that are emptied, stopped, killed or cut off while jobs are posted and run."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
import redis
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from store.database import SessionFactory, transaction
from store.tables import Job
from tests import scale
from tests.chaos.oracle import Audit
from tests.chaos.service import Customer, Service, trouble, wait_for

PAUSE = 1.0  # seconds between two posts: about what the workers can do
PATIENT = {"MODECONN_MAX_ATTEMPTS": "30"}


@contextmanager
def posting(customer: Customer) -> Iterator[None]:
    """Posts jobs, batch after batch, while the block runs."""
    over, errors = threading.Event(), list[BaseException]()

    def post() -> None:
        try:
            while not over.is_set():
                customer.post(2, first_seed=len(customer.accepted))
                over.wait(PAUSE)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("outage", scale.REDIS_TROUBLE)
def test_a_redis_that_is_emptied_and_killed_costs_no_job(
    service: Service, customer: Customer, settle: Callable[[], Audit], outage: scale.RedisTrouble
) -> None:
    def empty() -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(service.settings.redis_url) as broker:
            broker.flushall()

    def kill() -> None:
        service.kill_9("redis")
        service.start_redis()

    service.start_workers(2)
    flushes = trouble((outage.flush_every, outage.flush_every), empty)
    kills = trouble((outage.kill_every, outage.kill_every), kill)
    with posting(customer), flushes as emptied, kills as killed:
        time.sleep(outage.seconds)
    found = settle()
    print(f"{len(emptied)} times emptied, {len(killed)} times killed in {outage.seconds:g} s")
    found.require_nothing_wrong()
    assert set(found.states) == {"succeeded"}
    assert emptied
    assert killed


@pytest.mark.parametrize("count", scale.POSTED_WITHOUT_REDIS)
def test_jobs_posted_while_redis_is_down_are_sent_when_it_is_back(
    service: Service, customer: Customer, settle: Callable[[], Audit], database: SessionFactory, count: int
) -> None:
    service.start_workers(2)
    service.kill_9("redis")
    customer.post(count)

    def unsent() -> int:
        with transaction(database) as session:
            mine = select(func.count()).where(Job.tenant_id == customer.tenant_id, Job.enqueued_at.is_(None))
            return session.scalar(mine.select_from(Job)) or 0

    assert unsent() == count
    service.start_redis()
    seconds = wait_for(lambda: unsent() == 0, "the messages")
    print(
        f"{count} messages sent {seconds:.2f} s after Redis was back (a sweep each {service.settings.sweep_seconds} s)"
    )
    found = settle()
    found.require_nothing_wrong()
    assert found.states == {"succeeded": count}


@pytest.mark.parametrize("outage", scale.POSTGRES_TROUBLE)
def test_a_postgres_that_stops_again_and_again_costs_no_job(
    service: Service, customer: Customer, settle: Callable[[], Audit], outage: scale.PostgresTrouble
) -> None:
    service.start_workers(2, **PATIENT)
    refusals, recoveries = list[float](), list[float]()
    with posting(customer), httpx.Client(headers={"Authorization": f"Bearer {customer.key}"}, timeout=60) as http:
        for _ in range(outage.times):
            wait_for(lambda: _ask(service, http)[0] == 200, "the API")
            time.sleep(outage.seconds_between)
            service.stop("postgres")
            until = time.monotonic() + outage.seconds
            while time.monotonic() < until:
                status, took = _ask(service, http)
                assert status == 503
                refusals.append(took)
                time.sleep(0.2)
            service.start_postgres()
            recoveries.append(wait_for(lambda: _ask(service, http)[0] == 200, "the API's recovery"))
    found = settle()
    print(
        f"{outage.times} stops of {outage.seconds:g} s: 503 after {statistics.median(refusals):.3f} s "
        f"(longest {max(refusals):.2f} s), 200 again {max(recoveries):.2f} s after the start at the latest"
    )
    found.require_nothing_wrong()
    assert set(found.states) == {"succeeded"}


def _ask(service: Service, http: httpx.Client) -> tuple[int, float]:
    began = time.monotonic()
    answer = http.get(f"{service.url}/repair?limit=1")
    return answer.status_code, time.monotonic() - began


@pytest.mark.parametrize("outage", scale.BACKENDS_KILLED)
def test_killed_backends_cost_no_job(
    service: Service,
    customer: Customer,
    settle: Callable[[], Audit],
    database: SessionFactory,
    outage: scale.BackendsKilled,
) -> None:
    massacre = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = :kind"
    )

    def kill_backends() -> None:
        with suppress(DBAPIError), transaction(database) as session:  # another one of ours may be among them
            session.execute(massacre, {"kind": "client backend"})

    service.start_workers(2, **PATIENT)
    with posting(customer), trouble((outage.every, outage.every), kill_backends) as killed:
        time.sleep(outage.seconds)
    found = settle()
    print(f"all backends killed {len(killed)} times in {outage.seconds:g} s")
    found.require_nothing_wrong()
    assert set(found.states) == {"succeeded"}
    assert killed
