"""The `modeconn` command."""

import typer

from client.command import analyse, backup, diagnose, doctor, files, jobs, keys, repair, replay, serve, verify
from client.command.shared import Exit

app = typer.Typer(
    name="modeconn",
    help="Repairs tampered image classifiers by mode connectivity.",
    epilog="Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in Exit) + ".",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(repair.repair)
app.command()(analyse.analyse)
app.command()(diagnose.diagnose)
app.command()(files.upload)
app.command()(files.files)
app.command()(jobs.jobs)
app.command()(jobs.show)
app.command()(jobs.download)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(verify.verify)
app.command()(replay.replay)
app.command()(jobs.signing_key)
app.command()(doctor.doctor)
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
