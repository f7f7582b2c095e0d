"""Converts uploads in the test's own process (fast, same code) and collects what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intake import datasets, models
from intake.limits import Limits


@pytest.fixture
def read_model(tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """bytes -> (facts, canonical file) through the converter itself; raises IntakeRefused."""

    def read(upload: bytes, limits: Limits | None = None) -> tuple[Any, Path]:
        (tmp_path / "upload").write_bytes(upload)
        target = tmp_path / "canonical.safetensors"
        with open(tmp_path / "upload", "rb") as source, open(target, "wb") as out:
            return models.convert(source, len(upload), out, limits or Limits()), target

    return read


@pytest.fixture
def read_dataset(tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """bytes -> (facts, canonical file) through the converter itself; raises IntakeRefused."""

    def read(upload: bytes, limits: Limits | None = None, kind: Any = "clean") -> tuple[Any, Path]:
        (tmp_path / "upload").write_bytes(upload)
        target = tmp_path / "canonical.npz"
        with open(tmp_path / "upload", "rb") as source, open(target, "wb") as out:
            return datasets.convert(source, len(upload), out, limits or Limits(), kind), target

    return read
