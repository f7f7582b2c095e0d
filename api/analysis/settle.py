"""Settles an analysis request: its files, classes, pre-processing and architecture, all checked."""

from sqlalchemy.orm import Session

from api.analysis.estimate import analysis_passes
from api.analysis.schemas import AnalysisRequest
from api.dependencies import Caller, Parts
from api.jobs.checks import check_same_make, class_names, parameters, preprocessing
from api.jobs.estimate import estimate
from api.jobs.settle import Settled, architecture, deadline, input_file, settled


def settle(session: Session, parts: Parts, caller: Caller, body: AnalysisRequest) -> Settled:
    """Everything static about `body`, checked in the order in which a person would fix it. Raises ApiError."""
    longest = deadline(parts, body.deadline_seconds)
    regular = input_file(session, caller, "regular", body.regular, "model")
    robust = input_file(session, caller, "robust", body.robust, "model")
    clean = input_file(session, caller, "clean", body.clean, "clean")
    how = preprocessing(clean.facts, body.preprocessing)
    classes = class_names(clean.facts, body.classes)
    check_same_make(regular, robust, roles=("regular", "robust"), same="models-are-the-same", differs="models-differ")
    passes = analysis_passes(clean.facts, body)
    return settled(
        body,
        files={"suspect_file_id": regular.id, "second_file_id": robust.id, "clean_file_id": clean.id},
        deadline=longest,
        estimate=estimate(clean.facts, weights=parameters(regular.facts), size=how["size"], passes=passes),
        architecture=architecture(parts, regular, clean, body, classes=len(classes)),
        preprocessing=how,
        classes=classes,
    )
