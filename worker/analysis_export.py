"""From an analysis' result to files in the storage and the rows that name them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from modeconn_core import AnalysisConfig, AnalysisResult
from store.storage import LocalStorage
from worker.analysis_report import AnalysisFacts, write_analysis_report
from worker.export import artifact, store_manifest
from worker.inputs import Inputs
from worker.manifest import device_in_words, inputs_by_role, versions
from worker.report_facts import InputFile
from worker.spec import PATH_FILE, ROBUST_PATH_FILE, JobSpec

_ASSUMPTIONS = (
    "The clean images are correctly labelled and like those that the models will meet.",
    "The pre-processing, the class order and the architecture are as stated in the request.",
    "Both models take the same pre-processing.",
)
_NOT_TESTED = (
    "Attacks other than this one: a stronger attack finds higher losses. The figures bound robustness from above.",
    "Other paths: each is one of many between the two models.",
    "Backdoors and injected errors: an analysis does not look for tampering.",
)


def export(
    storage: LocalStorage,
    spec: JobSpec,
    inputs: Inputs,
    config: AnalysisConfig,
    result: AnalysisResult,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Write all files of a finished analysis durably; returns `result` and `artifacts` for the database."""
    warnings = [*warnings, *result.warnings]
    artifacts = []
    with storage.scratch() as folder:
        written = []
        for kind, name in (("standard", PATH_FILE), ("robust", ROBUST_PATH_FILE)):
            if kind in result.weights:
                result.weights[kind].save(folder / name)
                written.append(folder / name)
        written += write_analysis_report(folder, _facts(spec, inputs, config, result, warnings))
        for file in written:
            artifacts.append(artifact(storage.adopt(file, f"{spec.folder}/{file.name}")))
    body = _result(result, warnings)
    artifacts.append(store_manifest(storage, spec, config, body, artifacts))
    body["artifacts"] = [{name: each[name] for name in ("name", "bytes", "sha256", "media_type")} for each in artifacts]
    return {"result": body, "artifacts": artifacts}


def _result(result: AnalysisResult, warnings: Sequence[str]) -> dict[str, Any]:
    """The `result` column; losses in nats."""
    return {
        "paths": [
            {
                "path": path.path,
                "clean_barrier": asdict(path.clean_barrier),
                "robust_barrier": asdict(path.robust_barrier),
                "correlation": asdict(path.correlation) if path.correlation else None,
            }
            for path in result.paths
        ],
        "alignment": result.alignment,
        "fit_images": result.fit_images,
        "report_images": result.report_images,
        "warnings": list(warnings),
        "seconds": dict(result.seconds),
    }


def _facts(
    spec: JobSpec, inputs: Inputs, config: AnalysisConfig, result: AnalysisResult, warnings: Sequence[str]
) -> AnalysisFacts:
    return AnalysisFacts(
        job_id=spec.job_id,
        architecture=inputs.architecture.words,
        settings=spec.request | {"classes": len(spec.request["classes"])},
        files=[
            InputFile(role=role, name=ref.name, sha256=ref.sha256, bytes=ref.bytes)
            for role, ref in inputs_by_role(spec).items()
        ],
        paths=result.paths,
        pgd=spec.request["pgd"],
        eigen_images=min(config.eigenvalues.images, result.report_images) if config.eigenvalues else 0,
        alignment=result.alignment,
        fit_images=result.fit_images,
        report_images=result.report_images,
        warnings=warnings,
        seconds=result.seconds,
        versions=versions(),
        device=device_in_words(spec),
        assumptions=_ASSUMPTIONS,
        not_tested=_NOT_TESTED,
    )
