"""Writes what an analysis found: report.html (one file), report.json, losses.png, eigenvalues.png."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from modeconn_core import PathFigures
from worker.analysis_plots import draw_eigenvalues, draw_losses, eigenvalue_svg, error_svg, loss_svg
from worker.analysis_words import correlation, definitions, verdict
from worker.report import jsonable, to_bytes
from worker.report_facts import InputFile
from worker.report_page import environment, flatten

_WIDE, _NARROW = (8.4, 3.9), (4.0, 6.4)  # inches: two panels side by side, or one above the other


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisFacts:
    """Everything a report says. Shares in 0..1, losses in nats, times in seconds; strings may come from users."""

    job_id: str
    architecture: str
    settings: Mapping[str, Any]  # the request as it was carried out, JSON values
    files: Sequence[InputFile]
    paths: Sequence[PathFigures]
    pgd: Mapping[str, Any]
    eigen_images: int  # how many images the eigenvalues are a mean over; 0: none were asked for
    alignment: str
    fit_images: int
    report_images: int
    warnings: Sequence[str]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    device: str
    assumptions: Sequence[str]
    not_tested: Sequence[str]
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def write_analysis_report(out_dir: Path, facts: AnalysisFacts) -> list[Path]:
    """Write the report's files and return their paths."""
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "report.html").write_bytes(to_bytes(render(facts)))
    (out_dir / "report.json").write_bytes(to_bytes(json.dumps(report_json(facts), indent=2, allow_nan=False) + "\n"))
    names = ["report.html", "report.json", "losses.png"]
    draw_losses(facts.paths, out_dir / "losses.png")
    if facts.eigen_images:
        draw_eigenvalues(facts.paths, out_dir / "eigenvalues.png")
        names.append("eigenvalues.png")
    return [out_dir / name for name in names]


def render(facts: AnalysisFacts) -> str:
    """The page."""
    return (
        environment()
        .get_template("analysis.html")
        .render(
            facts=facts,
            verdict=verdict(facts.paths),
            definitions=definitions(facts.pgd),
            correlation=correlation(facts.paths),
            pictures=_pictures(facts),
            settings=list(flatten(facts.settings)),
        )
    )


def _pictures(facts: AnalysisFacts) -> dict[str, Markup]:
    """Our own drawings, which hold figures and never a user's words; each in two sizes."""
    drawn = {"losses": loss_svg, "errors": error_svg}
    if facts.eigen_images:
        drawn["eigenvalues"] = eigenvalue_svg
    return {
        f"{name}_{width}": Markup(draw(facts.paths, size=size, name=f"{name}-{width}"))
        for name, draw in drawn.items()
        for width, size in (("wide", _WIDE), ("narrow", _NARROW))
    }


def report_json(facts: AnalysisFacts) -> dict[str, Any]:
    """The report as JSON values: all figures of the page, no pictures."""
    body: dict[str, Any] = {
        "schema": 1,
        "job_id": facts.job_id,
        "finished_at": facts.finished_at.isoformat(),
        "verdict": " ".join(verdict(facts.paths)),
        "correlation": " ".join(correlation(facts.paths)) or None,
        "paths": [asdict(path) for path in facts.paths],
        "files": [asdict(file) for file in facts.files],
        "definitions": definitions(facts.pgd),
    }
    for name in (
        "alignment",
        "fit_images",
        "report_images",
        "architecture",
        "settings",
        "warnings",
        "assumptions",
        "not_tested",
        "seconds",
        "versions",
        "device",
    ):
        body[name] = getattr(facts, name)
    plain: dict[str, Any] = jsonable(body)
    return plain
