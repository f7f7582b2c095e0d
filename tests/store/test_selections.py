"""Another t of a finished job: asked for once per t, done by one worker, fenced."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from store import jobs, selections
from store.database import transaction
from store.errors import NotSelectable, QueueFull, StaleFence

WEIGHTS = jobs.NewArtifact(name="weights-t=0.3.safetensors", path="p", bytes=9, sha256="s", media_type="m")
PROBLEM = {"type": "/problems/x", "title": "x", "detail": "x"}


@pytest.fixture
def done_job(factory, running_job):
    with transaction(factory) as session:
        return jobs.finish(session, job_id=running_job.id, attempt=1, result={"t": 0.2}, artifacts=[])


@pytest.fixture
def ask(factory, tenant_id, done_job):
    def create(t=0.3, *, owner=None, max_queued=9):
        with transaction(factory) as session:
            return selections.create(
                session, tenant_id=owner or tenant_id, job_id=done_job.id, t=t, max_queued=max_queued
            )

    return create


@pytest.fixture
def take(factory):
    def claim(selection_id):
        with transaction(factory) as session:
            return selections.claim(session, selection_id=selection_id, worker="w", lease_seconds=60, max_attempts=2)

    return claim


@pytest.fixture
def lose(factory):
    def expire_lease(selection_id):
        with transaction(factory) as session:
            session.execute(text("UPDATE selections SET lease_until = now() - interval '1s'"))

    return expire_lease


def look(factory, tenant_id, selection):
    with transaction(factory) as session:
        return selections.get(session, tenant_id=tenant_id, job_id=selection.job_id, selection_id=selection.id)


def test_the_same_t_is_one_selection_until_it_fails(factory, ask, take):
    first = ask()
    assert ask().id == first.id
    assert ask(0.4).id != first.id
    take(first.id)
    with transaction(factory) as session:
        selections.fail(session, selection_id=first.id, attempt=1, problem=PROBLEM)
    assert ask().id != first.id


def test_only_a_job_that_succeeded_has_a_path(factory, tenant_id, make_job):
    with pytest.raises(NotSelectable, match="queued"), transaction(factory) as session:
        selections.create(session, tenant_id=tenant_id, job_id=make_job().id, t=0.3, max_queued=9)


def test_a_neighbour_neither_asks_nor_sees(factory, ask, other_tenant_id):
    selection = ask()
    assert ask(0.5, owner=other_tenant_id) is None
    assert look(factory, other_tenant_id, selection) is None
    with transaction(factory) as session:
        assert selections.list_of_job(session, tenant_id=other_tenant_id, job_id=selection.job_id) == []


def test_the_queued_limit(ask, take):
    first = ask(0.1, max_queued=2)
    ask(0.2, max_queued=2)
    with pytest.raises(QueueFull):
        ask(0.3, max_queued=2)
    take(first.id)
    assert ask(0.3, max_queued=2).state == "queued"


def test_finishing_records_figures_and_weights(factory, tenant_id, ask, take):
    selection = take(ask().id)
    assert (selection.state, selection.attempt) == ("running", 1)
    with transaction(factory) as session:
        selections.finish(session, selection_id=selection.id, attempt=1, figures={"acc": 0.9}, artifact=WEIGHTS)
    done = look(factory, tenant_id, selection)
    assert (done.state, done.figures) == ("succeeded", {"acc": 0.9})
    with transaction(factory) as session:
        weights = jobs.artifact(session, tenant_id=tenant_id, job_id=selection.job_id, name=WEIGHTS.name)
    assert weights.id == done.artifact_id


def test_one_claim_wins_and_stale_writes_are_refused(factory, ask, take, lose):
    selection = ask()
    take(selection.id)
    assert take(selection.id) is None
    lose(selection.id)
    assert take(selection.id).attempt == 2
    fence = {"selection_id": selection.id, "attempt": 1}
    for write in (
        lambda session: selections.renew(session, **fence, lease_seconds=9),
        lambda session: selections.finish(session, **fence, figures={}, artifact=WEIGHTS),
        lambda session: selections.fail(session, **fence, problem=PROBLEM),
    ):
        with pytest.raises(StaleFence), transaction(factory) as session:
            write(session)


def test_a_selection_lost_in_its_last_attempt_fails(factory, tenant_id, ask, take, lose):
    selection = ask()
    for attempt in (1, 2):
        assert take(selection.id).attempt == attempt
        lose(selection.id)
    assert take(selection.id) is None
    assert look(factory, tenant_id, selection).problem["type"] == "/problems/attempts-exhausted"


def test_due_selections_are_the_unsent_and_the_lost(factory, ask, take, lose):
    def due():
        with transaction(factory) as session:
            return list(selections.due(session, older_than_seconds=3600))

    selection = ask()
    assert due() == [selection.id]
    with transaction(factory) as session:
        selections.mark_enqueued(session, selection_ids=[selection.id])
    assert due() == []
    take(selection.id)
    assert due() == []
    lose(selection.id)
    assert due() == [selection.id]


def test_an_unknown_selection_is_not_claimed(take):
    assert take(uuid4()) is None
