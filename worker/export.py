"""From a repair's result to files in the storage and the rows that name them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modeconn_core import AnalysisConfig, Figures, FooledImages, RepairConfig, RepairResult, TriggerFinding
from store.storage import LocalStorage, StoredFile
from worker.inputs import Inputs, Model, as_picture
from worker.manifest import device_in_words, inputs_by_role, manifest, versions
from worker.report import (
    ClassAccuracy,
    Confusion,
    FooledImage,
    InputFile,
    InvertedTrigger,
    ReportFacts,
    targets_json,
    write_report,
)
from worker.report_words import standing_limits
from worker.spec import PATH_FILE, REPAIRED_FILE, JobSpec
from worker.weights import read_layout, write_like

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
}
_ASSUMPTIONS = (
    "The clean images are untampered, correctly labelled and like those that the model will meet.",
    "The pre-processing, the class order and the architecture are as stated in the request.",
)
Artifact = dict[str, Any]  # the members of store.jobs.NewArtifact


def export(
    storage: LocalStorage,
    spec: JobSpec,
    inputs: Inputs,
    config: RepairConfig,
    result: RepairResult,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Write all files of a finished repair durably; returns `result` and `artifacts` for the database."""
    warnings = [*warnings, *result.warnings]
    model = Model(module=result.model, layout=inputs.suspect.layout, prefix=inputs.suspect.prefix)
    repaired = store_weights(storage, f"{spec.folder}/{REPAIRED_FILE}", model)
    triggers = [_inverted(finding, inputs, spec.request["classes"]) for finding in result.targets]
    artifacts = [repaired]
    with storage.scratch() as folder:
        result.path.save(folder / PATH_FILE)
        facts = _report_facts(spec, inputs, config, result, warnings, triggers, repaired)
        for file in (folder / PATH_FILE, *write_report(folder, facts)):
            artifacts.append(artifact(storage.adopt(file, f"{spec.folder}/{file.name}")))
    body = _result(result, warnings, triggers)
    figures = {name: body[name] for name in ("t", "reason", "criteria_met", "before", "after", "seconds")}
    artifacts.append(store_manifest(storage, spec, config, figures, artifacts))
    body["artifacts"] = [{name: each[name] for name in ("name", "bytes", "sha256", "media_type")} for each in artifacts]
    return {"result": body, "artifacts": artifacts}


def store_weights(storage: LocalStorage, name: str, model: Model) -> Artifact:
    """Store a module's weights with exactly the upload's keys, order, dtypes and shapes, and check that they are."""
    with storage.new_writer(name) as writer:
        write_like(writer, model.layout, model.module, prefix=model.prefix)
        stored = writer.commit()
    if read_layout(storage.path(name)) != model.layout:
        raise RuntimeError(f"{name} was not written in the upload's layout")
    return artifact(stored)


def artifact(stored: StoredFile) -> Artifact:
    name = Path(stored.name).name
    return {
        "name": name,
        "path": stored.name,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "media_type": _MEDIA_TYPES[Path(name).suffix],
    }


def store_manifest(
    storage: LocalStorage,
    spec: JobSpec,
    config: RepairConfig | AnalysisConfig,
    figures: dict[str, Any],
    artifacts: Sequence[Artifact],
) -> Artifact:
    """Store the manifest: the inputs, `figures` (members of the result), and the other files that were made."""
    with storage.new_writer(f"{spec.folder}/manifest.json") as writer:
        writer.write(manifest(spec, configuration=config, figures=figures, artifacts=artifacts))
        return artifact(writer.commit())


def _report_facts(
    spec: JobSpec,
    inputs: Inputs,
    config: RepairConfig,
    result: RepairResult,
    warnings: Sequence[str],
    triggers: Sequence[InvertedTrigger],
    repaired: Artifact,
) -> ReportFacts:
    criteria = spec.request["criteria"]
    given = [
        InputFile(role=role, name=ref.name, sha256=ref.sha256, bytes=ref.bytes)
        for role, ref in inputs_by_role(spec).items()
    ]
    made = InputFile(role="repaired", name=REPAIRED_FILE, sha256=repaired["sha256"], bytes=repaired["bytes"])
    return ReportFacts(
        job_id=spec.job_id,
        architecture=inputs.architecture.words,
        settings=spec.request | {"classes": len(spec.request["classes"])},
        files=[*given, made],
        before=result.before,
        after=result.after,
        curve=[*result.curve, *(result.unaligned_curve or ())],
        chosen_t=result.t,
        reason=result.reason,
        max_accuracy_drop=criteria["max_accuracy_drop"],
        max_attack_success_rate=criteria["max_attack_success_rate"],
        criteria_met=result.criteria_met,
        triggers=triggers,
        per_class=_per_class(result, spec.request["classes"]),
        confusions=_confusions(result, spec.request["classes"]),
        warnings=warnings,
        seconds=result.seconds,
        versions=versions(),
        device=device_in_words(spec),
        assumptions=[*_ASSUMPTIONS, f"The path's other end: {result.second_end}."],
        not_tested=standing_limits(inputs.triggered is not None, config.tampering),
        evaluated_on=_evaluated_on(inputs, result, config),
        tampering=config.tampering,
        alignment=result.alignment,
        plane=result.plane,
    )


def _per_class(result: RepairResult, classes: Sequence[str]) -> list[ClassAccuracy]:
    return [
        ClassAccuracy(index=index, name=classes[index], before=before, after=after, images=result.class_images[index])
        for index, (before, after) in enumerate(zip(*result.per_class, strict=True))
        if before is not None and after is not None
    ]


def _confusions(result: RepairResult, classes: Sequence[str]) -> list[Confusion]:
    """Those that became more or fewer, the largest change first."""
    before, after = result.confusions
    rows = [
        Confusion(
            label=classes[pair[0]], taken_for=classes[pair[1]], before=before.get(pair, 0), after=after.get(pair, 0)
        )
        for pair in sorted(before.keys() | after.keys())
    ]
    return sorted((row for row in rows if row.change), key=lambda row: -abs(row.change))


def _inverted(finding: TriggerFinding, inputs: Inputs, classes: Sequence[str]) -> InvertedTrigger:
    return InvertedTrigger(
        kind=finding.kind,
        target_class=finding.target_class,
        class_name="all-to-all" if finding.target_class is None else classes[finding.target_class],
        anomaly_index=finding.anomaly_index,
        success_rate=finding.success_rate,
        success_rate_after=finding.success_rate_after,
        flagged=finding.flagged,
        pattern=as_picture(finding.pattern, inputs.preprocessing).numpy(),
        mask=finding.mask.detach().float().cpu().numpy(),
        fooled=_fooled(finding.fooled, inputs, classes) if finding.fooled else (),
    )


def _fooled(found: FooledImages, inputs: Inputs, classes: Sequence[str]) -> list[FooledImage]:
    return [
        FooledImage(
            image=as_picture(image, inputs.preprocessing).numpy(),
            stamped=as_picture(stamped, inputs.preprocessing).numpy(),
            label=classes[label],
            taken_for=classes[taken_for],
            repaired_says=classes[says],
        )
        for image, stamped, label, taken_for, says in zip(
            found.images, found.stamped, found.labels, found.taken_for, found.repaired_says, strict=True
        )
    ]


def _result(result: RepairResult, warnings: Sequence[str], triggers: Sequence[InvertedTrigger]) -> dict[str, Any]:
    """The `result` column. Fractions in 0..1."""
    return {
        "t": result.t,
        "reason": result.reason,
        "criteria_met": result.criteria_met,
        "before": as_json(result.before),
        "after": as_json(result.after),
        "targets": targets_json(triggers),
        "alignment": result.alignment,
        "plane": asdict(result.plane) if result.plane else None,
        "warnings": list(warnings),
        "seconds": dict(result.seconds),
    }


def as_json(measured: Figures) -> dict[str, Any]:
    """A model's figures as JSON values."""
    return asdict(measured)


def _evaluated_on(inputs: Inputs, result: RepairResult, config: RepairConfig) -> str:
    words = f"{result.report_images} clean images that neither the fit nor the choice saw"
    if inputs.triggered is None:
        return words
    kind = "suspicious" if config.tampering == "error_injection" else "triggered"
    which = "half of the" if config.select_with_triggered else "the"
    return f"{words}, and on {which} {len(inputs.triggered.labels)} {kind} images"
