"""`make demo`: the example suspect goes through the whole service; a fresh process then checks what that gained.

Leaves demo-out/ with repaired.safetensors, curve.png, report.html and summary.json. Exit code 0: the repair met its
criteria, as the service and a process that knows nothing of the service both found, and no process was left behind.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from local_service import ExampleFailed, console, exit_code, service
from rich.table import Table

from client import Client, Criteria, Job, RepairSettings
from client.command.follow import Follower
from client.command.shared import per_cent

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE / "cifar10"
OUT = HERE.parent / "demo-out"


def settings_of(card: dict[str, Any]) -> RepairSettings:
    """The card's statements as a request. The triggered images measure; they do not choose t."""
    return RepairSettings.model_validate(
        {name: card[name] for name in ("architecture", "preprocessing", "classes", "criteria")}
        | {"select_with_triggered": False, "labels": {"from": "make demo"}}
    )


def repair_example(client: Client, settings: RepairSettings) -> Job:
    """Uploads the example, follows the job to its end, downloads what it made to demo-out/."""
    suspect, clean, triggered = (EXAMPLE / name for name in ("suspect.safetensors", "clean.zip", "triggered.zip"))
    with console.status("uploading the suspect, the clean and the triggered images"):
        job = client.repair(suspect, clean, settings, triggered=triggered)
    with Follower(console) as follower:
        done = job.wait(follower.on_event)
    job.download(OUT / "repaired.safetensors")
    for name in ("curve.png", "report.html"):
        job.download_artifact(name, OUT / name)
    return done


def check(weights: Path) -> dict[str, Any]:
    """Clean accuracy and attack success rate as a fresh process finds them, without any part of the service."""
    command = [sys.executable, str(HERE / "check_model.py"), str(weights), str(EXAMPLE / "card.json")]
    command += [str(EXAMPLE / "heldout.zip"), str(EXAMPLE / "triggered.zip")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode:
        raise ExampleFailed(f"The independent check of {weights.name} failed:\n{outcome.stderr}")
    return json.loads(outcome.stdout)


def meets(before: dict[str, Any], after: dict[str, Any], criteria: Criteria) -> bool:
    """The criteria, on the figures of the independent check."""
    drop = before["clean_accuracy"] - after["clean_accuracy"]
    within = after["attack_success_rate"] <= criteria.max_attack_success_rate
    return within and drop <= criteria.max_accuracy_drop + 1e-9


def show(before: dict[str, Any], after: dict[str, Any], job: Job, seconds: float) -> None:
    """The one table."""
    assert job.result is not None
    table = Table(
        "", "clean accuracy", "attack success rate", "t", "seconds", title="Independent check, held-out images"
    )
    for name, figures, rest in (
        ("before", before, ("", "")),
        ("after", after, (f"{job.result.t:.3g}", f"{seconds:.0f}")),
    ):
        table.add_row(name, per_cent(figures["clean_accuracy"]), per_cent(figures["attack_success_rate"]), *rest)
    console.print(table)
    console.print(f"t = {job.result.t:.3g}: {job.result.reason}", markup=False)


def run() -> bool:
    """The whole demo. True when the repair met its criteria."""
    card = json.loads((EXAMPLE / "card.json").read_text())
    settings = settings_of(card)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    with service(OUT) as client:
        started = time.monotonic()
        job = repair_example(client, settings)
        seconds = time.monotonic() - started
    with console.status("checking both models in a fresh process"):
        before, after = check(EXAMPLE / "suspect.safetensors"), check(OUT / "repaired.safetensors")
    assert job.result is not None
    met = meets(before, after, settings.criteria)
    summary = {
        "before": before,
        "after": after,
        "t": job.result.t,
        "seconds": round(seconds, 1),
        "criteria": settings.criteria.model_dump(),
        "criteria_met": {"service": job.result.criteria_met, "independent_check": met},
        "service": job.result.model_dump(mode="json", exclude={"artifacts"}),
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    show(before, after, job, seconds)
    own = f"{per_cent(job.result.before.clean_accuracy)} -> {per_cent(job.result.after.clean_accuracy)}"
    console.print(
        f"the service, on the clean images it kept for its report: {verdict(job.result.criteria_met)} ({own})",
        soft_wrap=True,
    )
    console.print(f"the fresh process, on images the service never saw: {verdict(met)}")
    console.print(f"See {OUT}", highlight=False, soft_wrap=True)
    return met and job.result.criteria_met


def verdict(met: bool) -> str:
    """One phrase, coloured."""
    return "[green]criteria met[/]" if met else "[red]criteria NOT met[/]"


if __name__ == "__main__":
    sys.exit(exit_code(run))
