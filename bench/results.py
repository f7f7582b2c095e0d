"""Keeps a table in bench/results as JSON and Markdown, with the machine, the versions and the commit, and prints it."""

from __future__ import annotations

import io
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str]:
    """Where and with what the figures were measured."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor}, {torch.get_num_threads()} threads"
    )
    return {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; all have the keys of the first."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def keep(name: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Write bench/results/``name``.json and .md, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    facts = {"settings": dict(settings), "machine": machine()}
    (RESULTS / f"{name}.json").write_text(json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
    table = markdown(rows)
    about = "\n".join(f"- {key}: {value}" for part in facts.values() for key, value in part.items())
    (RESULTS / f"{name}.md").write_text(f"{table}\n\n{about}\n")
    print(table)


def keep_picture(figure: Figure, file: Path, *, dpi: int = 72) -> None:
    """Write a figure as a PNG of few colours: half the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi)
    Image.open(drawn).quantize(64).save(file, optimize=True)
