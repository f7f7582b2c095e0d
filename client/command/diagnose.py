"""`modeconn diagnose`: what a model makes of clean images, before anything is repaired."""

from pathlib import Path
from typing import Annotated

import typer

from client.command.options import Arch, ArchOption, Bgr, Classes, Clean, Deadline, Label, Mean, Size, Std, stated
from client.command.repair import follow_to_end, upload_all
from client.command.service import Local, a_service
from client.command.shared import AsJson, Data, Exit, Key, Url, errors_to_exit, out, print_json
from client.command.tables import print_job
from client.models import JobSettings
from client.pretrained import Pretrained


def diagnose(
    model: Annotated[
        Path,
        typer.Argument(
            help="The model: .safetensors, a .pt/.pth state dict, or a folder with config.json.", exists=True
        ),
    ],
    clean: Clean,
    arch: Arch = None,
    arch_option: ArchOption = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    bgr: Bgr = False,
    classes: Classes = None,
    label: Label = None,
    deadline: Deadline = None,
    as_json: AsJson = False,
    local: Local = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Measure MODEL on clean images; where it could do better, find the normalisation or class order that suits it.

    Takes seconds, and makes no files. Exit codes: 0 all is well, 3 it does badly or something else suits it better, 4
    the job failed, 5 it was cancelled, 6 the service refused the request, 7 no service answered, 130 Ctrl-C (the job
    goes on).
    """
    with errors_to_exit(as_json), a_service(url, key, data, local=local) as (client, own):
        folder = Pretrained.read(model) if model.is_dir() else None
        settings = JobSettings(
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
            )
        )
        stored = upload_all(client, suspect=folder.weights if folder else model, clean=clean)
        done = follow_to_end(client.diagnose(settings=settings, **stored), goes_on=not own)
        print_json(done) if as_json else print_job(out, done)
        found = done.result
        raise typer.Exit(Exit.CRITERIA_NOT_MET if found and (found.suspicious or found.suggestions) else Exit.OK)
