"""Stored files that no row names: what a crash left between a file and its row, and what late writers wrote."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import IS_ACTIVE, Artifact, File, Job, Selection, Tenant


def first_tenant_at(session: Session) -> datetime | None:
    """Since when this database may have named files. Older ones belong to another database: hands off."""
    return session.scalar(select(func.min(Tenant.created_at)))


def without_a_row(session: Session, names: Sequence[str]) -> list[str]:
    """Those of the stored files (storage names) that no row names.

    Nothing of a job that has not ended, or of which a selection has not, is among them: their workers write there.
    Ask only about files that are too old to get their row any moment.
    """
    owners = {name: owner for name in names if (owner := _owner(name)) is not None}
    ids = set(owners.values())
    paths = set(session.scalars(select(File.canonical_path).where(File.id.in_(ids))))
    paths |= set(session.scalars(select(Artifact.path).where(Artifact.job_id.in_(ids))))
    at_work = set(session.scalars(select(Job.id).where(Job.id.in_(ids), IS_ACTIVE)))
    not_ended = Selection.state.in_(("queued", "running"))
    at_work |= set(session.scalars(select(Selection.job_id).where(Selection.job_id.in_(ids), not_ended)))
    return [name for name, owner in owners.items() if name not in paths and owner not in at_work]


def _owner(name: str) -> UUID | None:
    """The upload or job in whose folder the file lies; None where the folder is neither's."""
    parts = name.split("/")
    try:
        return UUID(parts[2] if parts[0] == "files" else parts[1])
    except (ValueError, IndexError):
        return None
