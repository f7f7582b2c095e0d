"""What a child prints (warnings, and what the interpreter says when it crashes): to the worker's log, its end kept."""

import os
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection

_KEPT_LINES = 20
_KEPT_CHARACTERS = 300  # of each line
_BATCH_BYTES = 1 << 16
_STDERR = 2


class LastWords:
    """The reading end of the child's stdout and stderr."""

    def __init__(self, pipe: Connection) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._unfinished = b""

    @property
    def source(self) -> list[Connection]:
        """What becomes readable when the child prints; nothing once it cannot print any more."""
        return [] if self._pipe.closed else [self._pipe]

    def relay(self) -> None:
        """Pass on what has been printed, without waiting for more."""
        with suppress(BlockingIOError):
            while not self._pipe.closed:
                printed = os.read(self._pipe.fileno(), _BATCH_BYTES)
                if not printed:
                    self.close()
                    return
                os.write(_STDERR, printed)
                *whole, self._unfinished = (self._unfinished + printed).split(b"\n")
                self._unfinished = self._unfinished[-_BATCH_BYTES:]
                self._lines.extend(map(_readable, whole))

    def lines(self) -> list[str]:
        """The last lines so far, the newest at the end."""
        rest = [_readable(self._unfinished)] if self._unfinished else []
        return [line for line in [*self._lines, *rest] if line][-_KEPT_LINES:]

    def close(self) -> None:
        self._pipe.close()


def _readable(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:_KEPT_CHARACTERS]
