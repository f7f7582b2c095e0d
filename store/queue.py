"""Messages to workers, through Celery on Redis. They are hints: the truth is in Postgres, and the sweep sends again."""

import logging
from functools import lru_cache
from uuid import UUID

import redis
from celery import Celery
from kombu.exceptions import OperationalError

QUEUE = "modeconn"
JOB_TASK = "modeconn.run_job"
SELECTION_TASK = "modeconn.run_selection"
TIMEOUT_SECONDS = 2.0
ONE_MORE_TRY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0, "interval_max": 0.0}

log = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def _producer(redis_url: str) -> Celery:
    """A Celery app that only sends, and gives up on a silent Redis within seconds."""
    app = Celery("modeconn-producer", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_connection_timeout=TIMEOUT_SECONDS,
        broker_transport_options={
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "socket_timeout": TIMEOUT_SECONDS,
            **ONE_MORE_TRY,  # a pooled connection may have died since it was last used
        },
    )
    return app


def _send(redis_url: str, task: str, entity_id: UUID) -> bool:
    try:
        _producer(redis_url).send_task(
            task, args=[str(entity_id)], queue=QUEUE, ignore_result=True, retry=True, retry_policy=ONE_MORE_TRY
        )
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("%s %s was not sent, the sweep will send it: %s", task, entity_id, error)
        return False
    return True


def send_job(redis_url: str, job_id: UUID) -> bool:
    """Tell the workers of a job; False when Redis did not take the message."""
    return _send(redis_url, JOB_TASK, job_id)


def send_selection(redis_url: str, selection_id: UUID) -> bool:
    """Tell the workers of a selection; False when Redis did not take the message."""
    return _send(redis_url, SELECTION_TASK, selection_id)


def _client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)


def queue_alive(redis_url: str) -> bool:
    """Redis answers."""
    try:
        with _client(redis_url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def queue_length(redis_url: str) -> int | None:
    """Messages that no worker has taken yet; None when Redis does not answer."""
    try:
        with _client(redis_url) as client:
            return int(client.llen(QUEUE))
    except redis.RedisError:
        return None
