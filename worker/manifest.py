"""The manifest of a result: what went in, what came out, with what, so that anybody can check and repeat it."""

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from modeconn_core import AnalysisConfig, RepairConfig
from worker.spec import InputRef, JobSpec

_PACKAGES = ("modeconn", "torch", "torchvision", "timm", "numpy", "safetensors")


def manifest(
    spec: JobSpec,
    *,
    configuration: RepairConfig | AnalysisConfig,
    figures: Mapping[str, Any],
    artifacts: Sequence[Mapping[str, Any]],
) -> bytes:
    """The manifest as JSON. `configuration`: what the method was told; `artifacts`: `name`, `bytes`, `sha256`."""
    body = {
        "schema": 1,
        "job": spec.job_id,
        "attempt": spec.attempt,
        "written_at": datetime.now(UTC).isoformat(),
        "inputs": {role: _input(ref) for role, ref in inputs_by_role(spec).items()},
        "outputs": {each["name"]: {"bytes": each["bytes"], "sha256": each["sha256"]} for each in artifacts},
        "seed": spec.seed,
        "request": spec.request,
        "configuration": asdict(configuration),
        "figures": dict(figures),
        "versions": versions(),
        "device": device_in_words(spec),
        "threads": spec.threads,
        "replay": "The same inputs, request, versions and kind of device give the same figures; on another kind of "
        "device the last digits may differ.",
    }
    return (json.dumps(body, indent=2, default=str) + "\n").encode()


def inputs_by_role(spec: JobSpec) -> dict[str, InputRef]:
    """The job's files under the names that the request gives them."""
    if spec.kind == "analysis":
        roles = {"regular": spec.suspect, "robust": spec.second_model, "clean": spec.clean}
    else:
        roles = {
            "suspect": spec.suspect,
            "clean": spec.clean,
            "triggered": spec.triggered,
            "second_model": spec.second_model,
        }
    return {role: ref for role, ref in roles.items() if ref is not None}


def _input(ref: InputRef) -> dict[str, Any]:
    return {"name": ref.name, "bytes": ref.bytes, "sha256": ref.sha256, "canonical_sha256": ref.canonical_sha256}


@cache
def versions() -> dict[str, str]:
    """Of Python, of what computes, and of this service (with its commit, where it runs from a checkout)."""
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _commit() -> str | None:
    house = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (house / ".git").exists():
        return None
    asked = subprocess.run([git, "-C", str(house), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def device_in_words(spec: JobSpec) -> str:
    """Such as `cuda (NVIDIA H200)` or `cpu (x86_64, 2 threads)`."""
    if spec.device != "cpu" and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({platform.machine()}, {spec.threads} threads)"
