"""The words of the tus protocol, as a client says them."""

import base64

import httpx

TUS = {"Tus-Resumable": "1.0.0"}


def metadata(**values: str) -> str:
    """The header `Upload-Metadata`."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def begin(http: httpx.Client, length: int, *, headers: dict[str, str] | None = None, **told: str) -> httpx.Response:
    """Begin an upload, of a model unless told otherwise."""
    said = metadata(**{"kind": "model", **told})
    sent = TUS | {"Upload-Length": str(length), "Upload-Metadata": said} | (headers or {})
    return http.post("/files/resumable", headers=sent)


def send(http: httpx.Client, address: str, offset: int, content: bytes, **headers: str) -> httpx.Response:
    """Send bytes of an upload."""
    said = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"} | headers
    return http.patch(address, content=content, headers=said)


def ask(http: httpx.Client, address: str) -> httpx.Response:
    """How far it is."""
    return http.head(address, headers=TUS)
