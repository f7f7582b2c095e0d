"""The report of an analysis: what it says of hand-made figures, and what hostile words do to it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modeconn_core import AnalysisPoint, Barrier, Correlation, PathFigures
from worker.analysis_report import AnalysisFacts, write_analysis_report
from worker.analysis_words import correlation, verdict
from worker.report_facts import InputFile

HOSTILE = "<script>alert(1)</script>\" onerror='x' {{ 7*7 }} $\\frac$ \ud800\0"
PGD = {"epsilon": 8 / 255, "steps": 10, "step_size": 2 / 255, "random_start": True, "norm": "linf"}


def point(path: str, t: float, robust_loss: float, eigenvalue: float | None = 3.0) -> AnalysisPoint:
    return AnalysisPoint(
        path=path,  # type: ignore[arg-type]
        t=t,
        clean_loss=0.4,
        clean_error=0.1,
        clean_error_interval=(0.08, 0.12),
        robust_loss=robust_loss,
        robust_loss_interval=(robust_loss - 0.2, robust_loss + 0.2),
        robust_error=0.6,
        robust_error_interval=(0.55, 0.65),
        eigenvalue=eigenvalue,
        eigenvalue_interval=None if eigenvalue is None else (eigenvalue - 1, eigenvalue + 1),
        eigenvalue_converged=None if eigenvalue is None else 0.97,
    )


def path_of(kind: str, height: float, interval: tuple[float, float]) -> PathFigures:
    return PathFigures(
        path=kind,  # type: ignore[arg-type]
        points=[point(kind, t, 1 + 10 * height * t * (1 - t)) for t in (0.0, 0.25, 0.5, 0.75, 1.0)],
        clean_barrier=Barrier(height=0.0, interval=(0.0, 0.02), t=0.0),
        robust_barrier=Barrier(height=height, interval=interval, t=0.5),
        correlation=Correlation(
            pearson=0.91, pearson_interval=(0.8, 0.96), spearman=0.95, spearman_interval=(0.85, 0.98)
        ),
    )


def facts(text: str = "plain", **changes: Any) -> AnalysisFacts:
    whole = AnalysisFacts(
        job_id="7f0c2a4e",
        architecture=text,
        settings={"pgd": PGD, "labels": {text: text}},
        files=[InputFile(role="regular", name=text, sha256="ab" * 32, bytes=5)],
        paths=[path_of("standard", 1.9, (1.5, 2.3)), path_of("robust", 0.0, (0.0, 0.01))],
        pgd=PGD,
        eigen_images=100,
        alignment="Nothing was moved.",
        fit_images=1500,
        report_images=500,
        warnings=[text],
        seconds={"sweeping": 12.0},
        versions={"torch": "2.13.0"},
        device="CPU",
        assumptions=["One."],
        not_tested=["Two."],
    )
    return replace(whole, **changes)


def test_the_verdict_says_which_loss_rises_and_which_does_not() -> None:
    assert verdict(facts().paths) == [
        "Between the two models the standard loss has no barrier (0.00 nats, 95 % interval 0.00 to 0.02), but the "
        "robustness loss rises 1.90 nats above the line between its ends at t = 0.50 (95 % interval 1.50 to 2.30).",
        "Along the path trained on attacked images the standard loss has no barrier (0.00 nats, 95 % interval 0.00 to "
        "0.02), and the robustness loss has no barrier (0.00 nats, 95 % interval 0.00 to 0.01).",
    ]


def test_a_barrier_that_the_images_cannot_decide_on_is_neither_claimed_nor_denied() -> None:
    [said] = verdict([path_of("standard", 0.3, (0.02, 0.7))])
    assert "the robustness loss shows no certain barrier (0.30 nats, 95 % interval 0.02 to 0.70)" in said


@pytest.mark.parametrize(
    ("pearson", "spearman", "words"),
    [
        ((0.8, 0.96), (0.85, 0.98), "rise and fall together"),
        ((-0.96, -0.8), (-0.98, -0.85), "go in opposite directions"),
        ((-0.2, 0.4), (-0.1, 0.5), "show no clear relation"),
        ((0.99, 1.0), (-0.62, 0.04), "the two coefficients disagree"),
    ],
)
def test_a_correlation_is_told_by_its_intervals(
    pearson: tuple[float, float], spearman: tuple[float, float], words: str
) -> None:
    found = Correlation(
        pearson=sum(pearson) / 2, pearson_interval=pearson, spearman=sum(spearman) / 2, spearman_interval=spearman
    )
    sentence, caveat = correlation([replace(path_of("standard", 0.0, (0.0, 0.0)), correlation=found)])
    assert words in sentence
    assert "too narrow" in caveat


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of the usual facts' report, written once."""
    return write_analysis_report(tmp_path_factory.mktemp("usual"), facts())


@pytest.fixture(scope="module")
def page(usual: list[Path]) -> str:
    return usual[0].read_text()


def test_all_files_are_written_and_hold_the_figures(usual: list[Path], page: str) -> None:
    assert [file.name for file in usual] == ["report.html", "report.json", "losses.png", "eigenvalues.png"]
    kept = json.loads(usual[1].read_text())
    assert kept["paths"][0]["robust_barrier"] == {"height": 1.9, "interval": [1.5, 2.3], "t": 0.5}
    assert len(kept["paths"][1]["points"]) == 5
    for file in usual[2:]:
        with Image.open(file) as picture:
            assert picture.size[0] > 1000
    assert "Pearson 0.91 (95\u00a0% interval 0.80 to 0.96)" in page
    assert "whole interval lies above 0.05 nats" in page
    assert "10 steps of 2/255" in page
    assert page.count("<svg") == 6


def test_without_eigenvalues_nothing_is_said_of_them(tmp_path: Path) -> None:
    paths = [
        replace(
            path,
            correlation=None,
            points=[
                replace(p, eigenvalue=None, eigenvalue_interval=None, eigenvalue_converged=None) for p in path.points
            ],
        )
        for path in facts().paths
    ]
    written = write_analysis_report(tmp_path, facts(paths=paths, eigen_images=0))
    assert [file.name for file in written] == ["report.html", "report.json", "losses.png"]
    assert "Hessian" not in (tmp_path / "report.html").read_text()


def test_a_users_words_stay_words_and_the_page_loads_nothing(tmp_path: Path) -> None:
    write_analysis_report(tmp_path, facts(HOSTILE))
    page = (tmp_path / "report.html").read_text(errors="replace")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert "default-src 'none'" in page


def test_a_path_that_diverged_does_not_stop_the_report(tmp_path: Path) -> None:
    standard = path_of("standard", 1e6, (1e6, 1e6))
    broken = replace(standard, points=[*standard.points[:2], point("standard", 0.6, 1e6, 1e6), *standard.points[3:]])
    write_analysis_report(tmp_path, facts(paths=[broken]))
    assert "rises 1000000.00 nats" in json.loads((tmp_path / "report.json").read_text())["verdict"]


def test_every_id_on_the_page_is_there_once(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_barrier_is_drawn_with_its_height_only_where_it_is_there(page: str) -> None:
    assert page.count("+1.90") == 2  # in the wide picture and in the narrow one
    assert "+0.00" not in page
