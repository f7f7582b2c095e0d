"""A job's events as they happen: server-sent events that survive a broken connection without a gap."""

import json
import time
from collections.abc import Iterator

import httpx
from httpx_sse import EventSource

from client.errors import Unreachable
from client.models import TERMINAL, Event
from client.transport import Transport, raise_for

PAUSE = 0.5  # seconds before a lost stream is opened again
SILENT_STREAMS = 20  # streams in a row that end without one event, before we give up


def follow(transport: Transport, path: str, *, after: str | None = None) -> Iterator[Event]:
    """Every event after `after` (all by default), up to and including the terminal one.

    A lost connection is taken up again from the last event seen (Last-Event-ID).
    Raises `Unreachable` or a `Problem` when the service cannot be reached again.
    """
    last, silent = after, 0
    while silent < SILENT_STREAMS:
        with transport.named_errors():
            response = transport.retrying()(_open, transport, path, last)
        silent += 1
        try:
            for message in EventSource(response).iter_sse():
                if not message.id or message.event == "message":
                    continue
                last, silent = message.id, 0
                yield Event(id=message.id, type=message.event, data=json.loads(message.data or "{}"))
                if message.event in TERMINAL:
                    return
        except httpx.TransportError:
            pass  # lost on the way: taken up again below, from `last`
        finally:
            response.close()
        time.sleep(PAUSE)
    raise Unreachable(
        f"The event stream of {path} keeps ending without a word. The job goes on; ask for its state instead."
    )


def _open(transport: Transport, path: str, last: str | None) -> httpx.Response:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last:
        headers["Last-Event-ID"] = last
    response = transport.http.send(transport.http.build_request("GET", path, headers=headers), stream=True)
    try:
        raise_for(response)
    except Exception:
        response.close()
        raise
    return response
