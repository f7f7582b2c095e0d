"""Is there the device, and does a model get what it was trained on? Asked before any work is done."""

from dataclasses import asdict
from typing import Any, Final

from modeconn_core.device import choose_device
from modeconn_core.diagnosis import Diagnosis, diagnose, suspicion_threshold
from worker.inputs import Inputs, Model
from worker.problems import JobProblem
from worker.report_words import percent
from worker.spec import JobSpec

_SHOWN_SUGGESTIONS: Final = 3


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
    diagnosis = diagnosis_of(model, inputs, request)
    if diagnosis.suspicious and not request["accept_low_accuracy"]:
        raise _too_low(diagnosis, name)
    return warnings_of(diagnosis, name)


def diagnosis_of(model: Model, inputs: Inputs, request: dict[str, Any]) -> Diagnosis:
    """How the model does on the clean images as the request describes them. Raises JobProblem where it cannot tell."""
    try:
        return diagnose(
            model.module,
            inputs.clean.pixels,
            inputs.clean.labels,
            inputs.architecture.num_classes,
            mean=inputs.preprocessing.mean,
            std=inputs.preprocessing.std,
            channels=inputs.preprocessing.channels,
            class_names=request["classes"],
        )
    except ValueError as error:
        raise JobProblem("input-not-usable", "The model cannot be measured on these images", f"{error}.") from error


def warnings_of(diagnosis: Diagnosis, name: str) -> list[str]:
    """What a user should know of the model, called `name`, before its path is fitted."""
    warnings = []
    if diagnosis.outputs_are_probabilities:
        warnings.append(
            f"The outputs of the {name} are probabilities: its forward ends in a softmax, which weakens the training "
            "of the path. A model that returns logits does better."
        )
    return [*warnings, _finding(diagnosis, name)] if diagnosis.suspicious or diagnosis.suggestions else warnings


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
    got = f"The {name} gets {percent(diagnosis.accuracy)} of the clean images right"
    if not diagnosis.suspicious:
        return f"{got}, and could do better. {diagnosis.suggestions[0].description}"
    advice = (
        diagnosis.suggestions[0].description
        if diagnosis.suggestions
        else "No usual normalisation, channel order or class order does better: check that the model and the clean "
        "images belong together."
    )
    least = suspicion_threshold(round(1 / diagnosis.chance))
    return f"{got}; {percent(least)} is the least to expect where chance is {percent(diagnosis.chance)}. {advice}"
