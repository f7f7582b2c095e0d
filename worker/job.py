"""What a job's child does: read the inputs, check the suspect, repair it, write the files. No database, no broker."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from modeconn_core import Checkpoints, RepairConfig, RepairResult, repair
from modeconn_core.device import choose_device
from modeconn_core.diagnosis import Diagnosis, diagnose, suspicion_threshold
from modeconn_core.preprocessing import Preprocessing
from store.storage import LocalStorage
from worker.checkpoint import open_checkpoints
from worker.child import Send
from worker.export import export
from worker.inputs import Images, Inputs, Model, read_inputs
from worker.problems import JobProblem
from worker.report_words import percent
from worker.reporter import Reporter
from worker.spec import JobSpec

_SHOWN_SUGGESTIONS = 3


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


def check_device(spec: JobSpec) -> None:
    """Raises JobProblem when this worker has not the device it was given."""
    try:
        choose_device(spec.device)
    except ValueError as error:
        raise JobProblem(
            "device-not-available", "The worker has no such device", f"{error}. Ask the operator."
        ) from error


def check_model(model: Model, name: str, inputs: Inputs, request: dict[str, Any]) -> list[str]:
    """Is the model, called `name`, fed what it was trained on? Returns warnings.

    Raises JobProblem `suspect-accuracy-too-low`, with what would score better, unless the user accepts that.
    """
    diagnosis = diagnose(
        model.module,
        inputs.clean.pixels,
        inputs.clean.labels,
        inputs.architecture.num_classes,
        mean=inputs.preprocessing.mean,
        std=inputs.preprocessing.std,
        channels=inputs.preprocessing.channels,
        class_names=request["classes"],
    )
    warnings = []
    if diagnosis.outputs_are_probabilities:
        warnings.append(
            f"The outputs of the {name} are probabilities: its forward ends in a softmax, which weakens the training "
            "of the path. A model that returns logits does better."
        )
    if diagnosis.suspicious:
        if not request["accept_low_accuracy"]:
            raise _too_low(diagnosis, name)
        warnings.append(_finding(diagnosis, name))
    return warnings


def _too_low(diagnosis: Diagnosis, name: str) -> JobProblem:
    return JobProblem(
        "suspect-accuracy-too-low",
        f"The {name} does badly on the clean images",
        f"{_finding(diagnosis, name)} Correct the request, or set accept_low_accuracy to go on as it is.",
        accuracy=diagnosis.accuracy,
        chance=diagnosis.chance,
        suggestions=[asdict(suggestion) for suggestion in diagnosis.suggestions[:_SHOWN_SUGGESTIONS]],
    )


def _finding(diagnosis: Diagnosis, name: str) -> str:
    advice = (
        diagnosis.suggestions[0].description
        if diagnosis.suggestions
        else "No usual normalisation, channel order or class order does better: check that the model and the clean "
        "images belong together."
    )
    least = suspicion_threshold(round(1 / diagnosis.chance))
    return (
        f"The {name} gets {percent(diagnosis.accuracy)} of the clean images right; {percent(least)} is the least to "
        f"expect where chance is {percent(diagnosis.chance)}. {advice}"
    )


def as_the_model_sees(images: Images | None, preprocessing: Preprocessing) -> tuple[Tensor, Tensor] | None:
    """(pixels, labels) ready for the model."""
    return (preprocessing.apply(images.pixels), images.labels) if images else None
