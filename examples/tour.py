"""`make tour`: what ModeConn does besides the demo's repair, each as a job through the whole service.

1. Two tampered models: the suspect and a later release of it with the same backdoor.
2. Injected errors: four images that a tampered model gets wrong on purpose.
3. Evasion: what lies between the suspect and a robust model.

The models are made first (tour_models.py; minutes). Leaves tour-out/ with a folder for each job: its report, pictures
and weights. Exit code 0: every job succeeded, and every repair met its criteria.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from local_service import ExampleFailed, console, exit_code, service

from client import Analysis, AnalysisSettings, Client, Repair, RepairSettings
from client.command.follow import Follower
from client.command.tables import print_analysis_result, print_result

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE / "cifar10"
OUT = HERE.parent / "tour-out"
PLANE = 13  # points along each side
POINTS, IMAGES = 11, 240  # of the analysis: a third of the defaults, for the time


def make_models() -> None:
    """In a process of its own: the tour itself needs no torch, as no user of the service does."""
    console.print("making a second release, a robust model and one with injected errors")
    if subprocess.run([sys.executable, str(HERE / "tour_models.py"), str(OUT)]).returncode:
        raise ExampleFailed("the models could not be made")


def two_models(client: Client, about: dict[str, Any]) -> bool:
    """A repair between two tampered models, with the plane of the path."""
    settings = RepairSettings.model_validate(about | {"method": {"plane": PLANE}})
    job = client.repair(
        EXAMPLE / "suspect.safetensors",
        EXAMPLE / "heldout.zip",
        settings,
        triggered=EXAMPLE / "triggered.zip",
        second_model=OUT / "second-release.safetensors",
    )
    return repaired(job, OUT / "two-models", ("curve.png", "plane.png"))


def injected_errors(client: Client, about: dict[str, Any]) -> bool:
    """A repair of injected errors. The suspicious images measure; they do not choose t."""
    settings = RepairSettings.model_validate(about | {"tampering": "error_injection"})
    job = client.repair(
        OUT / "injected.safetensors", EXAMPLE / "heldout.zip", settings, triggered=OUT / "suspicious.zip"
    )
    return repaired(job, OUT / "injected-errors", ("curve.png",))


def evasion(client: Client, about: dict[str, Any]) -> bool:
    """An analysis of the paths between a regular and a robust model."""
    stated = {name: about[name] for name in ("architecture", "preprocessing", "classes", "labels")}
    job = client.analyse(
        EXAMPLE / "suspect.safetensors",
        OUT / "robust.safetensors",
        EXAMPLE / "heldout.zip",
        AnalysisSettings.model_validate(stated | {"method": {"points": POINTS, "max_images": IMAGES}}),
    )
    done = followed(job)
    keep(job, OUT / "evasion", ("report.html", "losses.png", "eigenvalues.png"))
    assert done.result is not None
    print_analysis_result(console, done.result)
    return True


def repaired(job: Repair, folder: Path, pictures: tuple[str, ...]) -> bool:
    """Follows a repair, keeps what it made, says how it came out."""
    done = followed(job)
    keep(job, folder, ("report.html", *pictures))
    job.download(folder / "repaired.safetensors")
    assert done.result is not None
    print_result(console, done.result)
    return done.result.criteria_met


def followed(job: Repair | Analysis) -> Any:
    """The job at its end."""
    with Follower(console) as follower:
        return job.wait(follower.on_event)


def keep(job: Repair | Analysis, folder: Path, names: tuple[str, ...]) -> None:
    """Downloads the job's files of these names."""
    folder.mkdir()
    for name in names:
        job.download_artifact(name, folder / name)


def run() -> bool:
    """The whole tour. True when all went well."""
    card = json.loads((EXAMPLE / "card.json").read_text())
    about = {name: card[name] for name in ("architecture", "preprocessing", "classes")}
    about["labels"] = {"from": "make tour"}
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    make_models()
    outcomes = []
    with service(OUT) as client:
        for title, chapter in (
            ("Two tampered models", two_models),
            ("Injected errors", injected_errors),
            ("Between a regular and a robust model", evasion),
        ):
            console.rule(title)
            outcomes.append(chapter(client, about))
    console.print(f"See {OUT}", highlight=False, soft_wrap=True)
    return all(outcomes)


if __name__ == "__main__":
    sys.exit(exit_code(run))
