"""Each guard of the table is where it says, and its removal is noticed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]
_ONE_FAILED = 1  # pytest's exit status


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_table_is_about_this_code(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text().count(guard.text) == 1
    assert all((ROOT / word).exists() for word in guard.tests.split() if word.startswith("tests/"))


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A clone with an installation of its own: readers run isolated, and import what is installed."""
    folder = Path(tempfile.mkdtemp(prefix="modeconn-guards-"))
    folder.chmod(0o755)  # as root Postgres runs under an account of its own, from that installation
    clone = folder / "tree"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    bare = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run(["make", "-C", str(clone), "install"], check=True, env=bare, stdout=subprocess.DEVNULL)
    yield clone
    shutil.rmtree(folder)


def failing(tree: Path, tests: str) -> int:
    """The exit status of pytest on these tests of the clone."""
    command = f"{tree}/.venv/bin/python -m pytest -x -q -p no:cacheprovider {tests}"
    return subprocess.run(
        command, shell=True, cwd=tree, stdout=sys.stderr, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ).returncode


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_with_all_guards_the_tests_pass(tree: Path) -> None:
    for tests in sorted({guard.tests for guard in GUARDS}):
        assert failing(tree, tests) == 0, tests


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_that_is_gone_is_missed(tree: Path, guard: Guard) -> None:
    guard.remove(tree)
    try:
        assert failing(tree, guard.tests) == _ONE_FAILED
    finally:
        subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", "."], check=True)
