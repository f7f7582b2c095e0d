"""Messages to workers: a real Redis takes them, a dead one costs a False and nothing more."""

import base64
import json
from uuid import uuid4

import redis

from store import queue


def test_a_message_names_the_task_and_the_job(redis_url):
    job_id, selection_id = uuid4(), uuid4()
    assert queue.send_job(redis_url, job_id)
    assert queue.send_selection(redis_url, selection_id)
    assert queue.queue_length(redis_url) == 2
    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(client.rpop(queue.QUEUE)) for _ in range(2)]
    sent = [(message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0]) for message in messages]
    assert sent == [("modeconn.run_job", [str(job_id)]), ("modeconn.run_selection", [str(selection_id)])]


def test_a_dead_redis_is_reported_not_raised():
    nobody = "redis://127.0.0.1:1/0"  # nothing listens on port 1
    assert not queue.send_job(nobody, uuid4())
    assert not queue.queue_alive(nobody)
    assert queue.queue_length(nobody) is None


def test_sending_works_again_after_redis_dropped_its_connections(redis_url):
    assert queue.send_job(redis_url, uuid4())
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert queue.send_job(redis_url, uuid4())
    assert queue.queue_alive(redis_url)
    assert queue.queue_length(redis_url) == 2
