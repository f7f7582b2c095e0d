"""Options that the commands share which start a job, and what they state."""

from pathlib import Path
from typing import Annotated, Any

import typer

from client.command.statements import class_names, height_width, number, numbers, pairs
from client.models import Architecture, Preprocessing
from client.pretrained import Pretrained

CHANNEL_VALUES = "Comma-separated, one per channel, on the scale 0..1"

Clean = Annotated[Path, typer.Option(help="Clean images: a folder of class folders, its zip, or .npz.", exists=True)]
Arch = Annotated[str | None, typer.Option(help="Architecture, e.g. preact_resnet18. Default: recognised.")]
ArchOption = Annotated[list[str] | None, typer.Option(help="name=value for the architecture, e.g. width=16.")]
Mean = Annotated[str | None, typer.Option(help=f"Mean. {CHANNEL_VALUES}.")]
Std = Annotated[str | None, typer.Option(help=f"Standard deviation. {CHANNEL_VALUES}.")]
Size = Annotated[str | None, typer.Option(help="HEIGHTxWIDTH that images are resized to. Default: as they are.")]
Bgr = Annotated[bool, typer.Option("--bgr", help="The model wants blue first.")]
Classes = Annotated[
    str | None, typer.Option(help="Class names in the model's order: a,b,c or a file with one per line.")
]
Curve = Annotated[str, typer.Option(help="bezier or chain.")]
Bends = Annotated[int, typer.Option(min=1)]
Steps = Annotated[int | None, typer.Option(help="Steps of the fit. Default: chosen by the service.")]
NoMirror = Annotated[bool, typer.Option("--no-mirror", help="A mirrored image is another class (digits, signs).")]
Seed = Annotated[int, typer.Option()]
Label = Annotated[list[str] | None, typer.Option(help="name=value kept with the job; may be repeated.")]
AcceptLowAccuracy = Annotated[
    bool, typer.Option("--accept-low-accuracy", help="Go on although the suspect scores near chance.")
]
Deadline = Annotated[int | None, typer.Option(help="Seconds after which the job is given up.")]
Check = Annotated[bool, typer.Option("--check", help="Check everything and estimate the time; start nothing.")]


def stated(
    *,
    folder: Pretrained | None = None,
    arch: str | None,
    arch_option: list[str] | None,
    mean: str | None,
    std: str | None,
    size: str | None,
    bgr: bool,
    classes: str | None,
    label: list[str] | None,
    deadline: int | None,
) -> dict[str, Any]:
    """The members of `JobSettings`: what the options say and, where they say nothing, what the model's folder says."""
    own = Preprocessing(mean=numbers(mean), std=numbers(std), size=height_width(size), channels="BGR" if bgr else "RGB")
    architecture = Architecture(name=arch, options=pairs(arch_option, number)) if arch else None
    if folder is not None:
        said = {name: value for name, value in own if value is not None}
        own = folder.preprocessing.model_copy(update=said)
        architecture = architecture or folder.architecture
    return {
        "architecture": architecture,
        "preprocessing": own,
        "classes": class_names(classes) or (folder.classes if folder else None),
        "labels": pairs(label, str),
        "deadline_seconds": deadline,
    }
