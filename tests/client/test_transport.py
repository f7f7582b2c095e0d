"""Retries never do a thing twice, and every refusal becomes an error that says what to do."""

import json
import socket

import pytest

from client import Client, NotAuthorised, NotFound, Refused, ServerError, TooManyRequests, Unreachable
from client.transport import Transport

PROBLEM = {"type": "/problems/unknown-architecture", "title": "Unknown", "detail": "No such.", "nearest": ["resnet18"]}


def test_a_post_is_sent_again_with_the_same_idempotency_key(server, send):
    def busy_once(handler, seen, n):
        send(handler, 503 if n == 0 else 200, b"{}", Retry_After="0")

    server.answer = busy_once
    Transport(server.url, "k").request("POST", "/repair", json={"a": 1})

    assert [seen.body for seen in server.seen] == [b'{"a":1}'] * 2
    assert len({seen.headers["Idempotency-Key"] for seen in server.seen}) == 1


def test_a_broken_connection_is_tried_again(server, send):
    def hang_up_once(handler, seen, n):
        if n > 0:
            send(handler, 200, b'{"ok": true}')

    server.answer = hang_up_once
    assert Transport(server.url, "k").request("GET", "/x").json() == {"ok": True}
    assert len(server.seen) == 2


def test_an_upload_is_streamed_again_from_its_start(server, send, tmp_path):
    stored = {"id": "f1", "kind": "model", "name": "m.pt", "bytes": 3, "sha256": "00"}
    server.answer = lambda handler, seen, n: send(
        handler, 503 if n == 0 else 201, json.dumps(stored).encode(), Retry_After="0"
    )
    path = tmp_path / "m.pt"
    path.write_bytes(b"x" * 3_000_000)
    with Client(server.url, "k") as client:
        assert client.upload(path, "model").id == "f1"
    assert [len(seen.body) for seen in server.seen] == [3_000_000] * 2


def test_the_first_try_still_running_is_waited_for(server, send):
    running = json.dumps({"type": "/problems/idempotency-key-in-use", "title": "In use"}).encode()
    server.answer = lambda handler, seen, n: send(
        handler, 409 if n == 0 else 202, running if n == 0 else b"{}", Retry_After="0"
    )
    assert Transport(server.url, "k").request("POST", "/repair", json={}).status_code == 202


def test_another_conflict_is_not_tried_again(server, send):
    unfinished = json.dumps({"type": "/problems/job-not-finished", "title": "Not finished"}).encode()
    server.answer = lambda handler, seen, n: send(handler, 409, unfinished, Retry_After="0")
    with pytest.raises(Refused, match="Not finished"):
        Transport(server.url, "k").request("GET", "/repair/1/weights")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotAuthorised), (404, NotFound), (422, Refused), (429, TooManyRequests), (503, ServerError)],
)
def test_a_problem_becomes_a_typed_error_with_all_its_members(server, send, status, kind):
    server.answer = lambda handler, seen, n: send(handler, status, json.dumps(PROBLEM).encode(), Retry_After="0")
    with pytest.raises(kind) as caught:
        Transport(server.url, "k", attempts=2).request("POST", "/repair", json={})
    assert caught.value.type == "unknown-architecture"
    assert caught.value.extra == {"nearest": ["resnet18"]}
    assert str(caught.value) == "Unknown: No such."
    assert len(server.seen) == (2 if status in (429, 503) else 1)


def test_a_long_retry_after_is_left_to_the_caller(server, send):
    server.answer = lambda handler, seen, n: send(handler, 429, json.dumps(PROBLEM).encode(), Retry_After="3600")
    with pytest.raises(TooManyRequests):
        Transport(server.url, "k").request("GET", "/x")
    assert len(server.seen) == 1


def test_an_answer_of_a_proxy_is_a_problem_too(server, send):
    server.answer = lambda handler, seen, n: send(handler, 403, b"<h1>go away</h1>")
    with pytest.raises(NotAuthorised, match=r"403.*go away"):
        Transport(server.url, "k").request("GET", "/x")


def test_nobody_there_names_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unreachable, match=url):
            Transport(url, "k", attempts=2).request("GET", "/x")
