"""The client for programs that run on an event loop (asyncio or trio): the same methods, awaited.

async with AsyncClient("http://127.0.0.1:8000", key) as client:
    repair = await client.repair(Path("suspect.safetensors"), Path("clean.zip"), RepairSettings())
    async for event in repair.events():
        print(event.type)
    await repair.download(Path("repaired.safetensors"))

Each call runs in a thread of its own, so that uploads, retries and downloads are those of `Client`. A call that is
cancelled is abandoned: its thread ends when the service next answers, and nothing is done after that.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from anyio.to_thread import run_sync

from client.models import (
    CurvePoint,
    DiagnosisResult,
    Event,
    Job,
    JobSettings,
    Preflight,
    Quota,
    RepairSettings,
    StoredFile,
)
from client.repair import Repair
from client.sdk import Client, Input, Kind

T = TypeVar("T")


async def _run(work: Callable[..., T], *arguments: object, **named: object) -> T:
    return await run_sync(partial(work, *arguments, **named), abandon_on_cancel=True)


async def _each(items: Iterator[T]) -> AsyncIterator[T]:
    """What an iterator gives, each waited for in a thread."""
    end = object()
    while (item := await _run(next, items, end)) is not end:
        yield item


class AsyncRepair:
    """One repair; see `client.Repair`."""

    def __init__(self, repair: Repair) -> None:
        self.sync = repair

    @property
    def id(self) -> str:
        """The job's id."""
        return self.sync.id

    @property
    def job(self) -> Job:
        """What the service said last."""
        return self.sync.job

    async def refresh(self) -> Job:
        """Asks the service again."""
        return await _run(self.sync.refresh)

    def events(self, *, after: str | None = None) -> AsyncIterator[Event]:
        """Its events from the start (or after an event's id), as they happen, up to the terminal one."""
        return _each(self.sync.events(after=after))

    async def wait(self, on_event: Callable[[Event], None] | None = None) -> Job:
        """Follows the job to its end. Raises `JobFailed` or `JobCancelled`. `on_event` is called on the loop."""
        async for event in self.events():
            if on_event:
                on_event(event)
        return await _run(self.sync.outcome)

    async def curve(self) -> list[CurvePoint]:
        """The points evaluated so far, by t."""
        return await _run(self.sync.curve)

    async def download(self, target: Path, *, t: float | None = None) -> Path:
        """The repaired weights, or those at another `t`."""
        return await _run(self.sync.download, target, t=t)

    async def download_artifact(self, name: str, target: Path) -> Path:
        """A file that the job made."""
        return await _run(self.sync.download_artifact, name, target)

    async def cancel(self) -> Job:
        """Asks for the end."""
        return await _run(self.sync.cancel)

    async def retry(self) -> "AsyncRepair":
        """A new job with the same request."""
        return AsyncRepair(await _run(self.sync.retry))


class AsyncClient:
    """A connection to one service under one key; see `client.Client`."""

    def __init__(self, base_url: str, key: str | None, *, attempts: int = 5) -> None:
        self.sync = Client(base_url, key, attempts=attempts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.close()

    async def upload(self, path: Path, kind: Kind) -> StoredFile:
        """Streams a file, or a folder of class folders as a zip."""
        return await _run(self.sync.upload, path, kind)

    def files(self, *, kind: Kind | None = None, limit: int | None = None) -> AsyncIterator[StoredFile]:
        """This key's files, newest first."""
        return _each(self.sync.files(kind=kind, limit=limit))

    async def repair(
        self,
        suspect: Input,
        clean: Input,
        settings: RepairSettings,
        *,
        triggered: Input | None = None,
        second_model: Input | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncRepair:
        """Starts a repair; paths are uploaded first."""
        files = {"triggered": triggered, "second_model": second_model}
        return AsyncRepair(
            await _run(self.sync.repair, suspect, clean, settings, idempotency_key=idempotency_key, **files)
        )

    async def preflight(
        self,
        suspect: Input,
        clean: Input,
        settings: RepairSettings,
        *,
        triggered: Input | None = None,
        second_model: Input | None = None,
    ) -> Preflight:
        """Checks all that `repair` would check, but starts nothing."""
        files = {"triggered": triggered, "second_model": second_model}
        return await _run(self.sync.preflight, suspect, clean, settings, **files)

    async def diagnose(self, suspect: Input, clean: Input, settings: JobSettings) -> DiagnosisResult:
        """How the model does on the clean images; waits for it. Raises `JobFailed` or `JobCancelled`."""
        diagnosis = await _run(self.sync.diagnose, suspect, clean, settings)
        result = (await _run(diagnosis.wait)).result
        assert result is not None, "it has succeeded"
        return result

    async def job(self, job_id: str) -> AsyncRepair:
        """A repair by its id."""
        return AsyncRepair(await _run(self.sync.job, job_id))

    def jobs(
        self, *, state: str | None = None, label: tuple[str, str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Job]:
        """This key's repairs, newest first."""
        return _each(self.sync.jobs(state=state, label=label, limit=limit))

    async def quota(self) -> Quota:
        """What this key's tenant uses of what it may."""
        return await _run(self.sync.quota)
