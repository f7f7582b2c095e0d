"""`modeconn jobs`, `show` and `cancel`."""

from typing import Annotated

import typer

from client.command.shared import AsJson, Data, Key, Url, connect, errors_to_exit, out, print_json
from client.command.statements import pairs
from client.command.tables import print_analyses, print_job, print_jobs

JobId = Annotated[str, typer.Argument(help="The job's id, as `modeconn jobs` shows it.")]


def jobs(
    state: Annotated[
        str | None, typer.Option(help="Only those queued, running, succeeded, failed or cancelled.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only those with this label, name=value.")] = None,
    analyses: Annotated[bool, typer.Option("--analyses", help="Analyses instead of repairs.")] = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List your repairs (or analyses), newest first."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        wanted = next(iter(pairs([label], str).items())) if label else None
        if analyses:
            found = list(client.analyses(state=state, label=wanted, limit=limit))
            print_json(found) if as_json else print_analyses(out, found)
            return
        rows = list(client.jobs(state=state, label=wanted, limit=limit))
        print_json(rows) if as_json else print_jobs(out, rows)


def show(job_id: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Show one job: its state, its figures, its problem."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        job = client.find(job_id).job
        print_json(job) if as_json else print_job(out, job)


def cancel(job_id: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Stop a job that is queued or running."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        job = client.find(job_id).cancel()
        print_json(job) if as_json else print_job(out, job)
