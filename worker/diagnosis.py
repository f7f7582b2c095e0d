"""What a diagnosis's child does: measure the model on the clean images, say what it was not fed right. No files."""

from dataclasses import asdict
from typing import Any

import torch

from modeconn_core.device import choose_device
from modeconn_core.diagnosis import suspicion_threshold
from store.storage import LocalStorage
from worker.checks import check_device, diagnosis_of, warnings_of
from worker.child import Send
from worker.inputs import read_inputs
from worker.reporter import Reporter
from worker.spec import JobSpec


def run(spec: JobSpec, send: Send) -> dict[str, Any]:
    """Carry out one attempt; returns `result` as the database keeps it, and no artifacts. Raises JobProblem."""
    torch.set_num_threads(spec.threads)
    Reporter(send).stage("validating", method_done=0.0)
    check_device(spec)
    inputs = read_inputs(LocalStorage(spec.storage_root, room=spec.folder), spec)
    inputs.suspect.module.to(choose_device(spec.device))
    found = diagnosis_of(inputs.suspect, inputs, spec.request)
    least = suspicion_threshold(inputs.architecture.num_classes)
    said = {"least_expected": least, "warnings": warnings_of(found, "suspect")}
    return {"result": asdict(found) | said, "artifacts": []}
