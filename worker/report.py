"""Writes what a repair did and found: report.html (one file), report.json, curve.png, trigger pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from worker.plane_plot import plane_png
from worker.plots import draw_curve, fooled_png, trigger_png
from worker.report_facts import ClassAccuracy, Confusion, FooledImage, InputFile, InvertedTrigger, ReportFacts
from worker.report_page import render_html
from worker.report_words import attack_words, cautions, definitions, standing_limits, verdict

__all__ = [
    "ClassAccuracy",
    "Confusion",
    "FooledImage",
    "InputFile",
    "InvertedTrigger",
    "ReportFacts",
    "pictured",
    "report_json",
    "standing_limits",
    "targets_json",
    "write_report",
]

MAX_PICTURES = 12
PLANE_PICTURE = "plane.png"
_PICTURE_CHANNELS = (1, 3)


def write_report(out_dir: Path, facts: ReportFacts) -> list[Path]:
    """Write report.html, report.json, curve.png, a picture per shown trigger and the plane's; return their paths.

    Raises ValueError when the curve is empty or a trigger is not a picture (see `trigger_png`).
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    shown = pictured(facts.triggers)
    pictures = {finding.picture: trigger_png(finding.pattern, finding.mask) for finding in shown}
    for finding in shown:
        if finding.fooled_picture:
            pictures[finding.fooled_picture] = fooled_png([(one.image, one.stamped) for one in finding.fooled])
    words = attack_words(facts.tampering)
    pictured_plane = b"" if facts.plane is None else plane_png(facts.plane, words.rate, words.estimate)
    written: dict[str, bytes] = {
        "report.html": to_bytes(render_html(facts, pictures, pictured_plane)),
        "report.json": to_bytes(json.dumps(report_json(facts), indent=2, allow_nan=False) + "\n"),
    }
    for name, content in written.items():
        (out_dir / name).write_bytes(content)
    drawn = ["curve.png", *pictures]
    draw_curve(facts.curve, facts.chosen_t, out_dir / "curve.png", attack_names=words.drawn)
    if facts.plane is not None:
        drawn.append(PLANE_PICTURE)
        (out_dir / PLANE_PICTURE).write_bytes(pictured_plane)
    for name, png in pictures.items():
        (out_dir / name).write_bytes(png)
    return [out_dir / name for name in (*written, *drawn)]


def pictured(triggers: Sequence[InvertedTrigger]) -> list[InvertedTrigger]:
    """The findings worth a picture: every flagged one, then the most anomalous, up to `MAX_PICTURES`.

    None of them where the images are neither grey nor coloured.
    """
    drawable = [finding for finding in triggers if len(finding.pattern) in _PICTURE_CHANNELS]
    ranked = sorted(drawable, key=lambda finding: (not finding.flagged, -_rank(finding.anomaly_index)))
    return ranked[: max(MAX_PICTURES, sum(finding.flagged for finding in triggers))]


def _rank(index: float) -> float:
    return index if math.isfinite(index) else -math.inf


def report_json(facts: ReportFacts) -> dict[str, Any]:
    """The report as JSON values: all figures of the page, no pictures; numbers that are not finite become null."""
    body: dict[str, Any] = {
        "schema": 1,
        "job_id": facts.job_id,
        "finished_at": facts.finished_at.isoformat(),
        "verdict": verdict(facts),
        "cautions": cautions(facts),
        "criteria": {
            "max_accuracy_drop": facts.max_accuracy_drop,
            "max_attack_success_rate": facts.max_attack_success_rate,
            "met": facts.criteria_met,
        },
        "t": facts.chosen_t,
        "reason": facts.reason,
        "before": {name: getattr(facts.before, name) for name in _FIGURES},
        "after": {name: getattr(facts.after, name) for name in _FIGURES},
        "evaluated_on": facts.evaluated_on,
        "curve": [{name: getattr(point, name) for name in _POINT_FIELDS} for point in facts.curve],
        "targets": targets_json(facts.triggers),
        "per_class": [asdict(row) for row in facts.per_class],
        "confusions": [asdict(row) for row in facts.confusions],
        "files": [asdict(file) for file in facts.files],
        "definitions": definitions(facts.tampering),
        "plane": asdict(facts.plane) if facts.plane else None,
    }
    for name in _COPIED:
        body[name] = getattr(facts, name)
    plain: dict[str, Any] = jsonable(body)
    return plain


def targets_json(triggers: Sequence[InvertedTrigger]) -> list[dict[str, Any]]:
    """The findings in JSON's terms, as results and reports have them; pictures by the names of their files."""
    shown = {finding.picture for finding in pictured(triggers)}
    return [
        {name: getattr(finding, name) for name in _TARGET_FIELDS}
        | {"picture": finding.picture if finding.picture in shown else None}
        | {"fooled": _fooled_json(finding) if finding.picture in shown else None}
        for finding in triggers
    ]


def _fooled_json(finding: InvertedTrigger) -> dict[str, Any] | None:
    if not finding.fooled:
        return None
    images = [{name: getattr(one, name) for name in _FOOLED_FIELDS} for one in finding.fooled]
    return {"picture": finding.fooled_picture, "images": images}


_FIGURES = (
    "clean_accuracy",
    "clean_accuracy_interval",
    "attack_success_rate",
    "attack_success_rate_interval",
    "proxy_success_rate",
    "clean_confidence",
)
_POINT_FIELDS = ("path", "t", *_FIGURES, "clean_loss", "refined")
_TARGET_FIELDS = (
    "kind",
    "target_class",
    "class_name",
    "anomaly_index",
    "success_rate",
    "success_rate_after",
    "flagged",
)
_FOOLED_FIELDS = ("label", "taken_for", "repaired_says")
_COPIED = (
    "tampering",
    "alignment",
    "architecture",
    "settings",
    "warnings",
    "assumptions",
    "not_tested",
    "seconds",
    "versions",
    "device",
)


def jsonable(value: Any) -> Any:
    """JSON values; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def to_bytes(text: str) -> bytes:
    """UTF-8."""
    # a user's string may hold half a surrogate pair, which UTF-8 cannot write
    return text.encode("utf-8", "replace")
