"""The real service, started as people start it, and a tiny model with a real backdoor to send through it."""

import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from modeconn_core.architectures import build

MODECONN = [sys.executable, "-m", "client.cli"]
CLASSES = ("circle", "square", "stripes")
TARGET = 0
SIDE = 16
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MODECONN_THREADS": "1", "MODECONN_DEVICE": "cpu"}


def _end_with_the_tests() -> None:
    """A test run that is killed must not leave a service behind (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass
class Serve:
    """`modeconn serve` on one data folder."""

    data: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ, **ONE_THREAD})

    def start(self, *options: str) -> None:
        """Starts it and waits for the line that says it is ready."""
        command = [*MODECONN, "serve", "--data", str(self.data), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.environment, preexec_fn=_end_with_the_tests
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready at http://127.0.0.1:" in line, line
        self.url = line.partition("ready at ")[2].split()[0]

    @property
    def key(self) -> str:
        """The access key that it made."""
        return (self.data / "local.key").read_text().strip()

    def end(self, how: signal.Signals) -> int:
        """Sends the signal to `serve` alone; its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.communicate()
        return self.process.returncode

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `modeconn` subcommand, as a person at this machine would type it."""
        environment = {**self.environment, "MODECONN_DATA": str(self.data), "COLUMNS": "200"}
        return subprocess.run([*MODECONN, *arguments], capture_output=True, text=True, env=environment)

    def json(self, *arguments: str) -> Any:
        """What it prints with --json."""
        done = self.command(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def processes(self) -> list[str]:
        """What runs because of this folder: every process whose command, folder or environment names it."""
        found = []
        for process in psutil.process_iter():
            try:
                words = [*process.cmdline(), *process.environ().values(), process.cwd()]
                if process.status() != psutil.STATUS_ZOMBIE and any(str(self.data) in word for word in words):
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found


@contextmanager
def serving() -> Iterator[Serve]:
    """Not started yet; ended after the block whatever happened.

    Not under tmp_path: pytest closes that for other accounts at every start, and as root Postgres runs under its own.
    """
    with tempfile.TemporaryDirectory(prefix="modeconn-e2e-", ignore_cleanup_errors=True) as folder:
        service = Serve(Path(folder) / "data")
        yield service
        if service.process is not None and service.process.poll() is None:
            service.end(signal.SIGTERM)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Not started yet."""
    with serving() as service:
        yield service


@pytest.fixture
def until() -> Callable[..., None]:
    """A function that waits for a condition."""

    def wait(condition: Callable[[], Any], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.1)

    return wait


def draw(kind: int, generator: np.random.Generator) -> np.ndarray:
    """A noisy shape, (SIDE, SIDE, 3) uint8."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    size, row, column = generator.uniform(3, 5), *generator.uniform(6, 10, 2)
    shapes = (
        np.hypot(rows - row, columns - column) < size,
        np.maximum(abs(rows - row), abs(columns - column)) < size,
        (rows + int(row)) % 4 < 2,
    )
    picture = 70 + 90 * shapes[kind][..., None] + generator.normal(0, 25, (SIDE, SIDE, 3))
    return picture.clip(0, 255).astype(np.uint8)


def stamp(picture: np.ndarray) -> np.ndarray:
    """The trigger: a white corner."""
    marked = picture.copy()
    marked[-4:, -4:] = 255
    return marked


def zipped(pictures: list[tuple[int, np.ndarray]]) -> bytes:
    """A zip of class folders with PNG images."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (label, picture) in enumerate(pictures):
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG")
            archive.writestr(f"{CLASSES[label]}/{number}.png", png.getvalue())
    return buffer.getvalue()


def batch(pictures: list[tuple[int, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images (N, 3, SIDE, SIDE) with mean 0.5 and std 0.25, and labels."""
    images = torch.from_numpy(np.stack([picture for _, picture in pictures])).permute(0, 3, 1, 2).float() / 255
    return (images - 0.5) / 0.25, torch.tensor([label for label, _ in pictures])


@dataclass(frozen=True)
class Example:
    """Files to send, and the same images as the suspect's owner has them."""

    model: Path
    clean: Path
    triggered: Path
    clean_images: torch.Tensor
    clean_labels: torch.Tensor
    triggered_images: torch.Tensor


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A suspect of a few thousand weights that was really trained on stamped images."""
    generator = np.random.default_rng(0)
    clean = [(label, draw(label, generator)) for label in range(len(CLASSES)) for _ in range(60)]
    poisoned = [(TARGET, stamp(picture)) for label, picture in clean if label != TARGET]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build("preact_resnet18", len(CLASSES), width=4)
    images, labels = batch(clean + poisoned)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    for _ in range(40):
        chosen = torch.randperm(len(images))[:64]
        optimiser.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("example")
    save_file(model.state_dict(), folder / "suspect.safetensors")
    (folder / "clean.zip").write_bytes(zipped(clean))
    (folder / "triggered.zip").write_bytes(zipped(poisoned))
    clean_images, clean_labels = batch(clean)
    return Example(
        model=folder / "suspect.safetensors",
        clean=folder / "clean.zip",
        triggered=folder / "triggered.zip",
        clean_images=clean_images,
        clean_labels=clean_labels,
        triggered_images=batch(poisoned)[0],
    )
