"""`modeconn keys`: the access keys of your own tenant."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from client.command.shared import AsJson, Data, Key, Url, connect, err, errors_to_exit, out, print_json
from client.command.tables import print_keys
from client.models import ApiKey

app = typer.Typer(help="List, make, rotate and revoke access keys.", no_args_is_help=True)


@app.command("list")
def list_keys(as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List your keys; secrets are never shown again."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        rows = client.keys()
        print_json(rows) if as_json else print_keys(out, rows)


@app.command("new")
def new_key(
    label: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or keys; repeat for several. Without: all that your key may.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="It expires after so many. Without: when your key does, or never.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a key. It is printed once, now."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        _print_made(client.create_key(label, scopes=scope, expires_at=expires_at), as_json)


@app.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `modeconn keys list` shows it.")],
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="The old key works for so long.")] = 24,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a key in place of another, with the same scopes. It is printed once, now."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        _print_made(client.rotate_key(key_id, overlap=timedelta(hours=overlap_hours)), as_json)


def _print_made(made: ApiKey, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    err.print("Keep it safe: it is not shown again.")
    typer.echo(made.key)


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `modeconn keys list` shows it.")],
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """End a key at once."""
    with errors_to_exit(), connect(url, key, data) as client:
        client.revoke_key(key_id)
        out.print(f"{key_id} is revoked")
