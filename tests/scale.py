"""How often each fault is tried: the short form belongs to `make test`, the long one to `make chaos` or `make fuzz`."""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class RedisTrouble:
    """Seconds: how long in all, and between two faults."""

    seconds: float
    flush_every: float
    kill_every: float


@dataclass(frozen=True)
class PostgresTrouble:
    """How often it stops, for how many seconds, and how long it runs in between."""

    times: int
    seconds: float
    seconds_between: float


@dataclass(frozen=True)
class BackendsKilled:
    """Seconds: how long in all, and between two massacres."""

    seconds: float
    every: float


@dataclass(frozen=True)
class HostileBodies:
    """The size in bytes at which an endless body is cut, and how many slow ones come at once."""

    limit_bytes: int
    slow: int


@dataclass(frozen=True)
class OpenApiCases:
    """Requests of every operation alone, valid ones and broken ones each; and in all, with those that follow links."""

    each: int
    in_all: int


def _short_and_long(short: object, long: object, mark: pytest.MarkDecorator = pytest.mark.chaos) -> list[object]:
    return [
        pytest.param(*_values(short), id="short"),
        pytest.param(*_values(long), id="long", marks=mark),
    ]


def _values(given: object) -> tuple[object, ...]:
    return given if isinstance(given, tuple) else (given,)


STATE_MACHINE_STEPS = _short_and_long(1_500, 50_000)
CLAIM_RACES = _short_and_long(60, 5_000)
BIT_FLIPS = _short_and_long(60, 300)
KILLED_UPLOADS = _short_and_long(20, 200)
KILLED_WORKER_JOBS = _short_and_long(24, 2_000)
SLEEPING_WORKERS = _short_and_long(3, 200)
POISON_JOBS = _short_and_long((4, 12), (50, 500))  # poisoned, good
REDIS_TROUBLE = _short_and_long(RedisTrouble(6, 1, 2.5), RedisTrouble(600, 5, 20))
POSTED_WITHOUT_REDIS = _short_and_long(10, 500)
POSTGRES_TROUBLE = _short_and_long(PostgresTrouble(2, 1.5, 1), PostgresTrouble(20, 20, 5))
BACKENDS_KILLED = _short_and_long(BackendsKilled(4, 0.7), BackendsKilled(300, 10))
CUT_REPLIES = _short_and_long(15, 500)
ROLLING_RESTARTS = _short_and_long(1, 10)
RESUMES = _short_and_long(1, 10)
HOSTILE_BODIES = _short_and_long(HostileBodies(64 << 20, 50), HostileBodies(2 << 30, 500), pytest.mark.fuzz)
EVERY_KTH_CRAFTED_FILE = _short_and_long(8, 1, pytest.mark.fuzz)
MUTATED_SAFETENSORS = _short_and_long(20_000, 10_000_000, pytest.mark.fuzz)
MUTATED_PT = _short_and_long(2_000, 1_000_000, pytest.mark.fuzz)
MUTATED_ZIPS = _short_and_long(500, 100_000, pytest.mark.fuzz)
STATE_DICTS = _short_and_long(20, 300, pytest.mark.fuzz)
HOSTILE_JOBS = _short_and_long(3, 500, pytest.mark.fuzz)
OPENAPI_CASES = _short_and_long(OpenApiCases(2, 300), OpenApiCases(50, 20_000), pytest.mark.fuzz)
