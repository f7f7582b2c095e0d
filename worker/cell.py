"""Where a job's child lives: no network, no other process, its inputs to read, its attempt's folder to write."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import intake
import modeconn_core
import store
import worker
from intake import sandbox
from modeconn_core.architectures.registry import PLUGIN_GROUP
from store import failpoints
from store.storage import UNFINISHED, LocalStorage
from worker.child import SELECT, WORK, Send, Spec, die_with_the_worker
from worker.manifest import versions
from worker.memory import default_job_memory
from worker.spec import JobSpec, SelectionSpec

_GPU_DEVICES: Final = "nvidia*"
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# What libraries look up about the machine; a GPU's driver wants more (Landlock keeps it out of other processes' files).
_MACHINE: Final = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/sys/devices/system")
_MACHINE_OF_A_GPU: Final = ("/proc", "/sys")
_SHARED: Final = ("/usr/share", "/usr/local/share", "/usr/local/cuda", "/usr/local/nvidia", "/etc/localtime")
_OWN_FONTS: Final = ("~/.fonts", "~/.local/share/fonts")


def run(spec: Spec, send: Send) -> dict[str, Any]:
    """Shut this process in, then do the work; what the work returns and raises."""
    job = spec.repair if isinstance(spec, SelectionSpec) else spec
    versions()  # kept from here on: it asks git, which is another process
    storage = LocalStorage(job.storage_root, room=spec.folder)
    own = storage.path(spec.folder)
    tempfile.tempdir = str(own / UNFINISHED)
    gpu = _gpu_devices(job.device)
    once = failpoints.folder()
    sandbox.enter_job(
        read=[*_inputs(storage, job), *_code(job.storage_root), *_machine(gpu)],
        write=[own, *([once] if once else [])],
        devices=[*map(Path, _DEVICES), *gpu],
        memory_bytes=job.memory_bytes,
        namespaces=not gpu,
    )
    die_with_the_worker()  # a thread: namespaces are left with one alone
    work = SELECT if isinstance(spec, SelectionSpec) else WORK[spec.kind]
    return dict(importlib.import_module(work).run(spec, send))


def try_out(storage_root: Path, device: str) -> list[str]:
    """Enter the sandbox as `run` does, and say what the kernel lacks for it."""
    namespaces = not _gpu_devices(device)
    return sandbox.enter_job(
        read=[], write=[storage_root], devices=[], memory_bytes=default_job_memory(), namespaces=namespaces
    ).missing


def _inputs(storage: LocalStorage, job: JobSpec) -> list[Path]:
    """The job's uploads, and all that its own attempts made (checkpoints, the path that a selection takes)."""
    refs = (job.suspect, job.clean, job.triggered, job.second_model)
    uploads = [storage.path(ref.canonical_path) for ref in refs if ref is not None and ref.canonical_path]
    return [*uploads, storage.path(job.folder).parent]


def _gpu_devices(device: str) -> list[Path]:
    return [] if device == "cpu" else sorted(Path("/dev").glob(_GPU_DEVICES))


def _machine(gpu: Iterable[Path]) -> list[Path]:
    facts = _MACHINE_OF_A_GPU if gpu else _MACHINE
    return [Path(name).expanduser() for name in (*facts, *_SHARED, *_OWN_FONTS)]


def _code(storage_root: Path) -> list[Path]:
    """This service, plug-ins, and what else is on the path of modules.

    Not the working directory, which Celery puts there, and no folder around the storage: these hold other files.
    """
    root = storage_root.resolve()
    named = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    left_out = ({Path.cwd()} - named) | {root, *root.parents}
    on_path = {Path(entry).resolve() for entry in sys.path if entry} - left_out
    ours = [Path(folder) for room in (intake, modeconn_core, store, worker) for folder in room.__path__]
    return [*ours, *on_path, *_plugins()]


def _plugins() -> list[Path]:
    """Files and folders of the packages that the operator's entry points name, wherever they are installed."""
    found = []
    for entry in entry_points(group=PLUGIN_GROUP):
        spec = find_spec(entry.module.partition(".")[0])
        if spec is not None:
            places = spec.submodule_search_locations or filter(None, [spec.origin])
            found += [Path(place) for place in places]
    return found
