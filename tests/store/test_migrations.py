"""The schema: one head, the same as the models, and it goes up and down on a database in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from migrations import alembic_config
from store import jobs
from store.database import SessionFactory, transaction
from store.tables import Base
from tests.store.conftest import analysis_point, curve_point


def tables_of(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_there_is_one_head():
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1


def test_models_and_migrations_agree(database_url):
    command.check(alembic_config(database_url))


def test_a_changed_model_is_noticed(database_url, engine: Engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN seed")
    with pytest.raises(Exception, match="New upgrade operations detected"):
        command.check(alembic_config(database_url))


def test_down_and_up_again_on_a_filled_database(database_url, factory: SessionFactory, running_job, engine: Engine):
    with transaction(factory) as session:
        jobs.record_warning(session, job_id=running_job.id, attempt=1, data={"text": "x"})
    engine.dispose()
    config = alembic_config(database_url)
    command.downgrade(config, "base")
    assert tables_of(database_url) == set()
    command.upgrade(config, "head")
    assert tables_of(database_url) == set(Base.metadata.tables)


def test_repairs_outlive_the_way_to_the_schema_without_analyses_and_back(
    database_url, factory: SessionFactory, tenant_id, running_job, running_analysis, make_job, engine: Engine
):
    labelled = make_job(labels={"team": "b"}, request={"suspect": "x", "method": {"bends": 1}})
    with transaction(factory) as session:
        points = [curve_point(0.5), curve_point(0.5, path="unaligned")]
        jobs.record_points(session, job_id=running_job.id, attempt=1, points=points)
        points = [analysis_point("standard", 0.5)]
        jobs.record_analysis_points(session, job_id=running_analysis.id, attempt=1, points=points)
    engine.dispose()
    config = alembic_config(database_url)
    command.downgrade(config, "0001")
    command.upgrade(config, "head")
    own = {"tenant_id": tenant_id}
    with transaction(factory) as session:
        curve = jobs.curve(session, **own, job_id=running_job.id)
        assert [(point.path, point.t) for point in curve] == [("main", 0.5)]
        labels = jobs.list_jobs(session, **own, kind="repair", label=("team", "b"), limit=9)[0]
        assert [job.id for job in labels] == [labelled.id]
        assert labels[0].request == {"suspect": "x", "method": {"bends": 1, "plane": 0}, "tampering": "backdoor"}
        assert jobs.list_jobs(session, **own, kind="analysis", limit=9) == ([], None)
        assert jobs.get_job(session, **own, job_id=running_job.id).state == "running"


def test_the_command_works_from_any_folder_and_twice_at_once(empty_database_url, tmp_path: Path):
    environment = {**os.environ, "DATABASE_URL": empty_database_url}
    line = [sys.executable, "-m", "migrations", "upgrade", "head"]
    both = [subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert tables_of(empty_database_url) == set(Base.metadata.tables)
