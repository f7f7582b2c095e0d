"""Looks whether the parts that the API needs answer."""

import os

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import Parts
from api.errors import ApiError
from api.health.schemas import Ready, SandboxState
from store import queue
from store.database import transaction


def ready(parts: Parts) -> Ready:
    """Every part that a request needs. Raises ApiError `not-ready` with what each of them said."""
    checks = {
        "database": _database(parts),
        "queue": "ok" if queue.queue_alive(parts.settings.redis_url) else "Redis does not answer",
        "storage": "ok" if os.access(parts.storage.root, os.W_OK) else "the storage folder cannot be written",
        "inspector": "ok" if parts.inspector.ready else "the architecture inspector is starting",
        "server": "the server is stopping" if parts.stopping.is_set() else "ok",
    }
    if any(said != "ok" for said in checks.values()):
        failed = "; ".join(f"{part}: {said}" for part, said in checks.items() if said != "ok")
        raise ApiError("not-ready", f"{failed}.", headers={"Retry-After": "2"}, checks=checks)
    return Ready.model_validate({"checks": checks, "sandbox": SandboxState.model_validate(parts.sandbox)})


def _database(parts: Parts) -> str:
    """Whether it answers and has the tables of this version."""
    try:
        with transaction(parts.factory) as session:
            session.execute(text("SELECT id FROM jobs LIMIT 1"))
    except SQLAlchemyError as error:
        return f"the database does not answer or is not migrated ({type(error).__name__})"
    return "ok"
