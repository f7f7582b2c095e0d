"""What an analysis job's child does: read and check both models, analyse the paths between them, write the files."""

from typing import Any

import torch

from modeconn_core import AnalysisConfig, AnalysisResult, Checkpoints, EigenSettings, PgdSettings, analyse
from store.storage import LocalStorage
from worker.analysis_export import export
from worker.checkpoint import open_checkpoints
from worker.checks import check_device, check_model
from worker.child import Send
from worker.inputs import Inputs, Model, read_inputs
from worker.problems import JobProblem
from worker.reporter import Reporter
from worker.spec import JobSpec


def run(spec: JobSpec, send: Send) -> dict[str, Any]:
    """Carry out one attempt; returns `result` and `artifacts` as the database keeps them. Raises JobProblem."""
    torch.set_num_threads(spec.threads)
    storage = LocalStorage(spec.storage_root, room=spec.folder)
    reporter = Reporter(send)
    reporter.stage("validating", method_done=0.0)
    check_device(spec)
    inputs = read_inputs(storage, spec)
    robust = inputs.second_model
    assert robust is not None, "an analysis has two models"
    warnings = check_model(inputs.suspect, "regular model", inputs, spec.request)
    warnings += check_model(robust, "robust model", inputs, spec.request)
    for text in warnings:
        reporter.warning(text)
    config = configuration(spec)
    result = analysed(inputs, robust, config, reporter, open_checkpoints(storage, spec))
    reporter.stage("exporting", method_done=1.0)
    return export(storage, spec, inputs, config, result, warnings)


def analysed(
    inputs: Inputs, robust: Model, config: AnalysisConfig, reporter: Reporter, checkpoints: Checkpoints
) -> AnalysisResult:
    """The method's work. Raises JobProblem where it cannot use what it was given."""
    try:
        return analyse(
            inputs.suspect.module,
            robust.module,
            inputs.preprocessing.apply(inputs.clean.pixels),
            inputs.clean.labels,
            mean=inputs.preprocessing.mean,
            std=inputs.preprocessing.std,
            config=config,
            on_progress=reporter.core,
            checkpoints=checkpoints,
        )
    except ValueError as error:
        raise JobProblem("input-not-usable", "The analysis cannot work with this input", f"{error}.") from error


def configuration(spec: JobSpec) -> AnalysisConfig:
    """The request in the method's terms."""
    method, eigenvalues = spec.request["method"], spec.request["eigenvalues"]
    return AnalysisConfig(
        seed=spec.seed,
        curve=method["curve"],
        bends=method["bends"],
        steps=method["steps"],
        mirror=method["mirror"],
        align=method["align"],
        points=method["points"],
        robust_path=method["robust_path"],
        max_images=method["max_images"],
        pgd=PgdSettings(**spec.request["pgd"]),
        eigenvalues=EigenSettings(**eigenvalues) if eigenvalues else None,
        device=spec.device,
    )
