"""The schema: one head, the same as the models, and it goes up and down on a database in use."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, inspect

from migrations import alembic_config
from store import jobs
from store.database import SessionFactory, transaction
from store.tables import Base
from tests.store.conftest import analysis_point, curve_point
from tests.store.rows import ROWS, contents, fill


def tables_of(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def without_jobs(rows: dict[str, list[dict[str, Any]]], *kinds: str) -> dict[str, list[dict[str, Any]]]:
    """What is left of the rows when all jobs of these kinds go, with all that belongs to them."""
    gone = {row["id"] for row in rows["jobs"] if row["kind"] in kinds}
    return {
        table: [row for row in held if not gone & {row.get("job_id"), row["id"] if table == "jobs" else None}]
        for table, held in rows.items()
    }


def without_diagnoses(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return without_jobs(rows, "diagnosis")


def without_analyses(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What is left of the rows when all but repairs go, and the second paths."""
    left = without_jobs(rows, "analysis", "diagnosis")
    return left | {"curve_points": [row for row in left["curve_points"] if row["path"] == "main"]}


def without_limits(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What is left when scopes, limits and compute are forgotten; what is stored is counted again, by uploads."""
    limits = ("max_stored_bytes", "max_queued_jobs", "max_running_jobs", "max_compute_seconds")
    stored = sum(row["bytes"] for row in rows["files"])
    return rows | {
        "tenants": [row | dict.fromkeys(limits) | {"stored_bytes": stored} for row in rows["tenants"]],
        "api_keys": [row | {"scopes": ["read", "write", "keys"]} for row in rows["api_keys"]],
        "files": [row | {"canonical_bytes": row["bytes"]} for row in rows["files"]],
        "jobs": [row | {"held_back_at": None} for row in rows["jobs"]],
        "compute_spans": [],
    }


def without_partial_uploads(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What is left when resumable uploads are given up, with the bytes that they had reserved."""
    reserved = sum(row["bytes"] for row in rows["partial_uploads"])
    stored = [row | {"stored_bytes": row["stored_bytes"] - reserved} for row in rows["tenants"]]
    return rows | {"partial_uploads": [], "tenants": stored}


def without_confidence(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return rows | {"curve_points": [row | {"clean_confidence": None} for row in rows["curve_points"]]}


LOST_ON_THE_WAY_DOWN = {
    "0002": without_analyses,
    "0004": without_limits,
    "0005": without_partial_uploads,
    "0006": without_confidence,
    "0007": without_diagnoses,
}


def test_there_is_one_head():
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1


def test_models_and_migrations_agree(database_url):
    command.check(alembic_config(database_url))


def test_a_changed_model_is_noticed(database_url, engine: Engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN seed")
    with pytest.raises(Exception, match="New upgrade operations detected"):
        command.check(alembic_config(database_url))


def test_every_table_has_a_row_in_what_follows():
    assert ROWS.keys() == Base.metadata.tables.keys()
    assert all(ROWS.values())


def test_down_and_up_again_on_a_filled_database(database_url, engine: Engine):
    fill(engine)
    engine.dispose()
    config = alembic_config(database_url)
    command.downgrade(config, "base")
    assert tables_of(database_url) == set()
    command.upgrade(config, "head")
    assert tables_of(database_url) == set(Base.metadata.tables)
    fill(engine)


def test_each_step_down_and_up_again_loses_what_it_says_and_nothing_else(database_url, engine: Engine):
    """Steps that lose nothing are not named here: a new one that does must be, and say so in its docstring."""
    fill(engine)
    config = alembic_config(database_url)
    expected = contents(engine)
    for step in ScriptDirectory.from_config(config).walk_revisions():
        if step.down_revision is None:
            break
        engine.dispose()
        command.downgrade(config, step.down_revision)
        command.upgrade(config, "head")
        if step.revision in LOST_ON_THE_WAY_DOWN:
            expected = LOST_ON_THE_WAY_DOWN[step.revision](expected)
        assert contents(engine) == expected, f"after the way down from {step.revision} and up again"


def test_a_key_with_fewer_scopes_is_revoked_on_the_way_down_and_not_set_free(database_url, engine: Engine):
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET revoked_at = NULL")
    engine.dispose()
    config = alembic_config(database_url)
    command.downgrade(config, "0003")
    command.upgrade(config, "head")
    assert contents(engine)["api_keys"][0]["revoked_at"] is not None


def test_the_way_down_says_what_it_removes(database_url, engine: Engine, caplog):
    fill(engine)
    engine.dispose()
    command.downgrade(alembic_config(database_url), "0001")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "removed for good: 1 diagnoses with all that belongs to them",
        "given up: 1 resumable uploads that were not whole",
        "revoked for good: 0 keys with fewer than all scopes; forgotten: limits and compute",
        "removed for good: 1 analyses with all that belongs to them, 1 curve points of second paths",
    ]


def test_what_the_first_schema_holds_survives_the_way_up(database_url, engine: Engine):
    """Rows written under the oldest schema are there, value by value, under the newest."""
    engine.dispose()
    config = alembic_config(database_url)
    command.downgrade(config, "0001")
    old = MetaData()
    old.reflect(engine)
    written = {}
    with engine.begin() as connection:
        for table in (each for each in old.sorted_tables if each.name != "alembic_version"):
            rows = without_analyses(ROWS)[table.name]
            written[table.name] = [{column.name: row[column.name] for column in table.columns} for row in rows]
            connection.execute(table.insert(), written[table.name])
    engine.dispose()
    command.upgrade(config, "head")
    now = contents(engine)
    for name, rows in written.items():
        assert rows, f"{name} needs a row"
        assert [{column: row[column] for column in rows[0]} for row in now[name]] == rows


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
