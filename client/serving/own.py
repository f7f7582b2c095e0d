"""A service for one command alone: started in a folder that goes with it."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import Unreachable
from client.local import KEY_FILE, Place
from client.serving.embedded import CannotServe
from client.serving.stack import Stack, Stopped, only_one, stop_signals

LOCALHOST = "127.0.0.1"


@contextmanager
def own_service(say: Callable[[str], None]) -> Iterator[Place]:
    """The place of a service with one worker that keeps all it has in a temporary folder; both end with the block.

    Raises `CannotServe`, also where a part ends by itself and nothing answers any more, and KeyboardInterrupt where a
    signal asks for the end while it starts.
    """
    with tempfile.TemporaryDirectory(prefix="modeconn-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        with only_one(data) as lock:
            stack = Stack(data, LOCALHOST, 0, 1, say, lock)
            stack.environment["TMPDIR"] = folder  # what a part that is killed leaves behind goes, too
            try:
                try:
                    with stop_signals(stack.asked_to_stop):
                        stack.up()
                except Stopped:
                    raise KeyboardInterrupt from None
                with _watched(stack):
                    yield Place(stack.url, (data / KEY_FILE).read_text().strip())
            finally:
                with stop_signals(stack.asked_to_stop):  # a second Ctrl-C must not leave half of it running
                    stack.down()


@contextmanager
def _watched(stack: Stack) -> Iterator[None]:
    """Looks after the parts in a thread. What cannot go on ends, so that nobody waits for it, and then says why."""
    reasons: list[CannotServe] = []

    def watch() -> None:
        try:
            stack.watch()
        except CannotServe as reason:
            reasons.append(reason)
            stack.down()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    except Unreachable:
        if reasons:
            raise reasons[0] from None
        raise
    finally:
        stack.asked_to_stop.set()
        thread.join()
