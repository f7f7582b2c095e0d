"""Millions of mutated uploads: each is refused by name or becomes a valid canonical form, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ..scale import MUTATED_PT, MUTATED_SAFETENSORS, MUTATED_ZIPS

ROOT = Path(__file__).parents[2]
AT_ONCE = 100_000
"""Mutants that one process takes, so that a crash is found within so many."""
LEAST_SHARE = 0.05
"""Of the mutants, accepted: where all are refused at the door, nothing behind it was tried."""


@pytest.mark.parametrize("count", MUTATED_SAFETENSORS)
def test_mutated_safetensors(count: int) -> None:
    check("safetensors", count)


@pytest.mark.parametrize("count", MUTATED_PT)
def test_mutated_state_dicts(count: int) -> None:
    check("pt", count)


@pytest.mark.parametrize("count", MUTATED_ZIPS)
def test_mutated_zips_of_images_and_arrays(count: int) -> None:
    check("zip", count)


def check(kind: str, count: int) -> None:
    """The mutants 0 to `count` of a kind; what came of them is printed for `pytest -rP`."""
    outcomes: Counter[str] = Counter()
    seconds = 0.0
    for first in range(0, count, AT_ONCE):
        command = [sys.executable, "-m", "tests.hostile.mutants", kind, str(first), str(min(AT_ONCE, count - first))]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert ran.returncode == 0, f"a crash among {AT_ONCE:,} mutants from {first:,}: {ran.stderr[-2000:]}"
        found = json.loads(ran.stdout)
        assert found["faults"] == {}
        outcomes.update(found["outcomes"])
        seconds += found["seconds"]
    print(f"{count:,} mutants, {seconds:.0f} s of computing, {count / seconds:,.0f} a second: {dict(outcomes)}")
    assert outcomes.total() == count
    assert LEAST_SHARE * count <= outcomes["accepted"] < count
