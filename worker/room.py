"""What one worker process has at hand: settings, database, storage, its name, and the switch that stops it."""

import os
import socket
import threading
from dataclasses import dataclass, field

from store.database import SessionFactory, make_engine, session_factory
from store.settings import Settings
from store.storage import LocalStorage


class StopSwitch:
    """Says that the worker is leaving: an event to ask, and a file descriptor to wait for together with others."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._file

    def set(self) -> None:
        """Safe inside a signal handler."""
        self.event.set()
        os.eventfd_write(self._file, 1)

    def is_set(self) -> bool:
        return self.event.is_set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The worker's own things, made once when it starts."""

    settings: Settings
    factory: SessionFactory
    storage: LocalStorage
    worker: str
    stop: StopSwitch = field(default_factory=StopSwitch)


def make_room(settings: Settings) -> Room:
    return Room(
        settings=settings,
        factory=session_factory(make_engine(settings.database_url, pool_size=2)),
        storage=LocalStorage(settings.storage_root),
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )
