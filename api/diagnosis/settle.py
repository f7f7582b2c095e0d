"""Settles a diagnosis request: its files, classes, pre-processing and architecture, all checked."""

from typing import Final

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.diagnosis.schemas import DiagnosisRequest
from api.jobs.checks import class_names, parameters, preprocessing
from api.jobs.estimate import estimate
from api.jobs.settle import Settled, architecture, deadline, input_file, settled

_IMAGES: Final = 1000  # at most; what is looked for where the model could do better comes on top


def settle(session: Session, parts: Parts, caller: Caller, body: DiagnosisRequest) -> Settled:
    """Everything static about `body`, checked in the order in which a person would fix it. Raises ApiError."""
    longest = deadline(parts, body.deadline_seconds)
    suspect = input_file(session, caller, "suspect", body.suspect, "model")
    clean = input_file(session, caller, "clean", body.clean, "clean")
    how = preprocessing(clean.facts, body.preprocessing)
    classes = class_names(clean.facts, body.classes)
    passes = min(_IMAGES, clean.facts["images"])
    return settled(
        body,
        files={"suspect_file_id": suspect.id, "clean_file_id": clean.id},
        deadline=longest,
        estimate=estimate(clean.facts, weights=parameters(suspect.facts), size=how["size"], passes=passes),
        architecture=architecture(parts, suspect, clean, body, classes=len(classes)),
        preprocessing=how,
        classes=classes,
    )
