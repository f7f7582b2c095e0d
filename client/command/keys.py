"""`modeconn keys`: the access keys of your own tenant."""

from typing import Annotated

import typer

from client.command.shared import AsJson, Data, Key, Url, connect, err, errors_to_exit, out, print_json
from client.command.tables import print_keys

app = typer.Typer(help="List, make and revoke access keys.", no_args_is_help=True)


@app.command("list")
def list_keys(as_json: AsJson = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List your keys; secrets are never shown again."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        rows = client.keys()
        print_json(rows) if as_json else print_keys(out, rows)


@app.command("new")
def new_key(
    label: Annotated[str, typer.Argument(help="What the key is for.")],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a key. It is printed once, now."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        made = client.create_key(label)
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
