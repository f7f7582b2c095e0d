"""How much memory this worker may use, and how much of it a job gets."""

from contextlib import suppress
from pathlib import Path

import psutil

_JOBS_SHARE = 0.75  # the rest is for the worker, the system and its caches
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def default_job_memory() -> int:
    """Bytes: three quarters of the machine's memory, or of the container's where that is less."""
    most = [psutil.virtual_memory().total]
    for limit in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            most.append(int(limit.read_text()))
    return int(min(most) * _JOBS_SHARE)
