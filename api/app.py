"""The HTTP application: its parts, their life, the routes. `uvicorn api.app:app` serves it."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from types import FrameType

import anyio
from fastapi import FastAPI

from api import mapper, openapi
from api.analysis.endpoints import router as analysis
from api.analysis.kind import ANALYSIS
from api.attestation.endpoints import attestation_routes
from api.attestation.endpoints import router as attestations
from api.attestation.signing import Signing
from api.dependencies import Parts
from api.diagnosis.endpoints import router as diagnosis
from api.diagnosis.kind import DIAGNOSIS
from api.downloads.endpoints import models, result_routes
from api.events.endpoints import event_routes
from api.explain.endpoints import router as explain
from api.files.endpoints import router as files
from api.health.endpoints import router as health
from api.inspector import Inspector
from api.jobs.endpoints import job_routes
from api.jobs.room import QueueRoom
from api.keys.endpoints import router as keys
from api.logs import configure_logs, log
from api.metrics import Metrics
from api.middleware import Observe
from api.page.endpoints import router as page
from api.page.endpoints import static
from api.quota.endpoints import router as quota
from api.rates import Rates
from api.repair.endpoints import router as repair
from api.repair.kind import REPAIR
from api.resumable.endpoints import router as resumable
from api.selections.endpoints import router as selections
from intake.launcher import probe
from intake.limits import Limits
from store.checked import CheckedFiles
from store.database import make_engine, session_factory
from store.settings import get_settings
from store.storage import LocalStorage

_DESCRIPTION = """Repairs tampered image classifiers by mode connectivity. Upload a suspect model and clean images
(`POST /files`), post a job (`POST /repair`), follow it (`/repair/{id}/events`), download the repaired model and the
evidence. `POST /diagnosis` says in seconds how a model does on your images. `POST /analysis` measures the path between
a regular and an adversarially trained model. All shares and rates are fractions in 0..1. Errors are RFC 9457 problems;
their `type` can be opened."""
LIFE_ROUTES = (job_routes, event_routes)
FILE_ROUTES = (result_routes, attestation_routes)
_TAGS = [
    {"name": "files", "description": "Models and image sets, uploaded once, used by many jobs."},
    {"name": "repair", "description": "Repairs: post, follow, cancel, retry."},
    {"name": "analysis", "description": "Analyses of the path between two models: post, follow, cancel, retry."},
    {"name": "diagnosis", "description": "How a model does on clean images: post, follow, cancel, retry."},
    {"name": "results", "description": "What a finished job made."},
    {"name": "selections", "description": "Another point of a finished job's path."},
    {"name": "keys", "description": "The keys of your own tenant."},
    {"name": "quota", "description": "What your own tenant may use, and what it uses."},
    {"name": "problems", "description": "What the problem types mean."},
    {"name": "operation", "description": "For whoever runs the service."},
]


def create_app() -> FastAPI:
    """A new application. Settings are read from the environment when it starts, not here."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _parts(metrics) as parts:
            app.state.parts = parts
            with _told_to_stop(parts.stopping):
                log("api started")
                yield
        log("api stopped")

    app = FastAPI(
        title="ModeConn",
        version=version("modeconn"),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    every_kind = [routes(kind) for kind in (REPAIR, ANALYSIS) for routes in (*LIFE_ROUTES, *FILE_ROUTES)]
    every_kind += [routes(DIAGNOSIS) for routes in LIFE_ROUTES]
    others = (attestations, selections, models, keys, quota, explain, health, page)
    for router in (files, resumable, repair, analysis, diagnosis, *every_kind, *others):
        app.include_router(router)
    app.mount("/page", static)
    app.add_middleware(Observe, metrics=metrics)
    mapper.install(app)
    openapi.install(app)
    return app


@asynccontextmanager
async def _parts(metrics: Metrics) -> AsyncIterator[Parts]:
    """Everything the requests share, and the inspector process, for as long as the server runs."""
    configure_logs()
    settings = get_settings()
    engine = make_engine(settings.database_url)
    inspector = Inspector(metrics)
    life = asyncio.create_task(inspector.run())
    try:
        storage, cores = LocalStorage(settings.storage_root), max(2, os.cpu_count() or 2)
        sandbox = await anyio.to_thread.run_sync(probe, Limits())
        gc.collect()
        gc.freeze()  # what is there now stays: a full collection need not go through it, with all requests waiting
        yield Parts(
            settings=settings,
            factory=session_factory(engine),
            storage=storage,
            checked=CheckedFiles(storage),
            inspector=inspector,
            metrics=metrics,
            rates=Rates(settings),
            queue_room=QueueRoom(settings.max_queue_depth),
            intake_slots=anyio.CapacityLimiter(cores),
            writers=anyio.CapacityLimiter(cores),
            sandbox=sandbox,
            signing=Signing.read(settings.signing_key) if settings.signing_key else None,
            stopping=asyncio.Event(),
        )
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
        engine.dispose()


@contextmanager
def _told_to_stop(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` as soon as a signal arrives: uvicorn waits for open answers, and event streams would never end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        server = before[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


app = create_app()
