"""`make install` finds a Python that runs, pins everything, and installs again only when something changed."""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]


def needed(name: str, extras: set[str], found: dict[str, str]) -> dict[str, str]:
    """All distributions that `name` needs in this environment, with their installed versions."""
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({**default_environment(), "extra": extra}) for extra in extras | {""}):
            continue
        other = canonicalize_name(requirement.name)
        if other not in found:
            found[other] = importlib.metadata.version(other)
            needed(other, set(requirement.extras), found)
    return found


def test_constraints_pin_exactly_what_is_installed():
    here = {canonicalize_name(pin.name): pin for pin in PINS if pin.marker is None or pin.marker.evaluate()}
    installed = needed("modeconn", {"embedded", "dev"}, {}) | {"uv": importlib.metadata.version("uv")}
    assert {name: f"=={version}" for name, version in installed.items()} == {
        name: str(here[name].specifier) if name in here else "not pinned" for name in installed
    }


def test_constraints_are_versions_and_nothing_else():
    for pin in PINS:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin
        assert pin.url is None


def test_torch_and_torchvision_are_the_same_pair_everywhere():
    pins = {pin.name: f"{pin.name}{pin.specifier}" for pin in PINS}
    for text in (MAKEFILE, (ROOT / "Dockerfile").read_text()):
        assert f"{pins['torch']} {pins['torchvision']}" in text


def make_venv(path: Path, venv: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **extra}
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, str(ROOT / ".ci/make-venv"), str(venv)], env=environment, capture_output=True, text=True
    )


def fake(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_python_that_does_not_run_or_is_too_new_is_passed_over(tmp_path):
    path, venv, base = tmp_path / "bin", tmp_path / "venv", os.path.realpath(sys.executable)
    path.mkdir()
    fake(path / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    fake(path / "python3", f'exec {base} -c "raise SystemExit(1)"')  # as a 3.13 would answer
    # The one that suits writes down that it was asked for a venv, and makes a folder that passes for one.
    fake(tmp_path / "stub", f'exec {shlex.quote(sys.executable)} "$@"')
    making = f'echo "$@" >> {tmp_path}/asked; mkdir -p {venv}/bin; cp {tmp_path}/stub {venv}/bin/python'
    fake(path / "python", f'if [ "$1 $2" = "-m venv" ]; then PATH=/usr/bin:/bin; {making}; else exec {base} "$@"; fi')

    def asked() -> list[str]:
        return (tmp_path / "asked").read_text().splitlines()

    made = make_venv(path, venv)
    assert made.returncode == 0, made.stderr
    assert asked() == [f"-m venv --clear {venv}"]
    assert make_venv(path, venv).returncode == 0
    assert len(asked()) == 1, "a venv that works is kept"
    fake(venv / "bin/python", "exit 127")
    assert make_venv(path, venv).returncode == 0
    assert len(asked()) == 2, "a broken one is made anew"


def test_without_a_python_the_message_says_what_to_do(tmp_path):
    made = make_venv(tmp_path, tmp_path / "venv")
    assert made.returncode == 1
    assert "make PYTHON=/path/to/python3.12 install" in made.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def copy(tmp_path) -> Path:
    """The files that the install is made from, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/make-venv", ".ci/run"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def planned(folder: Path, target: str) -> str:
    """What make would do."""
    done = subprocess.run(["make", "-n", "-C", str(folder), target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_install_is_done_once_and_again_when_a_pin_changes(copy):
    plan = planned(copy, "install")
    assert "uv pip install" in plan
    stamp = re.search(r"touch (\S+)", plan)
    assert stamp is not None
    (copy / ".venv").mkdir()
    (copy / stamp[1]).touch()
    assert "uv pip install" not in planned(copy, "install")
    (copy / "constraints.txt").write_text("torch==0.0.0\n")
    assert "uv pip install" in planned(copy, "install")


@pytest.mark.parametrize("target", ["install", "demo", "tour", "serve", "test", "lint"])
def test_every_target_installs_what_it_needs_and_is_listed(copy, target):
    assert "uv pip install" in planned(copy, target)
    listed = subprocess.run(["make", "-s", "-C", str(copy)], capture_output=True, text=True).stdout
    assert re.search(rf"(?m)^{target} +\w", listed)


def test_make_test_lints_and_runs_everything(copy):
    plan = planned(copy, "test")
    for step in ("ruff check", "ruff format --check", "lint-imports", "mypy", "-m pytest"):
        assert step in plan


def test_ci_runs_make_test():
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert os.access(ROOT / ".ci/make-venv", os.X_OK)
