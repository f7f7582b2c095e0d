"""`modeconn serve`: the whole service on this machine."""

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from client.command.shared import Exit, err, out
from client.local import KEY_FILE, default_data


def serve(
    data: Annotated[Path | None, typer.Option(help="Folder for everything. Default: $MODECONN_DATA or ./data.")] = None,
    port: Annotated[int, typer.Option(help="Port of the API; 0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    workers: Annotated[
        int, typer.Option(help="Jobs that run at once; they share the machine's cores between them.", min=1)
    ] = 1,
) -> None:
    """Start the service: Postgres, Redis, API and workers. Ctrl-C stops all of it.

    DATABASE_URL, REDIS_URL and STORAGE_URL, where set, are used instead of the embedded ones.
    The folder then holds local.key (the key), server.json (the address) and logs/.
    """
    from client.serving.embedded import CannotServe
    from client.serving.stack import Stack, serve

    is_ready = threading.Event()
    with err.status("starting") as status:

        def say(text: str) -> None:
            status.update(text)
            if not err.is_terminal or is_ready.is_set():  # the line that is written over is gone by then
                err.print(text, highlight=False)

        def ready(stack: Stack) -> None:
            status.stop()
            is_ready.set()
            key = stack.data / KEY_FILE
            out.print(
                f"ModeConn is ready at {stack.url}  key {key}  logs {stack.logs}", highlight=False, soft_wrap=True
            )
            # Behind the hash no server sees it, nor does the browser keep it in the address.
            out.print(f"In a browser: {stack.url}/#key={key.read_text().strip()}", highlight=False, soft_wrap=True)

        try:
            serve(data or default_data(), host, port, workers, say, ready)
        except CannotServe as error:
            status.stop()
            err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(Exit.ERROR) from None
