"""Do listing, claiming and sweeping slow down with the number of jobs? Times and pages at a thousand to a million rows.

python -m bench.scale
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import matplotlib as mpl
from matplotlib.figure import Figure
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from bench.crowd import fill
from bench.results import RESULTS, keep, keep_picture
from bench.service import running
from store import files, jobs, keys
from store.database import bind_tenant, session_factory, transaction

mpl.use("agg")

SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPEATS = 200
DAY = timedelta(days=1)
Use = Callable[[Session], object]


def _file(session: Session, tenant: UUID, kind: str) -> UUID:
    file_id = uuid4()
    files.create_file(
        session,
        tenant_id=tenant,
        file_id=file_id,
        kind=kind,
        name=kind,
        bytes=1,
        sha256="x",
        canonical_path="x",
        canonical_sha256="x",
        canonical_bytes=1,
        facts={},
        retention=DAY,
    )
    return file_id


def _uses(engine: Engine, tenant: UUID, suspect: UUID, clean: UUID) -> dict[str, Use]:
    with transaction(session_factory(engine)) as session:
        job = jobs.create_job(
            session,
            tenant_id=tenant,
            request={},
            suspect_file_id=suspect,
            clean_file_id=clean,
            labels={},
            seed=0,
            deadline=DAY,
            retention=DAY,
            max_queued=100,
        )

    def list_jobs(session: Session) -> None:
        bind_tenant(session, tenant)
        jobs.list_jobs(session, tenant_id=tenant, kind="repair", limit=50)

    def sweep(session: Session) -> None:
        jobs.settle_overdue(session, max_attempts=3)
        jobs.due_jobs(session, older_than_seconds=600)

    return {
        "list a page of 50": list_jobs,
        "claim": lambda session: jobs.claim(session, job_id=job.id, worker="w", lease_seconds=9, max_attempts=3),
        "sweep": sweep,
    }


def _milliseconds(engine: Engine, use: Use) -> list[float]:
    """Of each try; all are rolled back."""
    factory, taken = session_factory(engine), []
    for _ in range(REPEATS):
        with factory() as session:
            began = time.perf_counter()
            use(session)
            taken.append(1000 * (time.perf_counter() - began))
    return taken


def measured(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each size and use, in a database of its own for each size."""
    rows = []
    for size in sizes:
        with running() as service:
            engine = service.engine
            with transaction(session_factory(engine)) as session:
                tenant, neighbour = (keys.ensure_tenant(session, name=name) for name in ("tenant", "neighbour"))
                suspect, clean = _file(session, tenant, "model"), _file(session, tenant, "clean")
            fill(engine, rows=size, tenant=tenant, neighbour=neighbour, suspect=suspect, clean=clean)
            for name, use in _uses(engine, tenant, suspect, clean).items():
                taken = sorted(_milliseconds(engine, use))
                rows.append(
                    {
                        "what": name,
                        "jobs": size,
                        "median ms": round(statistics.median(taken), 2),
                        "95 % ms": round(taken[int(0.95 * len(taken))], 2),
                    }
                )
            engine.dispose()
    return rows


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Median and 95 % of each use against the number of jobs."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["what"] for row in rows):
        mine = [row for row in rows if row["what"] == name]
        sizes = [row["jobs"] for row in mine]
        [line] = axes.plot(sizes, [row["median ms"] for row in mine], "o-", label=name)
        axes.plot(sizes, [row["95 % ms"] for row in mine], "--", color=line.get_color(), alpha=0.5)
    axes.set(xscale="log", xlabel="jobs in the table", ylabel="ms (dashed: 95 %)", ylim=(0, None))
    axes.legend()
    return figure


def main() -> None:
    """Measure, print and keep the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    rows = measured(parser.parse_args().sizes)
    keep("scale", rows, {"tries of each": REPEATS})
    keep_picture(draw(rows), RESULTS / "scale.png")


if __name__ == "__main__":
    main()
