"""What a job's child does: read the inputs, check the suspect, repair it, write the files. No database, no broker."""

from typing import Any

import torch
from torch import Tensor

from modeconn_core import Checkpoints, RepairConfig, RepairResult, repair
from modeconn_core.preprocessing import Preprocessing
from store.storage import LocalStorage
from worker.checkpoint import open_checkpoints
from worker.checks import check_device, check_model
from worker.child import Send
from worker.export import export
from worker.inputs import Images, Inputs, read_inputs
from worker.problems import JobProblem
from worker.reporter import Reporter
from worker.spec import JobSpec


def run(spec: JobSpec, send: Send) -> dict[str, Any]:
    """Carry out one attempt; returns `result` and `artifacts` as the database keeps them. Raises JobProblem."""
    torch.set_num_threads(spec.threads)
    storage = LocalStorage(spec.storage_root, room=spec.folder)
    reporter = Reporter(send)
    reporter.stage("validating", method_done=0.0)
    config = configuration(spec)
    inputs = read_inputs(storage, spec)
    warnings = check_model(inputs.suspect, "suspect", inputs, spec.request)
    for text in warnings:
        reporter.warning(text)
    result = repaired(inputs, config, reporter, open_checkpoints(storage, spec))
    reporter.stage("exporting", method_done=1.0)
    return export(storage, spec, inputs, config, result, warnings)


def repaired(inputs: Inputs, config: RepairConfig, reporter: Reporter, checkpoints: Checkpoints) -> RepairResult:
    """The method's work. Raises JobProblem where it cannot use what it was given."""
    try:
        return repair(
            inputs.suspect.module,
            inputs.preprocessing.apply(inputs.clean.pixels),
            inputs.clean.labels,
            triggered=as_the_model_sees(inputs.triggered, inputs.preprocessing),
            second_model=inputs.second_model.module if inputs.second_model else None,
            config=config,
            on_progress=reporter.core,
            checkpoints=checkpoints,
        )
    except ValueError as error:
        raise JobProblem("input-not-usable", "The repair cannot work with this input", f"{error}.") from error


def configuration(spec: JobSpec) -> RepairConfig:
    """The request in the method's terms. Raises JobProblem when this worker has not the device it was given."""
    method, criteria = spec.request["method"], spec.request["criteria"]
    check_device(spec)
    return RepairConfig(
        seed=spec.seed,
        ends=method["ends"],
        curve=method["curve"],
        bends=method["bends"],
        steps=method["steps"],
        mirror=method["mirror"],
        max_accuracy_drop=criteria["max_accuracy_drop"],
        max_attack_success_rate=criteria["max_attack_success_rate"],
        select_with_triggered=spec.request["select_with_triggered"],
        tampering=spec.request.get("tampering", "backdoor"),  # a selection may belong to a job older than these two
        plane=method.get("plane", 0),
        device=spec.device,
    )


def as_the_model_sees(images: Images | None, preprocessing: Preprocessing) -> tuple[Tensor, Tensor] | None:
    """(pixels, labels) ready for the model."""
    return (preprocessing.apply(images.pixels), images.labels) if images else None
