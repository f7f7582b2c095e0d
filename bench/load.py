"""How fast the API answers while 200 requests come each second, and how soon a posted job starts.

python -m bench.load
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import safetensors.torch
import torch
from PIL import Image
from sqlalchemy import insert, select

from bench.crowd import fill
from bench.results import keep
from bench.service import Service, running
from client import Client
from client.errors import JobCancelled
from client.models import RepairSettings
from client.repair import Repair
from modeconn_core.architectures import build
from store import keys
from store.database import session_factory, transaction
from store.tables import File, Job, JobEvent

ROWS = 100_000
POSTERS = 60  # tenants; each stays under its queue limit and its keys' rate
READERS = 30  # keys of the crowd's tenant
CONNECTIONS = 32
SHOWN = 2_000  # jobs that are asked for
MIXES = {"reads": 0.0, "a tenth posts": 0.1, "half posts": 0.5}
CLASSES = ("a", "b", "c")
REQUEST = (
    "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n{more}\r\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One answered request. `seconds`: from when it was due, so that a late start counts too."""

    method: str
    status: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stock:
    """Who asks for what."""

    readers: list[str]
    shown: list[UUID]
    posters: list[tuple[str, bytes]]  # key, body

    def requests(self, post_share: float) -> Iterator[tuple[str, bytes]]:
        """(method, whole request) for ever, that share of them posts."""
        generator = random.Random(0)
        readers, posters = itertools.cycle(self.readers), itertools.cycle(self.posters)
        while True:
            if generator.random() < post_share:
                key, body = next(posters)
                more = "Content-Type: application/json\r\n"
                head = REQUEST.format(method="POST", path="/repair", key=key, length=len(body), more=more)
                yield "POST", head.encode() + body
            else:
                path = f"/repair/{generator.choice(self.shown)}"
                yield "GET", REQUEST.format(method="GET", path=path, key=next(readers), length=0, more="").encode()


class Caller:
    """One kept connection: a request at a time, with as little work of its own as can be."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, request: bytes) -> int:
        """The status of the answer, read to its end."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length))
        return int(head.split(b" ", 2)[1])


async def load(port: int, requests: Iterator[tuple[str, bytes]], *, rate: float, seconds: float) -> list[Exchange]:
    """Sends `rate` requests each second, evenly, whether the earlier ones are answered or not."""
    idle: asyncio.Queue[Caller] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        caller = Caller(port)
        await caller.open()
        idle.put_nowait(caller)
    done: list[Exchange] = []
    loop = asyncio.get_running_loop()

    async def one(method: str, request: bytes, due: float) -> None:
        caller = await idle.get()
        status = await caller.ask(request)
        done.append(Exchange(method=method, status=status, seconds=loop.time() - due))
        idle.put_nowait(caller)

    start, tasks = loop.time() + 0.1, []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        tasks.append(asyncio.create_task(one(*next(requests), due)))
    await asyncio.gather(*tasks)
    return done


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    return sorted_values[max(0, -int(-share * len(sorted_values) // 1) - 1)]


def _summary(what: str, exchanges: Sequence[Exchange], method: str) -> dict[str, Any]:
    taken = sorted(1000 * each.seconds for each in exchanges if each.method == method)
    refused = sum(each.status >= 400 for each in exchanges if each.method == method)
    quantiles = {f"{100 * share:g} % ms": round(quantile(taken, share), 1) for share in (0.5, 0.95, 0.99)}
    return {"load": what, "request": method, "count": len(taken), "refused": refused, **quantiles}


def _files(folder: Path) -> tuple[Path, Path]:
    """A small untrained model and a few noisy pictures."""
    model = build("preact_resnet18", len(CLASSES), width=4).state_dict()
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in model.items()}, folder / "m.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in CLASSES:
        (folder / "clean" / name).mkdir(parents=True)
        for number in range(8):
            pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(folder / "clean" / name / f"{number}.png")
    return folder / "m.safetensors", folder / "clean"


SETTINGS = RepairSettings.model_validate(
    {"architecture": {"name": "preact_resnet18", "options": {"width": 4}}, "accept_low_accuracy": True}
)


def stock(service: Service) -> Stock:
    """Fills the service: the crowd's jobs, and tenants who have uploaded what they will post."""
    factory = session_factory(service.engine)
    with transaction(factory) as session:
        first = keys.ensure_tenant(session, name="first")
        key = keys.create_key(session, tenant_id=first, label="bench")[1]
    with Client(service.url, key) as client:
        model, clean = (
            client.upload(path, kind)
            for path, kind in zip(_files(service.folder), ("model", "clean"), strict=True)  # type: ignore[arg-type]
        )
    with transaction(factory) as session:
        crowd, neighbour = (keys.ensure_tenant(session, name=name) for name in ("crowd", "neighbour"))
        readers = [keys.create_key(session, tenant_id=crowd, label="bench")[1] for _ in range(READERS)]
        posters = [_poster(session, number, (UUID(model.id), UUID(clean.id))) for number in range(POSTERS)]
    fill(service.engine, rows=ROWS, tenant=crowd, neighbour=neighbour, suspect=UUID(model.id), clean=UUID(clean.id))
    with transaction(factory) as session:
        shown = session.scalars(select(Job.id).where(Job.tenant_id == crowd).limit(SHOWN)).all()
    return Stock(readers=readers, shown=list(shown), posters=posters)


def _poster(session: Any, number: int, uploads: tuple[UUID, UUID]) -> tuple[str, bytes]:
    """A new tenant who has the same two files: its key and what it posts."""
    tenant = keys.ensure_tenant(session, name=f"poster-{number}")
    ids = []
    for upload in uploads:
        columns = {
            column.name: getattr(session.get_one(File, upload), column.name) for column in File.__table__.columns
        }
        ids.append(uuid4())
        session.execute(insert(File).values(columns | {"id": ids[-1], "tenant_id": tenant}))
    body = {"suspect": str(ids[0]), "clean": str(ids[1]), **SETTINGS.model_dump(mode="json")}
    return keys.create_key(session, tenant_id=tenant, label="bench")[1], json.dumps(body).encode()


def answers(rate: float, seconds: float) -> list[dict[str, Any]]:
    """The API's answers under load."""
    with running() as service:
        service.start_api()
        prepared = stock(service)
        port = int(service.url.rpartition(":")[2])
        rows = []
        for what, share in MIXES.items():
            asyncio.run(load(port, prepared.requests(share), rate=rate, seconds=2))  # warm
            exchanges = asyncio.run(load(port, prepared.requests(share), rate=rate, seconds=seconds))
            methods = ["GET", "POST"] if share else ["GET"]
            rows += [_summary(f"{rate:g}/s, {what}", exchanges, method) for method in methods]
        return rows


def start_of_jobs(tries: int) -> list[float]:
    """Milliseconds from a job's row to the first word of its child, both by the database's clock.

    More than what is asked for, the time from the 202 to the child's start. The worker is idle each time.
    """
    with running() as service:
        service.start_api()
        service.start_worker()
        factory = session_factory(service.engine)
        with transaction(factory) as session:
            tenant = keys.ensure_tenant(session, name="first")
            key = keys.create_key(session, tenant_id=tenant, label="bench")[1]
        with Client(service.url, key) as client:
            model, clean = _files(service.folder)
            suspect, images = client.upload(model, "model"), client.upload(clean, "clean")
            return [_started(factory, client.repair(suspect, images, SETTINGS)) for _ in range(tries)]


def _started(factory: Any, repair: Repair) -> float:
    spoken = select(JobEvent.at).where(JobEvent.job_id == UUID(repair.id), JobEvent.type == "stage").limit(1)
    while True:
        with transaction(factory) as session:
            at = session.scalar(spoken.order_by(JobEvent.id))
            created = session.get_one(Job, UUID(repair.id)).created_at
        if at is not None:
            break
        time.sleep(0.05)
    repair.cancel()
    with suppress(JobCancelled):
        repair.wait()
    time.sleep(3.0)  # until the worker waits for messages again
    return 1000 * (at - created).total_seconds()


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tries", type=int, default=30)
    arguments = parser.parse_args()
    rows = answers(arguments.rate, arguments.seconds)
    starts = sorted(start_of_jobs(arguments.tries))
    settings = {
        "jobs in the table": ROWS,
        "latency": "from when a request was due; API, Postgres, Redis and the client share the machine",
        "from a job's row to the first word of its child, ms": f"median {statistics.median(starts):.0f}, "
        f"95 % {quantile(starts, 0.95):.0f} ({len(starts)} jobs, an idle worker)",
    }
    keep("load", rows, settings)


if __name__ == "__main__":
    main()
