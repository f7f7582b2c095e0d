"""Watching one child: renew the lease, relay its reports, notice cancel, deadline, death and the worker's own end."""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from typing import Any

from store.database import DATABASE_AWAY
from store.errors import StaleFence
from worker.child import Child, Message
from worker.claimed import Claimed, Order
from worker.progress import ProgressMeter
from worker.room import StopSwitch

_PROGRESS_SECONDS = 0.5  # at most this often
_LONGEST_UNHEARD_CANCEL = 1.0
_DATABASE_PAUSE = 1.0
_GRACE = 0.5

log = logging.getLogger(__name__)


class How(StrEnum):
    """How a watch ended."""

    DONE = "done"  # message: result, artifacts
    PROBLEM = "problem"  # message: problem
    INTERRUPTED = "interrupted"  # message: reason; another attempt may fare better
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    STOPPED = "stopped"  # the worker is leaving
    STALE = "stale"  # somebody else holds it


@dataclass(frozen=True, slots=True)
class Ending:
    how: How
    message: Message


class Watch:
    """One child and the lease it works under."""

    def __init__(
        self, claimed: Claimed, child: Child, *, heartbeat_seconds: float, stall_seconds: float, stop: StopSwitch
    ) -> None:
        self._claimed = claimed
        self._child = child
        self._stop = stop
        self._beat_seconds = min(heartbeat_seconds, _LONGEST_UNHEARD_CANCEL)
        self._next_beat = time.monotonic()
        self._stall_seconds = stall_seconds
        self._last_heard = time.monotonic()
        self._meter = ProgressMeter()
        self._next_progress = time.monotonic()
        self._progress: dict[str, Any] | None = None  # the latest, not yet recorded
        self._stages: list[dict[str, Any]] = []
        self._points: list[dict[str, Any]] = []
        self._warnings: list[dict[str, Any]] = []
        self._ending: Ending | None = None

    def run(self) -> Ending:
        """Watch until something ends the work. The child may still live then: the caller kills it.

        A database that is away stops nothing: what is unrecorded waits, and if the lease was lost meanwhile the next
        write says so.
        """
        while True:
            self._wait()
            try:
                ending = self._attend()
            except StaleFence:
                return Ending(How.STALE, {})
            except DATABASE_AWAY as error:
                if self._stop.is_set():
                    return Ending(How.STOPPED, {})
                log.warning("%s: database does not answer, trying again: %s", self._claimed.label, _first_line(error))
                self._stop.event.wait(_DATABASE_PAUSE)
                continue
            if ending:
                return ending

    def _attend(self) -> Ending | None:
        dead = bool(wait([self._child.sentinel], timeout=0))  # asked first: its last words are in the pipe by then
        self._child.last_words.relay()
        for message in self._child.waiting_messages():
            self._last_heard = time.monotonic()
            self._take(message)
        if self._ending:
            self._record(now=True)
            return self._ending
        if self._stop.event.wait(_GRACE if dead else 0):  # a TERM for the whole process group may reach us last
            return Ending(How.STOPPED, {})
        if dead:
            return self._interrupted(self._child.how_it_died())
        if time.monotonic() - self._last_heard > self._stall_seconds:
            return self._interrupted(f"The process that ran it said nothing for {self._stall_seconds:g} seconds.")
        self._record(now=time.monotonic() >= self._next_progress)
        return self._renew() if time.monotonic() >= self._next_beat else None

    def _interrupted(self, reason: str) -> Ending:
        return Ending(How.INTERRUPTED, {"reason": reason, "last_lines": self._child.last_words.lines()})

    def _take(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "progress":
            self._take_progress(message)
        elif kind == "point":
            self._points.append(message["point"])
        elif kind == "warning":
            self._warnings.append(message["warning"])
        else:
            self._ending = Ending(How(kind), message)

    def _take_progress(self, message: Message) -> None:
        stage_before = self._meter.stage
        self._progress = self._meter.read(message)
        if self._meter.stage != stage_before:
            log.info("%s: %s", self._claimed.label, self._meter.stage)
            self._stages.append(self._progress)
            self._progress = None

    def _record(self, *, now: bool) -> None:
        """Stages, warnings and points at once, progress when it is due. Forgotten only after the write."""
        while self._stages:
            self._claimed.record_progress(self._stages[0], event="stage")
            del self._stages[0]
        while self._warnings:
            self._claimed.record_warning(self._warnings[0])
            del self._warnings[0]
        if self._points:
            self._claimed.record_points(self._points)
            self._points = []
        if self._progress and now:
            self._claimed.record_progress(self._progress, event="progress")
            self._progress = None
            self._next_progress = time.monotonic() + _PROGRESS_SECONDS

    def _renew(self) -> Ending | None:
        order = self._claimed.renew()
        self._next_beat = time.monotonic() + self._beat_seconds
        if order is Order.CANCEL:
            return Ending(How.CANCELLED, {})
        return Ending(How.DEADLINE, {}) if order is Order.DEADLINE else None

    def _wait(self) -> None:
        """Until the child says something or dies, the worker leaves, or a duty is due."""
        due = min(self._next_beat, self._next_progress) if self._progress else self._next_beat
        heard: list[Connection | int] = [self._child.messages, self._child.sentinel, self._stop.fileno()]
        wait([*heard, *self._child.last_words.source], timeout=max(0.0, due - time.monotonic()))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
