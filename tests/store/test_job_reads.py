"""What tenants see: their own jobs, in stable pages, and a stream of events without gaps."""

from threading import Event, Thread

import pytest
from sqlalchemy import func, update

from store import jobs
from store.database import transaction
from store.errors import BadCursor
from store.tables import Job


@pytest.fixture
def make_jobs(make_file, make_job):
    """Some jobs, newest first."""
    suspect, clean = make_file("model"), make_file("clean")

    def make(count, **changes):
        return [make_job(suspect_file_id=suspect, clean_file_id=clean, **changes).id for _ in range(count)][::-1]

    return make


@pytest.fixture
def list_ids(factory, tenant_id):
    """All pages' ids."""

    def collect(*, limit, tenant=tenant_id, kind="repair", **filters):
        pages, cursor = [], None
        while True:
            with transaction(factory) as session:
                rows, cursor = jobs.list_jobs(
                    session, tenant_id=tenant, kind=kind, limit=limit, cursor=cursor, **filters
                )
            pages.append([row.id for row in rows])
            if cursor is None:
                return pages

    return collect


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_pages_hold_every_job_once_newest_first(make_jobs, list_ids, limit):
    expected = make_jobs(5)
    pages = list_ids(limit=limit)
    assert [job_id for page in pages for job_id in page] == expected
    assert all(pages)  # no empty last page


def test_jobs_created_in_the_same_moment_are_not_lost(factory, make_jobs, list_ids):
    expected = set(make_jobs(5))
    with transaction(factory) as session:
        session.execute(update(Job).values(created_at=func.now()))
    pages = list_ids(limit=2)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {job_id for page in pages for job_id in page} == expected


def test_new_jobs_do_not_shift_the_pages(factory, tenant_id, make_jobs):
    expected = make_jobs(4)
    with transaction(factory) as session:
        first, cursor = jobs.list_jobs(session, tenant_id=tenant_id, kind="repair", limit=2)
    make_jobs(1)
    with transaction(factory) as session:
        second, end = jobs.list_jobs(session, tenant_id=tenant_id, kind="repair", limit=2, cursor=cursor)
    assert [job.id for job in [*first, *second]] == expected
    assert end is None


def test_filters_by_state_and_label_combine_and_page(make_jobs, list_ids, claim):
    blue = make_jobs(3, labels={"colour": "blue", "size": "s"})
    make_jobs(2, labels={"colour": "red"})
    claim(blue[0])
    assert list_ids(limit=2, label=("colour", "blue")) == [blue[:2], blue[2:]]
    assert list_ids(limit=9, label=("colour", "blue"), state="queued") == [blue[1:]]
    assert list_ids(limit=9, state="running") == [[blue[0]]]
    assert list_ids(limit=9, label=("colour", "s")) == [[]]


def test_each_kind_has_its_own_list_and_is_unknown_to_the_other(factory, tenant_id, make_jobs, list_ids):
    repairs, analyses = make_jobs(2, labels={"a": "b"}), make_jobs(3, kind="analysis", labels={"a": "b"})
    for filters in ({}, {"state": "queued"}, {"label": ("a", "b")}):
        assert list_ids(limit=2, **filters) == [repairs]
        assert list_ids(limit=2, kind="analysis", **filters) == [analyses[:2], analyses[2:]]
    with transaction(factory) as session:
        for job_id, kind, other in ((repairs[0], "repair", "analysis"), (analyses[0], "analysis", "repair")):
            own = {"tenant_id": tenant_id, "job_id": job_id}
            assert jobs.get_job(session, **own, kind=kind).kind == kind
            assert jobs.get_job(session, **own, kind=other) is None
            assert jobs.request_cancel(session, **own, kind=other) is None
            assert jobs.retry(session, **own, kind=other, max_queued=9) is None
            assert jobs.get_job(session, **own).state == "queued"


def test_the_queue_is_one_for_all_kinds(factory, tenant_id, make_job):
    make_job(kind="analysis")
    repair = make_job().id
    with transaction(factory) as session:
        assert jobs.queue_position(session, tenant_id=tenant_id, job_id=repair) == 1


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm90IGpzb24=", "WzEsMl0=", "eyJhIjoxfQ==", "WyIyMDI2LTAxLTAxIiwgIngiXQ==", "é"]
)
def test_a_foreign_cursor_is_refused(factory, tenant_id, cursor):
    with transaction(factory) as session, pytest.raises(BadCursor):
        jobs.list_jobs(session, tenant_id=tenant_id, kind="repair", limit=2, cursor=cursor)


def test_a_neighbour_sees_nothing(factory, other_tenant_id, running_job, list_ids):
    job_id = running_job.id
    with transaction(factory) as session:
        jobs.finish(
            session,
            job_id=job_id,
            attempt=1,
            result={},
            artifacts=[jobs.NewArtifact(name="a", path="p", bytes=1, sha256="s", media_type="m")],
        )
    theirs = {"tenant_id": other_tenant_id, "job_id": job_id}
    with transaction(factory) as session:
        assert jobs.get_job(session, **theirs) is None
        assert jobs.events_after(session, **theirs, after_id=0, limit=9) == []
        assert jobs.curve(session, **theirs) == []
        assert jobs.analysis_points(session, **theirs) == []
        assert jobs.artifacts(session, **theirs) == []
        assert jobs.artifact(session, **theirs, name="a") is None
        assert jobs.queue_position(session, **theirs) is None
    assert list_ids(limit=9, tenant=other_tenant_id) == [[]]


def test_an_expired_job_is_gone(factory, tenant_id, running_job, let_pass, list_ids):
    with transaction(factory) as session:
        jobs.finish(session, job_id=running_job.id, attempt=1, result={}, artifacts=[])
    let_pass(running_job.id, "expires_at")
    with transaction(factory) as session:
        assert jobs.get_job(session, tenant_id=tenant_id, job_id=running_job.id) is None
        assert jobs.retry(session, tenant_id=tenant_id, job_id=running_job.id, max_queued=9) is None
    assert list_ids(limit=9) == [[]]


def test_the_queue_position_counts_everybodys_older_queued_jobs(factory, tenant_id, other_tenant_id, make_job, claim):
    running, theirs, mine = make_job().id, make_job(owner=other_tenant_id).id, make_job().id
    claim(running)
    with transaction(factory) as session:
        assert jobs.queue_position(session, tenant_id=tenant_id, job_id=mine) == 1
        assert jobs.queue_position(session, tenant_id=other_tenant_id, job_id=theirs) == 0
        assert jobs.queue_position(session, tenant_id=tenant_id, job_id=running) is None


def test_events_resume_after_any_id(factory, tenant_id, running_job):
    with transaction(factory) as session:
        for number in range(5):
            jobs.record_warning(session, job_id=running_job.id, attempt=1, data={"n": number})
    wanted = {"tenant_id": tenant_id, "job_id": running_job.id}
    with transaction(factory) as session:
        everything = jobs.events_after(session, **wanted, after_id=0, limit=99)
        for index, event in enumerate(everything):
            rest = jobs.events_after(session, **wanted, after_id=event.id, limit=2)
            assert [e.id for e in rest] == [e.id for e in everything[index + 1 : index + 3]]
    assert len(everything) == 7


def test_a_reader_never_misses_an_event_of_a_slow_writer(factory, tenant_id, running_job):
    """A second writer must wait for the first, so ids appear in order: else `id > last seen` would skip one."""
    started, done = Event(), Event()

    def slow_writer():
        with transaction(factory) as session:
            jobs.record_warning(session, job_id=running_job.id, attempt=1, data={"from": "slow"})
            started.set()
            done.wait(1)  # the other writer is waiting for us meanwhile

    def fast_writer():
        with transaction(factory) as session:
            jobs.request_cancel(session, tenant_id=tenant_id, job_id=running_job.id)
        done.set()

    slow, fast = Thread(target=slow_writer), Thread(target=fast_writer)
    slow.start()
    started.wait()
    fast.start()
    seen, last = [], 0
    while True:
        writing = slow.is_alive() or fast.is_alive()
        with transaction(factory) as session:
            for event in jobs.events_after(session, tenant_id=tenant_id, job_id=running_job.id, after_id=last, limit=9):
                seen.append(event.data.get("state", event.type))
                last = event.id
        if not writing:
            break
    assert seen == ["queued", "running", "warning", "cancelling"]
