"""The documentation builds without a warning: no page is lost, no link leads nowhere."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run([*command, "docs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "/problems/unknown-architecture" in (tmp_path / "made" / "troubleshooting.html").read_text()
    assert "a replay gave other numbers" in (tmp_path / "made" / "commands.html").read_text()
    assert "/repair/{job_id}/curve" in (tmp_path / "made" / "api.html").read_text()
