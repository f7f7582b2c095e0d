"""`python -m client.serving.guard`: waits for the end of `modeconn serve`, then stops what that left running."""

import json
import signal
import sys
from collections.abc import Iterable

import psutil

from client.serving.parts import Part


def read_parts(lines: Iterable[str]) -> list[Part]:
    """The parts written to the pipe, up to its end. Each process is looked up at once: a reused pid is told apart."""
    parts = []
    for line in lines:
        entry = json.loads(line)
        try:
            process = psutil.Process(entry["pid"])
        except psutil.NoSuchProcess:
            continue
        parts.append(
            Part(name=entry["name"], process=process, stop_signal=signal.Signals(entry["signal"]), grace=entry["grace"])
        )
    return parts


def main() -> None:
    """Reads until the pipe closes, then stops every part that still runs, last started first."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for part in reversed(read_parts(sys.stdin)):
        part.stop()


if __name__ == "__main__":
    main()
