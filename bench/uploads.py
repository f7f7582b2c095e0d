"""How fast uploads are taken in, beside a bare copy and SHA-256 of the same file on the same disk.

python -m bench.uploads
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import socket
import statistics
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import safetensors.torch
import torch

from bench.results import keep
from bench.service import running
from modeconn_core.architectures import build
from store import keys
from store.database import session_factory, transaction

MIB = 1 << 20
BESIDE = {  # each way, and the bare one that ends in the same state
    "copied and hashed": "copied and hashed",
    "plain, taken in": "copied and hashed",
    "copied, hashed, durable": "copied, hashed, durable",
    "resumable, taken in and durable": "copied, hashed, durable",
    "plain, read and made a file": "copied, hashed, durable",
}


def write_model(path: Path, mebibytes: int) -> None:
    """Tensors of that size in all, by the names of a network, and one of ballast that no network has."""
    tensors = {name: tensor.contiguous() for name, tensor in build("preact_resnet18", 10, width=4).state_dict().items()}
    safetensors.torch.save_file({**tensors, "zz": torch.randn(mebibytes * MIB // 4)}, path)


def vary(path: Path, number: float) -> None:
    """Another last tensor than before: the same bytes again would not be kept again."""
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", number))


def copy_and_hash(source: Path, target: Path, *, durable: bool) -> None:
    """What anybody would write."""
    digest = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as copy:
        while piece := file.read(MIB):
            digest.update(piece)
            copy.write(piece)
        if durable:
            copy.flush()
            os.fsync(copy.fileno())
    target.unlink()


class Sender:
    """Sends a file as the body of a request, by sendfile: the client's own work is next to none."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = urlsplit(url), key

    def send(self, line: str, path: Path, *headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        length = f"Content-Length: {path.stat().st_size}"
        lines = (f"{line} HTTP/1.1", "Host: bench", f"Authorization: Bearer {self._key}", length, *headers)
        with (
            socket.create_connection((str(self._url.hostname), self._url.port or 80)) as line_out,
            path.open("rb") as file,
        ):
            line_out.sendall("".join(f"{text}\r\n" for text in (*lines, "Connection: close", "")).encode())
            line_out.sendfile(file)
            received = b"".join(iter(lambda: line_out.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def received_seconds(http: httpx.Client) -> float:
    """What the API has spent on taking bodies in, as it says itself."""
    [line] = re.findall(r"^modeconn_upload_receive_seconds_sum (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(line)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def expect(answer: tuple[int, bytes], status: int) -> None:
    assert answer[0] == status, answer


def measure(folder: Path, url: str, key: str, *, mebibytes: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns, so that a busy machine disturbs all alike."""
    model, sender = folder / "model.safetensors", Sender(url, key)
    write_model(model, mebibytes)
    found: dict[str, list[float]] = {name: [] for name in BESIDE}
    tus = {"Authorization": f"Bearer {key}", "Tus-Resumable": "1.0.0", "Upload-Metadata": "kind bW9kZWw="}
    part = ("Tus-Resumable: 1.0.0", "Upload-Offset: 0", "Content-Type: application/offset+octet-stream")
    with httpx.Client(base_url=url, headers=tus, timeout=600, trust_env=False) as http:

        def in_part() -> None:
            expect(sender.send(f"PATCH {address}", model, *part), 204)

        def whole() -> None:
            made = sender.send("POST /files?kind=model", model)
            expect(made, 201)
            http.delete(f"/files/{json.loads(made[1])['id']}").raise_for_status()

        for number in range(rounds + 1):
            length = {"Upload-Length": str(model.stat().st_size + 1)}  # one byte never comes: nothing is read
            address = http.post("/files/resumable", headers=length).raise_for_status().headers["Location"]
            bare = [timed(partial(copy_and_hash, model, folder / "copy", durable=each)) for each in (False, True)]
            resumed = timed(in_part)
            http.delete(address).raise_for_status()
            vary(model, number)
            before = received_seconds(http)
            made = timed(whole)
            seconds = (bare[0], received_seconds(http) - before, bare[1], resumed, made)
            if number:  # the first round warms up
                for name, value in zip(BESIDE, seconds, strict=True):
                    found[name].append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    limit = str(4 * options.mebibytes * MIB)
    with running({"MODECONN_MAX_DATASET_BYTES": limit, "MODECONN_MAX_MODEL_BYTES": limit}) as service:
        engine = service.engine
        with transaction(session_factory(engine)) as session:
            owner = keys.ensure_tenant(session, name="bench")
            _, key = keys.create_key(session, tenant_id=owner, label="bench")
        engine.dispose()
        service.start_api()
        found = measure(service.folder, service.url, key, mebibytes=options.mebibytes, rounds=options.rounds)
    rows = [
        {
            "way": name,
            "MiB/s": round(options.mebibytes / statistics.median(seconds)),
            "beside": BESIDE[name],
            "of it, %": round(
                100 * statistics.median(b / s for b, s in zip(found[BESIDE[name]], seconds, strict=True))
            ),
        }
        for name, seconds in found.items()
    ]
    keep("uploads", rows, {"mebibytes": options.mebibytes, "rounds": options.rounds, "cores": os.cpu_count()})


if __name__ == "__main__":
    main()
