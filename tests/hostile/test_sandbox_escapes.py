"""Nobody gets out of the sandbox: every escape of the table in escapes.py is refused, as root and as a plain user."""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("escapes.py")
TABLE = runpy.run_path(str(PROGRAM))
ESCAPES = TABLE["ESCAPES"]
NOBODY = 65534
USERS = {"root": 0, "a plain user": NOBODY} if os.getuid() == 0 else {"a plain user": os.getuid()}
REFUSED = ("refused:", "killed by SIGSYS")


@pytest.fixture(scope="module", params=USERS)
def outcomes(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """User -> policy -> escape -> what came of it."""
    with tempfile.TemporaryDirectory(prefix="modeconn-yard-") as folder:  # pytest's own are for the user that runs it
        Path(folder).chmod(0o755)
        command = [sys.executable, "-I", str(PROGRAM), str(USERS[request.param]), folder]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    return request.param, json.loads(ran.stdout)


def test_the_table_is_long_enough() -> None:
    assert len({escape.name for escape in ESCAPES}) == len(ESCAPES) >= 40


@pytest.mark.parametrize("policy", TABLE["POLICIES"][1:])
def test_every_escape_is_refused(outcomes: tuple[str, Any], policy: str) -> None:
    _, found = outcomes
    expected = {escape.name for escape in ESCAPES if policy not in escape.allowed}
    refused = {name for name, words in found[policy].items() if words.startswith(REFUSED)}
    assert expected - refused == set(), found[policy]


@pytest.mark.parametrize("policy", TABLE["POLICIES"][1:])
def test_what_a_policy_allows_works(outcomes: tuple[str, Any], policy: str) -> None:
    _, found = outcomes
    assert {e.name for e in ESCAPES if policy in e.allowed and found[policy][e.name] != "succeeded"} == set()


def test_without_the_sandbox_they_succeed(outcomes: tuple[str, Any]) -> None:
    """So that the refusals are the sandbox's, and not the machine's. Some depend on the kernel's settings."""
    user, found = outcomes
    can = {"anybody", "root"} if user == "root" else {"anybody"}
    failed = {e.name for e in ESCAPES if e.works_for in can and found["free"][e.name] != "succeeded"}
    assert failed == set(), found["free"]
