"""Idempotency keys: one answer per key, together with its work or not at all."""

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import func, select

from store import idempotency
from store.database import transaction
from store.errors import IdempotencyConflict, IdempotencyMismatch
from store.idempotency import Fresh, Replay
from store.tables import Tenant

REQUEST = {"key": "k", "method_path": "POST /repair", "body_sha256": "ab"}
ANSWER = {"status": 202, "headers": {"Location": "/repair/1"}, "body": {"id": "1"}}


def answer(factory, tenant_id, **changes):
    request = {**REQUEST, "tenant_id": tenant_id, **changes}
    with transaction(factory) as session:
        found = idempotency.begin(session, **request)
        if isinstance(found, Fresh):
            session.add(Tenant(name="the work"))
            idempotency.complete(session, **request, **ANSWER)
        return found


def work_done(factory):
    with transaction(factory) as session:
        return session.scalar(select(func.count()).select_from(Tenant).where(Tenant.name == "the work"))


def test_the_second_request_gets_the_first_answer(factory, tenant_id):
    assert answer(factory, tenant_id) == Fresh()
    assert answer(factory, tenant_id) == Replay(**ANSWER)
    assert work_done(factory) == 1


@pytest.mark.parametrize("change", [{"body_sha256": "cd"}, {"method_path": "POST /files"}])
def test_another_request_with_the_key_is_refused(factory, tenant_id, change):
    answer(factory, tenant_id)
    with pytest.raises(IdempotencyMismatch):
        answer(factory, tenant_id, **change)


def test_a_neighbour_may_use_the_same_key(factory, tenant_id, other_tenant_id):
    with transaction(factory) as mine, transaction(factory) as theirs:
        assert idempotency.begin(mine, tenant_id=tenant_id, **REQUEST) == Fresh()
        assert idempotency.begin(theirs, tenant_id=other_tenant_id, **REQUEST) == Fresh()


def test_a_request_that_failed_leaves_the_key_free(factory, tenant_id):
    with factory() as session:  # left without a commit, as by an error
        idempotency.begin(session, tenant_id=tenant_id, **REQUEST)
        idempotency.complete(session, tenant_id=tenant_id, **REQUEST, **ANSWER)
    assert answer(factory, tenant_id) == Fresh()


def test_of_requests_at_the_same_time_one_works_and_the_others_hear_of_it(factory, tenant_id):
    barrier, outcomes = Barrier(6), []

    def request():
        barrier.wait()
        try:
            outcomes.append(type(answer(factory, tenant_id)).__name__)
        except IdempotencyConflict:
            outcomes.append("conflict")

    threads = [Thread(target=request) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("Fresh") == 1
    assert set(outcomes) <= {"Fresh", "Replay", "conflict"}
    assert work_done(factory) == 1


def test_a_request_while_the_first_is_open_is_a_conflict(factory, tenant_id):
    with transaction(factory) as first:
        idempotency.begin(first, tenant_id=tenant_id, **REQUEST)
        with pytest.raises(IdempotencyConflict):
            answer(factory, tenant_id)


def test_old_answers_are_forgotten(factory, tenant_id):
    answer(factory, tenant_id)
    with transaction(factory) as session:
        idempotency.purge(session, older_than=timedelta(hours=1))
    assert isinstance(answer(factory, tenant_id), Replay)
    with transaction(factory) as session:
        idempotency.purge(session, older_than=timedelta(0))
        assert idempotency.begin(session, tenant_id=tenant_id, **REQUEST) == Fresh()
