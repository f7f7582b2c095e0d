"""`modeconn analyse`: what lies between a regular and a robust model."""

from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

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
from client.command.repair import follow_to_end, print_preflight, upload_all
from client.command.service import Local, a_service
from client.command.shared import AsJson, Data, Key, Url, err, errors_to_exit, out, print_json
from client.command.tables import print_job
from client.models import AnalysisMethod, AnalysisSettings, Eigenvalues, Pgd


class Norm(StrEnum):
    """Of the ball that the attack stays in."""

    LINF = "linf"
    L2 = "l2"


def analyse(
    regular: Annotated[Path, typer.Argument(help="The model at t = 0, trained as usual.", exists=True, dir_okay=False)],
    robust: Annotated[
        Path, typer.Argument(help="The model at t = 1, trained against attacks.", exists=True, dir_okay=False)
    ],
    clean: Clean,
    arch: Arch = None,
    arch_option: ArchOption = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for report, pictures and paths. Default: REGULAR-analysis.")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    bgr: Bgr = False,
    classes: Classes = None,
    epsilon: Annotated[str, typer.Option(help="Radius of the attack in images in 0..1, e.g. 8/255.")] = "8/255",
    attack_steps: Annotated[int, typer.Option(help="Steps of the attack.")] = 10,
    step_size: Annotated[str, typer.Option(help="Of the attack, e.g. 2/255.")] = "2/255",
    norm: Annotated[Norm, typer.Option(help="Of the ball around each image.")] = Norm.LINF,
    random_start: Annotated[bool, typer.Option(help="Start the attack anywhere in the ball.")] = True,
    points: Annotated[int, typer.Option(help="Values of t.")] = 31,
    max_images: Annotated[int, typer.Option(help="Images that are attacked at every point.")] = 500,
    robust_path: Annotated[bool, typer.Option(help="Fit a second path to attacked images.")] = True,
    eigenvalues: Annotated[bool, typer.Option(help="Largest eigenvalues of the input Hessian.")] = True,
    align: Annotated[bool, typer.Option(help="Match the second model's channels with the first one's.")] = True,
    curve: Curve = "bezier",
    bends: Bends = 1,
    steps: Steps = None,
    no_mirror: NoMirror = False,
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
    """Analyse the paths between REGULAR and ROBUST: losses, errors under attack, input Hessian.

    Exit codes: 0 done, 4 the job failed, 5 it was cancelled, 6 the service refused the request, 7 no service answered,
    130 Ctrl-C (the job goes on).
    """
    with errors_to_exit(as_json), a_service(url, key, data, local=local, wait=wait) as (client, own):
        settings = AnalysisSettings(
            **stated(
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
            method=AnalysisMethod.model_validate(
                {
                    "curve": curve,
                    "bends": bends,
                    "steps": steps,
                    "mirror": not no_mirror,
                    "seed": seed,
                    "align": align,
                    "points": points,
                    "robust_path": robust_path,
                    "max_images": max_images,
                }
            ),
            pgd=Pgd(
                epsilon=fraction(epsilon),
                steps=attack_steps,
                step_size=fraction(step_size),
                random_start=random_start,
                norm=norm.value,
            ),
            eigenvalues=Eigenvalues() if eigenvalues else None,
        )
        stored = upload_all(client, regular=regular, robust=robust, clean=clean)
        if check:
            print_preflight(client.preflight_analysis(settings=settings, **stored), as_json)
            return
        job = client.analyse(settings=settings, **stored)
        if not wait:
            print_json(job.job) if as_json else out.print(job.id, highlight=False)
            return
        done = follow_to_end(job, goes_on=not own)
        folder = output or regular.with_name(f"{regular.stem}-analysis")
        folder.mkdir(parents=True, exist_ok=True)
        with err.status("downloading"):
            for artifact in done.result.artifacts if done.result else []:
                job.download_artifact(artifact.name, folder / artifact.name)
        if as_json:
            print_json(done)
            return
        print_job(out, done)
        out.print(f"report, pictures and paths: {folder}", highlight=False, markup=False)


def fraction(text: str) -> float:
    """'8/255' or '0.03' -> a number. Raises ValueError with the text."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"'{text}' is not a number or a fraction, such as 8/255") from None
