"""Where a job's child keeps what it has done: one file in its attempt's folder, read by the attempt that comes next."""

import hashlib
import io
import json
import logging
from typing import Any

import torch

from modeconn_core import Checkpoints
from store.failpoints import failpoint
from store.storage import LocalStorage
from worker.manifest import device_in_words, versions
from worker.spec import CHECKPOINT_FILE, JobSpec

log = logging.getLogger(__name__)


def open_checkpoints(storage: LocalStorage, spec: JobSpec) -> Checkpoints:
    """What the latest earlier attempt left (nothing where there is none), and a way to leave more."""

    def write(state: dict[str, Any]) -> None:
        content = io.BytesIO()
        torch.save(state, content)
        payload = content.getvalue()
        with storage.new_writer(f"{spec.folder}/{CHECKPOINT_FILE}") as writer:
            writer.write(_header(spec, payload) + b"\n")
            writer.write(payload)
            writer.commit()
        failpoint("child.checkpoint")

    return Checkpoints(_left_by_earlier_attempts(storage, spec), write, every_seconds=spec.checkpoint_seconds)


def _left_by_earlier_attempts(storage: LocalStorage, spec: JobSpec) -> dict[str, Any]:
    """The latest whole checkpoint. One that is damaged, or was made by other versions or threads, is passed over: going
    on from it would not give what an undisturbed run gives."""
    for attempt in range(spec.attempt - 1, 0, -1):
        try:
            content = storage.path(f"{spec.folder_of(attempt)}/{CHECKPOINT_FILE}").read_bytes()
        except FileNotFoundError:
            continue
        header, _, payload = content.partition(b"\n")
        if header == _header(spec, payload):
            state: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
            return state
        log.warning("job %s: the checkpoint of attempt %d is damaged or of another kind of run", spec.job_id, attempt)
    return {}


def _header(spec: JobSpec, payload: bytes) -> bytes:
    made_by = {"versions": versions(), "device": device_in_words(spec)}
    return json.dumps({"sha256": hashlib.sha256(payload).hexdigest(), **made_by}, sort_keys=True).encode()
