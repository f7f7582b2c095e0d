"""The Celery app: `celery -A worker.app worker --pool threads --concurrency 1 -Q modeconn --loglevel INFO`.

Messages are hints (see store/queue.py): they are acknowledged before the work, carry an id and nothing else, and
leave no result behind. Postgres says what is to be done.
"""

import os
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import worker_init, worker_ready, worker_shutting_down

from store.queue import JOB_TASK, QUEUE, SELECTION_TASK
from store.settings import get_settings
from worker import housekeeping, supervise
from worker.child import start_forkserver
from worker.room import Room, make_room

app = Celery("modeconn", set_as_current=False)


@app.add_defaults
def configuration() -> dict[str, Any]:
    """Read when Celery needs it first, so that importing this module needs no environment."""
    return {
        "broker_url": get_settings().redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever
        "broker_transport_options": {
            "socket_connect_timeout": 10,
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_default_queue": QUEUE,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # a message waits in Redis, where an idle worker finds it
    }


_SECRETS = ("DATABASE_URL", "REDIS_URL")


class _Desk:
    """Where the tasks find this process's room."""

    room: Room


@worker_init.connect
def _open(**_: object) -> None:
    settings = get_settings()
    _Desk.room = make_room(settings)
    for secret in _SECRETS:
        os.environ.pop(secret, None)  # it is read: what a job's child inherits holds no password
    start_forkserver(settings.storage_root, settings.device)


@worker_ready.connect
def _ready(**_: object) -> None:
    housekeeping.start(_Desk.room)


@worker_shutting_down.connect
def _leave(**_: object) -> None:
    """Runs inside the handler of SIGTERM or Ctrl-C: the watch sees the switch, ends the child, releases the lease."""
    _Desk.room.stop.set()


@app.task(name=JOB_TASK)
def run_job(job_id: str) -> None:
    """Run one attempt at a repair job, if it needs one."""
    supervise.run_job(UUID(job_id), _Desk.room)


@app.task(name=SELECTION_TASK)
def run_selection(selection_id: str) -> None:
    """Export one selection (another t of a finished job), if it needs it."""
    supervise.run_selection(UUID(selection_id), _Desk.room)
