"""Five workers claim one job at the same moment, again and again: one gets it, each time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from store import jobs
from store.database import SessionFactory, make_engine, session_factory, transaction
from tests.scale import CLAIM_RACES

WORKERS = 5
FREE = {
    "queued": "UPDATE jobs SET state = 'queued', lease_until = NULL, releases = attempt WHERE id = :id",
    "lost": "UPDATE jobs SET state = 'running', releases = attempt, "
    "lease_until = clock_timestamp() - interval '1 minute' WHERE id = :id",
}


@pytest.fixture
def crowd(database_url: str):
    """Five workers' ways to the database, each with connections of its own."""
    engines: list[Engine] = [make_engine(database_url, pool_size=1) for _ in range(WORKERS)]
    yield [session_factory(engine) for engine in engines]
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize("races", CLAIM_RACES)
@pytest.mark.parametrize("free", FREE.values(), ids=FREE.keys())
def test_one_of_five_wins_each_time(
    factory: SessionFactory, crowd: list[SessionFactory], make_job: Callable[..., jobs.Job], free: str, races: int
) -> None:
    job_id, start = make_job().id, Barrier(WORKERS, lambda: give_back(factory, job_id, free), timeout=60)

    def run(own: SessionFactory) -> list[int | None]:
        """The attempts that this worker was given, None where another one won."""
        won = []
        for _ in range(races):
            start.wait()
            with transaction(own) as session:
                job = jobs.claim(session, job_id=job_id, worker="w", lease_seconds=60, max_attempts=3)
            won.append(job.attempt if job else None)
        return won

    with ThreadPoolExecutor(WORKERS) as pool:
        attempts = list(zip(*pool.map(run, crowd), strict=True))
    winners = [[attempt for attempt in race if attempt is not None] for race in attempts]
    assert winners == [[number + 1] for number in range(races)]


def give_back(factory: SessionFactory, job_id: UUID, free: str) -> None:
    """The job is anybody's, as after an orderly release or a lost lease."""
    with transaction(factory) as session:
        session.execute(text(free), {"id": job_id})
