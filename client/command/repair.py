"""`modeconn repair`: upload, start, follow, download."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from client.command.follow import Follower
from client.command.options import (
    AcceptLowAccuracy,
    Arch,
    ArchOption,
    Bends,
    Bgr,
    Check,
    Classes,
    Clean,
    Curve,
    Deadline,
    Label,
    Mean,
    NoMirror,
    Seed,
    Size,
    Std,
    Steps,
    stated,
)
from client.command.service import Local, a_service
from client.command.shared import AsJson, Data, Exit, Key, Url, err, errors_to_exit, out, print_json
from client.command.tables import print_job
from client.handle import Handle
from client.models import AnyJob, Criteria, Job, Method, Preflight, RepairSettings, StoredFile
from client.pretrained import Pretrained
from client.repair import Repair
from client.sdk import Client, Kind

AJob = TypeVar("AJob", bound=AnyJob)


class Tampering(StrEnum):
    """What a repair looks for."""

    BACKDOOR = "backdoor"
    ERROR_INJECTION = "error_injection"


def repair(
    model: Annotated[
        Path,
        typer.Argument(
            help="The suspect: .safetensors, a .pt/.pth state dict, or a folder with config.json and weights, as timm "
            "and Hugging Face write it.",
            exists=True,
        ),
    ],
    clean: Clean,
    arch: Arch = None,
    arch_option: ArchOption = None,
    triggered: Annotated[
        Path | None, typer.Option(help="Triggered images, in folders named by the attacker's class.", exists=True)
    ] = None,
    second_model: Annotated[
        Path | None, typer.Option(help="Another model of the same make as second end.", exists=True)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where the repaired weights go. Default: MODEL-repaired.safetensors, for a folder MODEL-repaired.",
        ),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    bgr: Bgr = False,
    classes: Classes = None,
    max_accuracy_drop: Annotated[
        float, typer.Option(help="Points of accuracy that may be lost.", min=0, max=100)
    ] = 2.5,
    max_attack_success_rate: Annotated[
        float, typer.Option("--max-asr", help="Attack success rate that may stay, per cent.", min=0, max=100)
    ] = 5.0,
    tampering: Annotated[
        Tampering, typer.Option(help="What the model may have suffered: a backdoor, or a few injected errors.")
    ] = Tampering.BACKDOOR,
    select_with_triggered: Annotated[
        bool, typer.Option("--select-with-triggered", help="Choose t by the triggered images.")
    ] = False,
    ends: Annotated[str, typer.Option(help="Second end: permuted or fine_tuned.")] = "permuted",
    curve: Curve = "bezier",
    bends: Bends = 1,
    steps: Steps = None,
    no_mirror: NoMirror = False,
    plane: Annotated[int, typer.Option(help="Points per side of a map of the path's plane; 0 for none.", min=0)] = 0,
    seed: Seed = 0,
    label: Label = None,
    accept_low_accuracy: AcceptLowAccuracy = False,
    deadline: Deadline = None,
    check: Check = False,
    wait: Annotated[bool, typer.Option(help="Follow the job and download; --no-wait only starts it.")] = True,
    as_json: AsJson = False,
    local: Local = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Repair MODEL with clean images: upload, follow, download the repaired weights.

    Where no service is named or runs here, one is started for this command alone; report, manifest and path are then
    kept beside the weights.

    Exit codes: 0 the criteria are met, 3 they are not (the best trade-off is downloaded all the same), 4 the job
    failed, 5 it was cancelled, 6 the service refused the request, 7 no service answered, 130 Ctrl-C (the job goes on).
    """
    with errors_to_exit(as_json), a_service(url, key, data, local=local, wait=wait) as (client, own):
        folder = Pretrained.read(model) if model.is_dir() else None
        settings = RepairSettings(
            **stated(
                folder=folder,
                arch=arch,
                arch_option=arch_option,
                mean=mean,
                std=std,
                size=size,
                bgr=bgr,
                classes=classes,
                label=label,
                deadline=deadline,
            ),
            accept_low_accuracy=accept_low_accuracy,
            tampering=tampering.value,
            select_with_triggered=select_with_triggered,
            criteria=Criteria(
                max_accuracy_drop=max_accuracy_drop / 100, max_attack_success_rate=max_attack_success_rate / 100
            ),
            method=Method.model_validate(
                {
                    "curve": curve,
                    "bends": bends,
                    "ends": ends,
                    "steps": steps,
                    "mirror": not no_mirror,
                    "plane": plane,
                    "seed": seed,
                }
            ),
        )
        stored = upload_all(
            client,
            suspect=folder.weights if folder else model,
            clean=clean,
            triggered=triggered,
            second_model=second_model,
        )
        if check:
            print_preflight(client.preflight(settings=settings, **stored), as_json)
            return
        job = client.repair(settings=settings, **stored)
        if not wait:
            print_json(job.job) if as_json else out.print(job.id, highlight=False)
            return
        target = output or model.with_name(f"{model.name}-repaired" if folder else f"{model.stem}-repaired.safetensors")
        done = follow_to_end(job, goes_on=not own)
        with err.status("downloading"):
            folder.write(job, target) if folder else job.download(target)
            kept = keep_records(job, target) if own else []
        report(done, target, as_json)
        if own and not as_json:
            out.print(f"beside it: {', '.join(path.name for path in kept)}", highlight=False, markup=False)
        raise typer.Exit(Exit.OK if done.result and done.result.criteria_met else Exit.CRITERIA_NOT_MET)


def print_preflight(preflight: Preflight, as_json: bool) -> None:
    """What would run and for how long."""
    if as_json:
        print_json(preflight)
        return
    name, before = preflight.architecture["name"], preflight.queue["jobs_before"]
    out.print(f"All is in order: {name}, {len(preflight.classes)} classes. Nothing was started.", highlight=False)
    out.print(f"It would take about {preflight.estimate['seconds']:.0f} s, after {before} jobs.", highlight=False)


def upload_all(client: Client, **files: Path | None) -> dict[str, Any]:
    """Uploads what is given, each with a bar of its own: role -> stored file."""
    kinds: dict[str, Kind] = {"clean": "clean", "triggered": "triggered"}  # the other roles are models
    columns = (TextColumn("uploading {task.description:<20}"), BarColumn(28), DownloadColumn(), TransferSpeedColumn())
    stored: dict[str, StoredFile] = {}
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        for role, path in files.items():
            if path is None:
                continue
            task = progress.add_task(escape(path.name), total=path.stat().st_size if path.is_file() else None)
            stored[role] = client.upload(path, kinds.get(role, "model"), on_bytes=partial(_show_sent, progress, task))
    return stored


def _show_sent(progress: Progress, task: TaskID, sent: int) -> None:
    progress.update(task, completed=sent)


def follow_to_end(job: Handle[AJob], *, goes_on: bool = True) -> AJob:
    """The ended job. On Ctrl-C says how to come back to one that `goes_on`, and leaves it running."""
    err.print(f"job {job.id}", highlight=False)
    try:
        with Follower(err) as follower:
            return job.wait(follower.on_event)
    except KeyboardInterrupt:
        if not goes_on:
            raise
        err.print(
            f"The job goes on. See it: modeconn show {job.id}   Stop it: modeconn cancel {job.id}", highlight=False
        )
        raise typer.Exit(Exit.INTERRUPTED) from None


def keep_records(job: Repair, target: Path) -> list[Path]:
    """The report, the manifest and the path beside the weights: the service that has them ends."""
    names = ("report.html", "manifest.json", "path.safetensors")
    return [job.download_artifact(name, target.with_name(f"{target.stem}-{name}")) for name in names]


def report(job: Job, target: Path, as_json: bool) -> None:
    """The ended job and where its weights are."""
    if as_json:
        print_json(job)
        return
    print_job(out, job)
    out.print(f"repaired weights: {target}", highlight=False, markup=False)
