"""A repair that takes moments: the messages, points and files of a real one without the method. It can misbehave.

It stands in the place of `worker.cell`: not shut in, since that imports torch, and what is tried here is the service.
"""

import ctypes
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from store.storage import LocalStorage
from worker.child import Send, die_with_the_worker
from worker.spec import REPAIRED_FILE, JobSpec

TS = (0.0, 0.25, 0.5, 0.75, 1.0)
POISON_SEEDS = {"segfault": 1_000_001, "memory": 1_000_002, "hang": 1_000_003, "exit": 1_000_004}
_FIGURES = {"clean_accuracy": 0.8, "clean_accuracy_interval": [0.75, 0.85], "attack_success_rate": None}


def content(seed: int) -> bytes:
    """What the job with this seed leaves as its weights."""
    return hashlib.sha256(str(seed).encode()).digest() * 64


def run(spec: JobSpec, send: Send) -> dict[str, Any]:
    """Takes `method.steps` milliseconds; does what `POISON_SEEDS` says where the seed is one of them."""
    die_with_the_worker()
    _stage(send, "validating", 0.0)
    _misbehave(spec.seed)
    for t in TS:
        time.sleep(spec.request["method"]["steps"] / 1000 / len(TS))
        _stage(send, "sweeping", t)
        send({"kind": "point", "point": _point(spec.seed, t)})
    with LocalStorage(spec.storage_root).new_writer(f"{spec.folder}/{REPAIRED_FILE}") as writer:
        writer.write(content(spec.seed))
        stored = writer.commit()
    artifact = {
        "name": REPAIRED_FILE,
        "path": stored.name,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "media_type": "application/octet-stream",
    }
    listed = {name: artifact[name] for name in ("name", "bytes", "sha256", "media_type")}
    result = {"t": 0.5, "reason": "A short job.", "criteria_met": True, "before": _FIGURES, "after": _FIGURES}
    return {"result": result | {"artifacts": [listed]}, "artifacts": [artifact]}


def try_out(storage_root: Path, device: str) -> list[str]:
    """Nothing is lacking."""
    return []


def _stage(send: Send, stage: str, done: float) -> None:
    send({"kind": "progress", "stage": stage, "stage_fraction": done, "fraction": done, "numbers": {}})


def _point(seed: int, t: float) -> dict[str, Any]:
    return {
        "path": "main",
        "t": t,
        "clean_accuracy": 0.8,
        "clean_accuracy_low": 0.7,
        "clean_accuracy_high": 0.9,
        "attack_success_rate": None,
        "asr_low": None,
        "asr_high": None,
        "proxy_success_rate": None,
        "clean_loss": seed + t,
        "set": "coarse",
    }


def _misbehave(seed: int) -> None:
    if seed == POISON_SEEDS["segfault"]:
        ctypes.string_at(0)
    elif seed == POISON_SEEDS["memory"]:
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does to the process that asked for too much
    elif seed == POISON_SEEDS["hang"]:
        while True:
            time.sleep(60)
    elif seed == POISON_SEEDS["exit"]:
        os._exit(7)
