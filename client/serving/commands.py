"""The one way to start each part of the service; docker-compose.yml says the same words."""

import sys
from pathlib import Path

PYTHON = [sys.executable, "-m"]


def migrate() -> list[str]:
    """Brings the database to the newest schema."""
    return [*PYTHON, "migrations", "upgrade", "head"]


def local_key(out: Path) -> list[str]:
    """Leaves a working key of the tenant `local` in `out`."""
    return [*PYTHON, "store.keys", "local", "--out", str(out)]


def save_backup(out: Path) -> list[str]:
    """Writes rows and stored files to `out`."""
    return [*PYTHON, "store.backup", "save", str(out)]


def restore_backup(source: Path) -> list[str]:
    """Puts a backup into an empty database and an empty storage."""
    return [*PYTHON, "store.backup", "restore", str(source)]


def api(host: str, port: int) -> list[str]:
    """Serves HTTP on host:port; after SIGTERM open answers get five seconds.

    By h11 also where httptools is installed: that one bounds neither the number nor the size of headers.
    """
    listen = ["--host", host, "--port", str(port), "--http", "h11"]
    return [*PYTHON, "uvicorn", "api.app:app", *listen, "--timeout-graceful-shutdown", "5"]


def worker() -> list[str]:
    """Runs one job at a time."""
    pool = ["--pool", "threads", "--concurrency", "1"]
    return [*PYTHON, "celery", "-A", "worker.app", "worker", *pool, "-Q", "modeconn", "--loglevel", "INFO"]
