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


def test_the_command_works_from_any_folder_and_twice_at_once(empty_database_url, tmp_path: Path):
    environment = {**os.environ, "DATABASE_URL": empty_database_url}
    line = [sys.executable, "-m", "migrations", "upgrade", "head"]
    both = [subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert tables_of(empty_database_url) == set(Base.metadata.tables)
