"""`modeconn doctor`: is everything here that the service needs?"""

import os

import typer
from rich.table import Table

from client.command.shared import AsJson, Data, Exit, out, print_json
from client.local import default_data
from client.serving.machine import examine

_MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failure": "[red]FAILURE[/]"}


def doctor(as_json: AsJson = False, data: Data = None) -> None:
    """Look at this machine and at the service on it, and say what to do about what is missing.

    Exit codes: 0 nothing stands in the way (warnings do not), 1 something does.
    """
    checks = examine(data or default_data(), os.environ)
    if as_json:
        print_json(checks)
    else:
        table = Table("", "", "found", "what to do", box=None)
        for check in checks:
            table.add_row(_MARKS[check.state], check.name, check.found, check.to_do)
        out.print(table)
    raise typer.Exit(Exit.ERROR if any(check.state == "failure" for check in checks) else Exit.OK)
