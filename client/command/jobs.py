"""`modeconn jobs`, `show`, `download`, `retry` and `cancel`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from client.command.repair import follow_to_end
from client.command.shared import AsJson, Data, Key, Url, connect, errors_to_exit, out, print_json
from client.command.statements import pairs
from client.command.tables import print_analyses, print_diagnoses, print_job, print_jobs
from client.handle import Handle

JobId = Annotated[str, typer.Argument(help="The job's id, as `modeconn jobs` shows it.")]


def jobs(
    state: Annotated[
        str | None, typer.Option(help="Only those queued, running, succeeded, failed or cancelled.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only those with this label, name=value.")] = None,
    analyses: Annotated[bool, typer.Option("--analyses", help="Analyses instead of repairs.")] = False,
    diagnoses: Annotated[bool, typer.Option("--diagnoses", help="Diagnoses instead of repairs.")] = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List your repairs (or analyses, or diagnoses), newest first."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        wanted = next(iter(pairs([label], str).items())) if label else None
        if analyses and diagnoses:
            raise ValueError("Ask for --analyses or for --diagnoses.")
        if analyses:
            found = list(client.analyses(state=state, label=wanted, limit=limit))
            print_json(found) if as_json else print_analyses(out, found)
            return
        if diagnoses:
            looks = list(client.diagnoses(state=state, label=wanted, limit=limit))
            print_json(looks) if as_json else print_diagnoses(out, looks)
            return
        rows = list(client.jobs(state=state, label=wanted, limit=limit))
        print_json(rows) if as_json else print_jobs(out, rows)


def show(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end first.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show one job: its state, its figures, its problem."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        found: Handle[Any] = client.find(job_id)
        job = follow_to_end(found) if watch else found.job
        print_json(job) if as_json else print_job(out, job)


def retry(job_id: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Start a job that failed or was cancelled again, as a new job with the same request and files."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        job = client.find(job_id).retry().job
        print_json(job) if as_json else out.print(job.id, highlight=False)


def download(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("--out", help="Where to. Default: the file's own name, here.")] = None,
    t: Annotated[
        float | None, typer.Option("--t", min=0, max=1, help="The model at this point of the path, not the chosen one.")
    ] = None,
    attestation: Annotated[
        bool, typer.Option("--attestation", help="The signed statement of all inputs and results.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--artifact", help="Another file of the job: report.html, manifest.json, ...")
    ] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Download the repaired weights of a finished repair, those at another t, or another file of any job."""
    with errors_to_exit(), connect(url, key, data) as client:
        if name is not None:
            target = client.find(job_id).download_artifact(name, output or Path(name))
        elif attestation:
            target = client.find(job_id).download_attestation(output or Path("attestation.json"))
        else:
            own = "repaired.safetensors" if t is None else f"repaired-t{t:g}.safetensors"
            target = client.job(job_id).download(output or Path(own), t=t)
        out.print(str(target), highlight=False, markup=False, soft_wrap=True)


def signing_key(url: Url = None, key: Key = None, data: Data = None) -> None:
    """Print the public key (PEM) that checks the service's attestations. Keep it: `verify` asks no service."""
    with errors_to_exit(), connect(url, key, data) as client:
        typer.echo(client.signing_key(), nl=False)


def cancel(job_id: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Stop a job that is queued or running."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        job = client.find(job_id).cancel()
        print_json(job) if as_json else print_job(out, job)
