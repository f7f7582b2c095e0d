"""Asks the architecture inspector, a child process that may import torch as the API may not (JSON lines)."""

import asyncio
import contextlib
import hashlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from api.errors import ApiError
from api.logs import log
from api.metrics import Metrics

_START_SECONDS = 300.0  # it imports torch
_ANSWER_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
_KEPT_ANSWERS = 1_000
_LINE_BYTES = 64 << 20  # 20,000 tensors with long names stay far below
_COMMAND = (sys.executable, "-m", "modeconn_core.architectures")


class Inspector:
    """One inspector process, kept alive by `run`; questions go one at a time."""

    def __init__(self, metrics: Metrics, command: tuple[str, ...] = _COMMAND) -> None:
        self._metrics = metrics
        self._command = command
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._ready = asyncio.Event()
        self._known: dict[bytes, dict[str, Any]] = {}

    @property
    def ready(self) -> bool:
        """Whether the process has started and can be asked."""
        return self._ready.is_set()

    @property
    def pid(self) -> int | None:
        """The process id of the running inspector."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start the process and start it again whenever it ends, until cancelled; then end it."""
        while True:
            try:
                await self._live()
            except Exception as error:
                log("inspector did not start", level=logging.ERROR, error=error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _live(self) -> None:
        """One life of the process: from its start to its end."""
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES)
        self._metrics.inspector_starts.inc()
        try:
            async with asyncio.timeout(_START_SECONDS):
                greeting = await self._read(process)
            if greeting != {"ready": True}:
                raise RuntimeError(f"the inspector greeted with {greeting!r}")
            self._process = process
            self._ready.set()
            status = await process.wait()
            log("inspector ended", level=logging.WARNING, status=status)
        finally:
            self._ready.clear()
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question. What was asked before is known: an answer depends on nothing but its question.

        Raises ApiError `inspector-not-ready` while there is no process, and when it dies or does not answer in time.
        """
        line = json.dumps(question).encode() + b"\n"
        key = hashlib.sha256(line).digest()
        if key not in self._known:
            answer = await self._send(line)
            self._known[key] = answer
            if len(self._known) > _KEPT_ANSWERS:
                del self._known[next(iter(self._known))]
        return self._known[key]

    async def _send(self, line: bytes) -> dict[str, Any]:
        async with self._turn:
            process = self._process
            if process is None or process.stdin is None:
                raise _not_ready("It is starting.")
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    process.stdin.write(line)
                    await process.stdin.drain()
                    return await self._read(process)
            except BaseException as error:
                # Whatever it still says would answer the wrong question: `run` starts a fresh one.
                self._process = None
                self._ready.clear()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                if not isinstance(error, (TimeoutError, OSError, EOFError, ValueError)):
                    raise
                log("inspector failed", level=logging.ERROR, error=error)
                raise _not_ready("It did not answer and is being started again.") from error

    @staticmethod
    async def _read(process: Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise EOFError("the inspector closed its output")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("the inspector's answer is no object")
        return answer


def _not_ready(detail: str) -> ApiError:
    return ApiError("inspector-not-ready", detail, headers={"Retry-After": "2"})
