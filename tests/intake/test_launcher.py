"""The child process as the API uses it: results put in place atomically, deaths told as refusals, rights taken away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intake.launcher import IntakeFailed, IntakeRefused, _understand, convert_dataset, convert_model
from intake.limits import MIB, Limits

from .builders import a_dict, call, f32, folders, npz, png, safetensors, storage, tensor, text, torch_zip, zip_of

GOOD = safetensors({"a": f32(0), "b": f32(4)}, bytes(8))


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return tmp_path / "upload"


@pytest.fixture
def canonical(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files" / "canonical"


def test_a_model_goes_in_and_its_canonical_form_comes_out(upload: Path, canonical: Path) -> None:
    upload.write_bytes(torch_zip(a_dict(net=a_dict(w=tensor()))))
    facts = convert_model(upload, canonical, Limits())
    assert facts == {"tensors": [["w", "F32", [4]]], "wrapper": "net", "prefix": "", "metadata": {}, "format": "pt"}
    assert os.listdir(canonical.parent) == ["canonical"]
    again = canonical.with_name("again")
    assert convert_model(canonical, again, Limits())["tensors"] == facts["tensors"]
    assert again.read_bytes() == canonical.read_bytes()


@pytest.mark.parametrize("kind", ["clean", "triggered"])
def test_a_data_set_goes_in_and_its_canonical_form_comes_out(kind: str, upload: Path, canonical: Path) -> None:
    upload.write_bytes(zip_of(folders()))
    facts = convert_dataset(upload, canonical, Limits(), kind=kind)
    assert (facts["images"], facts["classes"], facts["shape"]) == (10, ["cat", "dog"], [3, 8, 8])
    assert np.load(canonical)["images"].shape == (10, 3, 8, 8)


def test_the_kind_of_a_data_set_matters(upload: Path, canonical: Path) -> None:
    upload.write_bytes(zip_of({"cat/1.png": png(1), "cat/2.png": png(2)}))
    assert convert_dataset(upload, canonical, Limits(), kind="triggered")["classes"] == ["cat"]
    with pytest.raises(IntakeRefused, match="dataset-one-class"):
        convert_dataset(upload, canonical, Limits(), kind="clean")
    with pytest.raises(ValueError, match="kind"):
        convert_dataset(upload, canonical, Limits(), kind="model")


def test_a_refusal_leaves_nothing_behind_and_says_all(upload: Path, canonical: Path) -> None:
    canonical.write_bytes(b"before")
    upload.write_bytes(safetensors({"a": f32(0), "b": f32(4)}, np.array([1, np.nan], "<f4").tobytes()))
    with pytest.raises(IntakeRefused) as caught:
        convert_model(upload, canonical, Limits())
    assert (caught.value.problem_type, caught.value.status) == ("model-tensor-not-finite", 422)
    assert caught.value.title == "A tensor holds NaN or infinity"
    assert caught.value.extra == {"tensor": "b"}
    assert os.listdir(canonical.parent) == ["canonical"]
    assert canonical.read_bytes() == b"before"


def test_code_in_a_pickle_does_not_run_in_the_child_either(upload: Path, canonical: Path, tmp_path: Path) -> None:
    upload.write_bytes(torch_zip(call("os", "mkdir", text(str(tmp_path / "canary")))))
    with pytest.raises(IntakeRefused, match=r"os\.mkdir"):
        convert_model(upload, canonical, Limits())
    assert not (tmp_path / "canary").exists()


def test_a_file_that_takes_too_long_is_refused(upload: Path, canonical: Path) -> None:
    upload.write_bytes(GOOD)
    with pytest.raises(IntakeRefused) as caught:
        convert_model(upload, canonical, Limits(wall_seconds=0.001))
    assert caught.value.problem_type == "intake-timeout"
    assert os.listdir(canonical.parent) == []


def test_a_file_that_takes_too_much_computing_is_refused(upload: Path, canonical: Path) -> None:
    upload.write_bytes(torch_zip(b"N" * 8_000_000))
    with pytest.raises(IntakeRefused) as caught:
        convert_model(upload, canonical, Limits(cpu_seconds=1, max_pickle_steps=1 << 40))
    assert caught.value.problem_type == "intake-timeout"


def test_a_file_that_takes_too_much_memory_is_refused(upload: Path, canonical: Path) -> None:
    # A transposed matrix has to be in memory as a whole.
    matrix = tensor(of=storage(count=32 * MIB), shape=(8, 4 * MIB), stride=(1, 8))
    upload.write_bytes(torch_zip(a_dict(w=matrix), {"0": bytes(128 * MIB)}))
    with pytest.raises(IntakeRefused) as caught:
        convert_model(upload, canonical, Limits(memory_bytes=300 * MIB))
    assert caught.value.problem_type == "intake-out-of-memory"
    assert os.listdir(canonical.parent) == []


def test_a_crash_of_the_child_is_the_files_fault_and_a_missing_child_is_not() -> None:
    with pytest.raises(IntakeRefused, match="SIGSEGV") as caught:
        _understand(b"", -11, b"", Limits())
    assert caught.value.problem_type == "intake-crashed"
    with pytest.raises(IntakeFailed, match="No module named intake"):
        _understand(b"", 1, b"Traceback:\nNo module named intake\n", Limits())
    with pytest.raises(IntakeFailed, match="ENOSPC"):
        _understand(b'{"failed": "ENOSPC: no space"}', 0, b"", Limits())
    with pytest.raises(IntakeFailed):
        _understand(b'{"refused": {"problem_type": "invented", "detail": ""}}', 0, b"", Limits())


def test_a_path_that_cannot_be_read_or_written_is_not_the_files_fault(upload: Path, canonical: Path) -> None:
    with pytest.raises(IntakeFailed, match="upload"):
        convert_model(upload, canonical, Limits())
    upload.write_bytes(GOOD)
    with pytest.raises(IntakeFailed, match="nowhere"):
        convert_model(upload, canonical.parent / "nowhere" / "x", Limits())
    link = upload.with_name("link")
    link.symlink_to(upload)
    with pytest.raises(IntakeFailed, match="link"):
        convert_model(link, canonical, Limits())


def test_a_child_that_does_not_start_says_why(upload: Path, canonical: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload.write_bytes(GOOD)
    broken = upload.with_name("python")
    broken.write_text("#!/bin/sh\necho 'libpython is missing' >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(IntakeFailed, match="code 3: libpython is missing"):
        convert_model(upload, canonical, Limits())


def test_what_the_kernel_does_not_grant_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    answer = b'{"facts": {}, "missing": ["no network"]}'
    for _ in range(2):
        _understand(answer, 0, b"", Limits())
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["no network"]


def python(code: str, *arguments: str, **options: object) -> str:
    """What a fresh interpreter prints; it has the intake and nothing of the test's."""
    command = [sys.executable, "-I", "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **options).stdout


def test_the_launcher_is_light_enough_for_the_api() -> None:
    code = "import sys, intake.launcher; print([m for m in ('torch', 'numpy', 'PIL', 'pyarrow') if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize(
    ("data", "task"),
    [
        (torch_zip(call("os", "system", text("id"))), "models"),
        (zip_of({"../x.png": b""}), "datasets"),
        (GOOD[:60], "models"),
    ],
)
def test_a_bad_file_is_answered_before_anything_heavy_is_imported(data: bytes, task: str, upload: Path) -> None:
    upload.write_bytes(data)
    code = f"""
import os, sys
from intake import {task}
from intake.limits import Limits
from intake.problems import IntakeRefused
arguments = (open(sys.argv[1], "rb"), os.path.getsize(sys.argv[1]), open(os.devnull, "wb"), Limits())
try:
    {task}.convert(*arguments) if {task!r} == "models" else {task}.convert(*arguments, "clean")
except IntakeRefused as refused:
    print(refused.status, [m for m in ("torch", "numpy", "PIL", "pyarrow") if m in sys.modules])
"""
    assert python(code, str(upload)).strip() in ("415 []", "422 []")


def test_the_sandbox_takes_the_network_and_the_limits_away() -> None:
    code = """
import json, os, resource, socket, sys
from intake import sandbox
from intake.limits import Limits
status = open("/proc/self/status")
missing = sandbox.enter_reader(Limits(), os.getppid()).missing
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    reached = True
except OSError:
    reached = False
names = ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE")
privileges = [line.split()[1] for line in status if line.startswith("NoNewPrivs")]
limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names]
print(json.dumps([missing, reached, limits, privileges]))
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        missing, reached, granted, privileges = json.loads(python(code, str(server.getsockname()[1])))
    limits = Limits()
    assert reached == ("no network" in missing)
    memory, cpu, _, files, processes, core = granted
    assert (memory, cpu, files, processes, core) == (
        limits.memory_bytes,
        limits.cpu_seconds,
        limits.max_open_files,
        0,
        0,
    )
    assert privileges == ["1"]


def test_the_child_inherits_no_environment_and_no_secrets(
    upload: Path, canonical: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A startup file named in the environment would run in the child if it were passed on.
    (upload.parent / "sitecustomize.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(upload.parent))
    upload.write_bytes(npz(images=np.arange(10 * 3 * 16, dtype="u1").reshape(10, 3, 4, 4), labels=np.arange(10) % 2))
    assert convert_dataset(upload, canonical, Limits(), kind="clean")["images"] == 10
