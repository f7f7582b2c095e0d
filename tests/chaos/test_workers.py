"""Workers that are killed, or sleep through their lease, and jobs that kill theirs."""

import os
import random
import signal
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from store.database import SessionFactory, transaction
from store.tables import Job
from tests import scale
from tests.chaos.oracle import Audit
from tests.chaos.service import Customer, Service, trouble, wait_for
from tests.chaos.short_job import POISON_SEEDS

PATIENT = {"MODECONN_MAX_ATTEMPTS": "1000"}  # one job may be hit again and again: none may be given up for that


@pytest.mark.parametrize("count", scale.KILLED_WORKER_JOBS)
def test_workers_killed_all_the_time_lose_and_double_nothing(
    service: Service, customer: Customer, settle: Callable[[], Audit], database: SessionFactory, count: int
) -> None:
    names = service.start_workers(3, **PATIENT)
    generator = random.Random(0)
    at_work_killed = []

    def kill_one() -> None:
        busy = at_work(database, service, names) if len(at_work_killed) < 3 else None
        at_work_killed.extend([busy] if busy else [])
        victim = busy or generator.choice(
            names
        )  # a few are sure to be at work; chance then, or the last jobs never end
        service.kill_9(victim)
        names[names.index(victim)] = service.start_worker(**PATIENT)

    with trouble((0.5, 3.0), kill_one) as kills:
        customer.post(count, milliseconds=200)  # most are long enough to be met
        found = settle()
    print(f"{len(kills)} workers killed")
    found.require_nothing_wrong()
    assert found.states == {"succeeded": count}
    assert max(found.attempts) > 1, "no worker was killed at work"


@pytest.mark.parametrize("count", scale.SLEEPING_WORKERS)
def test_workers_that_sleep_through_their_lease_write_nothing_stale(
    service: Service, customer: Customer, settle: Callable[[], Audit], database: SessionFactory, count: int
) -> None:
    names = service.start_workers(3, **PATIENT)
    slept = 0
    while slept < count:
        if unended(database, customer) < 3:
            customer.post(3, milliseconds=800, first_seed=len(customer.accepted))
        slept += sleeps_until_replaced(database, customer)
    found = settle()
    told = sum(service.log(name).read_text().count("not ours any more") for name in names)
    told += sum(service.log(name).read_text().count("another attempt holds it") for name in names)
    print(f"{slept} times asleep until another worker had the job; {told} times the sleeper was told so")
    found.require_nothing_wrong()
    assert set(found.states) == {"succeeded"}
    assert told >= slept  # a busy machine makes others lose their lease, too


def at_work(database: SessionFactory, service: Service, names: list[str]) -> str | None:
    """One of these workers that has a job now."""
    with transaction(database) as session:
        running = session.scalars(select(Job.worker).where(Job.state == "running")).all()
    pids = {int(worker.rpartition(":")[2]) for worker in running if worker}
    return next((name for name in names if service.parts[name].process.pid in pids), None)


def unended(database: SessionFactory, customer: Customer) -> int:
    with transaction(database) as session:
        mine = select(func.count()).where(Job.tenant_id == customer.tenant_id, Job.finished_at.is_(None))
        return session.scalar(mine.select_from(Job)) or 0


def sleeps_until_replaced(database: SessionFactory, customer: Customer) -> bool:
    """Stops the worker of a running job until another attempt has begun; False where the job ended before."""
    running = select(Job).where(Job.tenant_id == customer.tenant_id, Job.state == "running").limit(1)
    with transaction(database) as session:
        job = session.scalar(running)
    if job is None:
        return False

    def now() -> Job:
        with transaction(database) as session:
            return session.get_one(Job, job.id)

    pid = int(job.worker.rpartition(":")[2])
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: now().attempt > job.attempt or now().finished_at is not None, "another attempt")
    finally:
        os.kill(pid, signal.SIGCONT)
    return now().attempt > job.attempt


@pytest.mark.parametrize(("poisoned", "good"), scale.POISON_JOBS)
def test_poison_jobs_fail_with_their_last_words_and_hold_up_nobody(
    service: Service,
    customer: Customer,
    settle: Callable[[], Audit],
    database: SessionFactory,
    poisoned: int,
    good: int,
) -> None:
    kinds = list(POISON_SEEDS)
    bad = [POISON_SEEDS[kinds[number % len(kinds)]] for number in range(poisoned)]
    seeds = bad + list(range(good))
    random.Random(0).shuffle(seeds)
    service.start_workers(3, MODECONN_STALL_SECONDS="2")
    customer.post(seeds=seeds)
    found = settle()
    found.require_nothing_wrong()
    assert found.states == {"succeeded": good, "failed": poisoned}
    assert max(found.attempts) == 3
    with transaction(database) as session:
        failed = session.scalars(select(Job).where(Job.tenant_id == customer.tenant_id, Job.state == "failed")).all()
    for job in failed:
        assert job.problem["type"] == "/problems/attempts-exhausted"
        if job.seed == POISON_SEEDS["segfault"]:
            assert any("Segmentation fault" in line for line in job.problem["last_lines"])
        if job.seed == POISON_SEEDS["hang"]:
            assert "said nothing" in job.problem["detail"]
