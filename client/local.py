"""Where the service is and which key opens it: as told, else what `modeconn serve` left in its folder."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from client.errors import ModeConnError

KEY_FILE = "local.key"
SIGNING_KEY_FILE = "signing.key"
SERVER_FILE = "server.json"


class NoService(ModeConnError):
    """Neither an address nor a running local service is known."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address and the key to use there."""

    url: str
    key: str | None


def find_service(url: str | None, key: str | None, data: Path) -> Place:
    """The place named by `url` and `key`, or the local service of `data`. Raises `NoService` with what to do."""
    if url is not None:
        return Place(url, key)
    try:
        found = json.loads((data / SERVER_FILE).read_text())["url"]
    except FileNotFoundError:
        raise NoService(
            f"No service runs in {data.absolute()}. Start one with `modeconn serve --data {data}`, "
            "or name one with --url and --key (MODECONN_URL, MODECONN_KEY)."
        ) from None
    return Place(found, key if key is not None else (data / KEY_FILE).read_text().strip())


def default_data() -> Path:
    """MODECONN_DATA, or `data` in the current folder."""
    return Path(os.environ.get("MODECONN_DATA", "data"))
