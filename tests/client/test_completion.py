"""Completions, and output for other programs."""

import os
import subprocess
import sys

import pytest

from client.cli import app


def completed(line: str, place: int) -> list[str]:
    """What bash is offered for the word at `place` of the line."""
    asked = {"_MODECONN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(place)}
    program = "from client.cli import app; app(prog_name='modeconn')"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True)
    return done.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    names = {command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    assert names <= set(completed("modeconn ", 1))
    assert completed("modeconn rep", 1) == ["repair", "replay"]
    assert {"--clean", "--check", "--local"} <= set(completed("modeconn repair --", 2))
    assert {"backdoor", "error_injection"} == set(completed("modeconn repair --tampering ", 3))


@pytest.mark.parametrize("arguments", [["--help"], ["repair", "--help"], ["jobs", "--data", "/nowhere"]])
def test_there_are_no_colours_for_a_pipe(arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "CI")}
    done = subprocess.run([sys.executable, "-m", "client.cli", *arguments], capture_output=True, env=environment)
    assert done.stdout or done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
