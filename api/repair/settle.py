"""Settles a repair request: its files, classes, pre-processing and architecture, all checked."""

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.jobs.checks import check_same_make, class_names, parameters, preprocessing
from api.jobs.estimate import estimate
from api.jobs.settle import Settled, architecture, deadline, input_file, settled
from api.repair.checks import check_choice, check_triggered
from api.repair.estimate import repair_passes
from api.repair.schemas import RepairRequest
from store.tables import File


def settle(session: Session, parts: Parts, caller: Caller, body: RepairRequest) -> Settled:
    """Everything static about `body`, checked in the order in which a person would fix it. Raises ApiError."""
    check_choice(body)
    longest = deadline(parts, body.deadline_seconds)
    suspect = input_file(session, caller, "suspect", body.suspect, "model")
    clean = input_file(session, caller, "clean", body.clean, "clean")
    triggered = input_file(session, caller, "triggered", body.triggered, "triggered") if body.triggered else None
    second = input_file(session, caller, "second_model", body.second_model, "model") if body.second_model else None
    how = preprocessing(clean.facts, body.preprocessing)
    classes = class_names(clean.facts, body.classes)
    if triggered is not None:
        check_triggered(clean.facts, triggered.facts, classes)
    if second is not None:
        _check_second_model(suspect, second)
    passes = repair_passes(
        clean.facts,
        body.method,
        classes=len(classes),
        scans=body.tampering == "backdoor",
        second_model=second is not None,
    )
    files = {"suspect": suspect, "clean": clean, "triggered": triggered, "second": second}
    return settled(
        body,
        files={f"{name}_file_id": file.id for name, file in files.items() if file is not None},
        deadline=longest,
        estimate=estimate(clean.facts, weights=parameters(suspect.facts), size=how["size"], passes=passes),
        architecture=architecture(parts, suspect, clean, body, classes=len(classes)),
        preprocessing=how,
        classes=classes,
    )


def _check_second_model(suspect: File, second: File) -> None:
    check_same_make(
        suspect,
        second,
        roles=("suspect", "second_model"),
        same="second-model-is-the-suspect",
        differs="second-model-differs",
    )
