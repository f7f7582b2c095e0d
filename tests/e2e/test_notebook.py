"""The notebook runs as it stands, against the real service."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(900)
def test_the_notebook_shows_the_curve_and_fetches_the_models(serve, tmp_path, monkeypatch):
    serve.start()
    monkeypatch.setenv("MODECONN_DATA", str(serve.data))
    shutil.copytree(EXAMPLES / "cifar10", tmp_path / "cifar10")
    notebook = nbformat.read(EXAMPLES / "repair.ipynb", as_version=4)
    NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.get("text", "") for output in outputs)
    assert "fitting_path" in said
    assert "backdoor to: airplane by a patch" in said
    made = {path.name for path in (tmp_path / "notebook-out").iterdir()}
    assert made == {"repaired.safetensors", "another.safetensors", "report.html"}
