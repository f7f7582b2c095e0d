"""Code in a job's child that turned against the service: it looks where it can get, or lies about what it made."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from colour_net import ColourNet
from torch import nn


def pry(num_classes: int, *, port: int, secret: str, storage: str, memory: int) -> nn.Module:
    """Raises RuntimeError that says, as JSON, what each attempt came to."""
    root = Path(storage)
    attempts: dict[str, Callable[[], Any]] = {
        "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=5),
        "read a neighbour's file": lambda: Path(secret).read_bytes(),
        "list all jobs": lambda: os.listdir(root / "jobs"),
        "list all files": lambda: os.listdir(root / "files"),
        "list what is unfinished": lambda: os.listdir(root / ".unfinished"),
        "write into the storage": lambda: (root / "jobs" / "planted").write_bytes(b""),
        "write a neighbour's file": lambda: Path(secret).write_bytes(b"spoilt"),
        "write elsewhere": lambda: Path(f"/tmp/pried-{os.getpid()}").write_bytes(b""),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "read the fork server's environment": lambda: Path(f"/proc/{fork_server()}/environ").read_bytes(),
        "know the database": lambda: os.environ["DATABASE_URL"],
        "much memory": lambda: torch.ones(memory, dtype=torch.uint8),
        "write in its own room": lambda: Path(tempfile.gettempdir(), "own").write_bytes(b""),
        "read fonts and packages": lambda: Path(torch.__file__).read_bytes(),
        "compute with threads": lambda: (torch.set_num_threads(2), torch.ones(600, 600) @ torch.ones(600, 600)),
    }
    raise RuntimeError("found: " + json.dumps({name: came_of(attempt) for name, attempt in attempts.items()}))


def fork_server() -> int:
    """The fork server, which has the worker's environment."""
    return os.getppid()


def came_of(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except (OSError, KeyError, RuntimeError) as error:
        return f"refused: {type(error).__name__}"
    return "succeeded"


def lie(num_classes: int, *, path: str, sha256: str, **options: Any) -> nn.Module:
    """A network whose job says that it made somebody else's file."""
    import worker.job

    stolen = {"name": path.rpartition("/")[2], "path": path, "bytes": 6, "sha256": sha256, "media_type": "image/png"}
    worker.job.export = lambda *_: {"result": {}, "artifacts": [stolen]}  # type: ignore[assignment]
    return ColourNet(num_classes, **options)
