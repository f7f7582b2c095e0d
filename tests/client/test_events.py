"""The event stream comes through broken connections without a gap and without a repeat."""

import pytest

from client import NotFound
from client.events import follow
from client.transport import Transport

HISTORY = [(1, "state"), (2, "stage"), (3, "progress"), (4, "point"), (5, "succeeded")]


def stream(handler, events) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    handler.wfile.write(b": hello\nretry: 1000\n\n")
    for number, kind in events:
        handler.wfile.write(f'id: {number}\nevent: {kind}\ndata: {{"n": {number}}}\n\n'.encode())


def test_all_events_come_up_to_the_last(server):
    server.answer = lambda handler, seen, n: stream(handler, HISTORY)
    events = list(follow(Transport(server.url, "k"), "/events"))
    assert [(int(event.id), event.type) for event in events] == HISTORY
    assert [event.data for event in events] == [{"n": n} for n, _ in HISTORY]
    assert "Last-Event-ID" not in server.seen[0].headers


def test_a_lost_stream_goes_on_after_the_last_event_seen(server, send):
    def two_at_a_time(handler, seen, n):
        if n == 1:
            send(handler, 503, b"", Retry_After="0")
            return
        after = int(seen.headers.get("Last-Event-ID", 0))
        stream(handler, HISTORY[after : after + 2])

    server.answer = two_at_a_time
    assert [int(event.id) for event in follow(Transport(server.url, "k"), "/events")] == [1, 2, 3, 4, 5]
    assert [seen.headers.get("Last-Event-ID") for seen in server.seen] == [None, "2", "2", "4"]


def test_a_half_sent_event_is_not_an_event(server):
    def cut_in_the_middle(handler, seen, n):
        if n == 0:
            stream(handler, HISTORY[:1])
            handler.wfile.write(b'id: 2\nevent: stage\ndata: {"n"')
        else:
            stream(handler, HISTORY[1:])

    server.answer = cut_in_the_middle
    assert [int(event.id) for event in follow(Transport(server.url, "k"), "/events")] == [1, 2, 3, 4, 5]


def test_an_unknown_job_is_an_error_at_once(server, send):
    server.answer = lambda handler, seen, n: send(handler, 404, b'{"title": "No such job"}')
    with pytest.raises(NotFound):
        list(follow(Transport(server.url, "k"), "/events"))
    assert len(server.seen) == 1
