"""What a run has done so far, kept by name, so that a run that was interrupted goes on bit for bit where it stood."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

State = dict[str, Any]  # tensors, numbers, words, None, and lists, tuples and dicts of them, as `torch.save` keeps them
Value = TypeVar("Value")


class Loop(Protocol):
    """Work in steps that can be left after any of them. ``done``: how many were taken; a state holds it too."""

    done: int

    def step(self) -> Any: ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


class Checkpoints:
    """Remembers finished parts of a run, and the middle of the one under way, and hands both out from time to time.

    A run must ask for its parts by the same names and in the same order each time; what depends on nothing but the
    run's arguments is remembered, everything in between is computed again.
    """

    def __init__(
        self,
        remembered: State | None = None,
        write: Callable[[State], None] | None = None,
        *,
        every_seconds: float = 8.0,
    ) -> None:
        """``remembered``: what ``write`` was given last, in the run that is to go on. ``write`` may keep the tensors no
        longer than the call; it is never called without a pause of ``every_seconds``: what an interruption costs."""
        self._parts: State = dict(remembered or {})
        self._write, self._every = write, every_seconds
        self._written = time.monotonic()

    def part(self, name: str, compute: Callable[[], Value]) -> Value:
        """The value of a part: remembered, or computed now and remembered. It must consist of what a State may hold."""
        if name in self._parts:
            value: Value = self._parts[name]
            return value
        value = compute()
        if self._write is not None:
            self._parts[name] = value
            self._offer(lambda: self._parts)
        return value

    def run(self, name: str, loop: Loop, *, until: int, on_step: Callable[[Any], None] = lambda _: None) -> None:
        """Take steps until ``loop.done`` is ``until``; ``on_step`` gets what each answered."""
        if name in self._parts:
            loop.load_state_dict(self._parts[name])
        while loop.done < until:
            on_step(loop.step())
            self._offer(lambda: {**self._parts, name: loop.state_dict()})
        if self._write is not None:
            self._parts[name] = copy.deepcopy(loop.state_dict())

    def _offer(self, state: Callable[[], State]) -> None:
        """Write, if it is time."""
        if self._write is not None and time.monotonic() - self._written >= self._every:
            self._write(state())
            self._written = time.monotonic()
