"""`modeconn replay`: run a job again from its manifest, and compare."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.table import Table

from client.command.repair import follow_to_end, upload_all
from client.command.service import Local, a_service
from client.command.shared import AsJson, Data, Exit, Key, Url, err, errors_to_exit, out, print_json
from client.handle import Handle
from client.models import AnalysisSettings, RepairSettings, StoredFile
from client.sdk import Client

_NOT_COMPARED = ("seconds", "reason")
_MACHINE = ("versions", "device", "threads")
Given = Annotated[Path | None, typer.Option(exists=True, help="The file, where the service has it no more.")]


class Difference(BaseModel):
    """One figure, file or circumstance that came out otherwise."""

    what: str
    then: Any
    now: Any


class Replayed(BaseModel):
    """How the second run compares with the first: what came out otherwise, and what was different about the machine."""

    job: str
    same: bool
    compared: int
    differences: list[Difference]
    circumstances: list[Difference]


def replay(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="manifest.json of a job.")],
    suspect: Given = None,
    clean: Given = None,
    triggered: Given = None,
    second_model: Given = None,
    regular: Given = None,
    robust: Given = None,
    as_json: AsJson = False,
    local: Local = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Run a job again with the same files, request and seed, and compare every figure and file with the manifest.

    The files are those with the manifest's SHA-256: the service is asked for them first, the options give the others.
    The same versions on the same kind of device give the same numbers, to the last bit. Exit codes: 0 they are the
    same, 8 they are not; otherwise those of `repair`.
    """
    files = {
        "suspect": suspect,
        "clean": clean,
        "triggered": triggered,
        "second_model": second_model,
        "regular": regular,
        "robust": robust,
    }
    with errors_to_exit(as_json), a_service(url, key, data, local=local) as (client, own):
        then = _manifest(manifest)
        job: Handle[Any] = _start(client, then, _inputs(client, then["inputs"], files))
        follow_to_end(job, goes_on=not own)
        now = json.loads(job.transport.request("GET", f"{job.route}/{job.id}/manifest").content)
        replayed = _compare(job.id, then, now)
    print_json(replayed) if as_json else _show(replayed)
    raise typer.Exit(Exit.OK if replayed.same else Exit.DIFFERENT)


def _manifest(path: Path) -> dict[str, Any]:
    """Raises ValueError for what is no manifest."""
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
        roles = {role: each["sha256"] for role, each in body["inputs"].items()}
        _ = body["request"]["method"], body["figures"].items(), body["outputs"].items(), roles["clean"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no manifest of a job: `modeconn download JOB --artifact manifest.json`.") from None
    return body


def _inputs(client: Client, inputs: dict[str, Any], given: dict[str, Path | None]) -> dict[str, StoredFile]:
    """The manifest's files in the service. Raises ValueError where one is missing, or is another file."""
    unwanted = [role for role, path in given.items() if path is not None and role not in inputs]
    if unwanted:
        raise ValueError(f"The job had no file called {unwanted[0]}, but {', '.join(inputs)}.")
    stored = upload_all(client, **{role: path for role, path in given.items() if path is not None})
    there = {file.sha256: file for file in client.files()} if set(inputs) - set(stored) else {}
    found = {}
    for role, wanted in inputs.items():
        file = stored.get(role) or there.get(wanted["sha256"])
        option = f"--{role.replace('_', '-')}"
        if file is None:
            raise ValueError(
                f"The service has no file like the job's {role} ({wanted['name']}): give it with {option}."
            )
        if file.sha256 != wanted["sha256"]:
            raise ValueError(
                f"{given[role]} is not the job's {role}: its SHA-256 is {file.sha256}, the manifest names "
                f"{wanted['sha256']} ({wanted['name']})."
            )
        found[role] = file
    return found


def _start(client: Client, manifest: dict[str, Any], files: dict[str, StoredFile]) -> Handle[Any]:
    request, options = manifest["request"], manifest["request"]["architecture"]
    architecture = {"name": options["name"], "options": options["options"]}
    label = {"labels": {"replay-of": str(manifest["job"])}}
    if "regular" in files:
        stated = {name: request[name] for name in AnalysisSettings.model_fields if name in request}
        analysed = AnalysisSettings.model_validate(stated | label | {"architecture": architecture})
        return client.analyse(files["regular"], files["robust"], files["clean"], analysed)
    stated = {name: request[name] for name in RepairSettings.model_fields if name in request}
    settings = RepairSettings.model_validate(stated | label | {"architecture": architecture})
    return client.repair(
        files["suspect"],
        files["clean"],
        settings,
        triggered=files.get("triggered"),
        second_model=files.get("second_model"),
    )


def _compare(job: str, then: dict[str, Any], now: dict[str, Any]) -> Replayed:
    """Every figure, and every file that holds nothing of its run (the pictures and weights do not, a report does)."""
    figures = [_flat(each["figures"]) for each in (then, now)]
    weights = [
        {name: each["sha256"] for name, each in body["outputs"].items() if name.endswith(".safetensors")}
        for body in (then, now)
    ]
    before, after = figures[0] | weights[0], figures[1] | weights[1]
    compared = [name for name in before if name.split(".")[0] not in _NOT_COMPARED]
    differences = [_difference(name, before, after) for name in compared if before[name] != after.get(name)]
    machines = [_flat({name: body.get(name) for name in _MACHINE}) for body in (then, now)]
    names = sorted(machines[0].keys() | machines[1].keys())
    circumstances = [_difference(name, *machines) for name in names if machines[0].get(name) != machines[1].get(name)]
    return Replayed(
        job=job,
        same=not differences,
        compared=len(compared),
        differences=differences,
        circumstances=circumstances,
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"after": {"clean_accuracy": 0.8}} -> {"after.clean_accuracy": 0.8}."""
    if not isinstance(value, dict):
        return {prefix.removesuffix("."): value}
    return {name: leaf for key, each in value.items() for name, leaf in _flat(each, f"{prefix}{key}.").items()}


def _difference(name: str, then: dict[str, Any], now: dict[str, Any]) -> Difference:
    return Difference(what=name, then=then.get(name), now=now.get(name))


def _show(replayed: Replayed) -> None:
    if replayed.same:
        out.print(f"Job {replayed.job}: all {replayed.compared} figures and files are the same.", highlight=False)
    for title, rows in (("came out otherwise", replayed.differences), ("was different", replayed.circumstances)):
        if rows:
            table = Table(title, "then", "now", title_justify="left")
            for row in rows:
                table.add_row(row.what, str(row.then), str(row.now))
            out.print(table)
    if not replayed.same and not replayed.circumstances:
        err.print("Versions and device are the same, so the numbers should be: tell whoever runs the service.")
