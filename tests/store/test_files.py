"""File rows: a tenant's own, protected while a job needs them, gone in two steps so that no bytes are forgotten."""

from datetime import timedelta

import pytest

from store import files, jobs
from store.database import transaction
from store.errors import FileInUse

SHORT = timedelta(microseconds=1)


@pytest.fixture
def get(factory, tenant_id):
    def load(file_id, owner=None):
        with transaction(factory) as session:
            return files.get_file(session, tenant_id=owner or tenant_id, file_id=file_id)

    return load


@pytest.fixture
def delete(factory, tenant_id):
    def delete_now(file_id, owner=None):
        with transaction(factory) as session:
            return files.delete_file(session, tenant_id=owner or tenant_id, file_id=file_id)

    return delete_now


def test_a_file_is_its_tenants_only(make_file, get, delete, other_tenant_id):
    file_id = make_file("model")
    assert get(file_id).facts == {"images": 3}
    assert get(file_id, other_tenant_id) is None
    assert not delete(file_id, other_tenant_id)
    assert get(file_id) is not None


def test_a_deleted_file_is_unknown_and_then_purged(factory, make_file, get, delete):
    file_id = make_file("model")
    assert delete(file_id)
    assert not delete(file_id)
    assert get(file_id) is None
    with transaction(factory) as session:
        assert [file.id for file in files.purgeable(session)] == [file_id]
        files.mark_purged(session, file_id=file_id)
        assert files.purgeable(session) == []


def test_a_living_file_is_never_purged(factory, make_file, get):
    file_id = make_file("model")
    with transaction(factory) as session:
        files.mark_purged(session, file_id=file_id)
    assert get(file_id).canonical_path is not None


@pytest.mark.parametrize("role", ["suspect_file_id", "clean_file_id", "triggered_file_id", "second_file_id"])
def test_a_file_cannot_be_deleted_while_a_job_needs_it(factory, tenant_id, make_file, make_job, delete, role):
    kind = {"clean_file_id": "clean", "triggered_file_id": "triggered"}.get(role, "model")
    file_id = make_file(kind)
    job = make_job(**{role: file_id})
    with pytest.raises(FileInUse) as caught:
        delete(file_id)
    assert caught.value.job_id == job.id
    with transaction(factory) as session:
        jobs.request_cancel(session, tenant_id=tenant_id, job_id=job.id)
    assert delete(file_id)


def test_expired_files_are_unknown_and_then_marked(factory, make_file, get):
    old, new = make_file("model", retention=SHORT), make_file("model")
    assert get(old) is None
    with transaction(factory) as session:
        assert files.expire(session) == [old]
        assert files.expire(session) == []
    assert get(new) is not None
