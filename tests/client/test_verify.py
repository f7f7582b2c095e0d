"""`modeconn verify`: files against a manifest, without a service."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result, an upload, and the manifest that names both."""
    (tmp_path / "repaired.safetensors").write_bytes(b"weights")
    (tmp_path / "suspect.pt").write_bytes(b"upload")
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("weights", "upload")}
    manifest = {
        "outputs": {"repaired.safetensors": {"bytes": 7, "sha256": digest["weights"]}},
        "inputs": {"suspect": {"name": "suspect.pt", "bytes": 6, "sha256": digest["upload"]}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def verify(folder: Path, *names: str, manifest: str = "manifest.json"):
    files = [str(folder / name) for name in names]
    return CliRunner().invoke(app, ["verify", *files, "--manifest", str(folder / manifest), "--json"])


def test_results_and_uploads_are_recognised(folder: Path) -> None:
    done = verify(folder, "repaired.safetensors", "suspect.pt")
    assert done.exit_code == 0
    roles = [row["role"] for row in json.loads(done.stdout)]
    assert roles == ["repaired.safetensors, a result", "suspect, an upload"]


def test_one_changed_byte_is_noticed(folder: Path) -> None:
    (folder / "repaired.safetensors").write_bytes(b"weightz")
    done = verify(folder, "repaired.safetensors")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["role"] is None


@pytest.mark.parametrize("content", ["no json", "[]", '{"outputs": {}}', '{"outputs": [], "inputs": {}}'])
def test_what_is_no_manifest_is_refused_with_a_way_out(folder: Path, content: str) -> None:
    (folder / "other.json").write_text(content)
    done = verify(folder, "suspect.pt", manifest="other.json")
    assert done.exit_code == 1
    assert "is no manifest: download it" in done.stderr
