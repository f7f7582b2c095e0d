"""The SDK's upload of large files against the real API: it ends well though connections break."""

import hashlib
from pathlib import Path

import httpx
import pytest

from client import Client, Refused, sdk
from tests.api.conftest import Server, Tenant, model_bytes
from tests.chaos.proxy import proxied

LARGE_BYTES = 100_000


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "RESUMABLE_BYTES", LARGE_BYTES)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "suspect.safetensors"
    path.write_bytes(model_bytes(width=8))
    return path


def port(server: Server) -> int:
    return httpx.URL(server.url).port or 80


def test_an_upload_goes_on_after_every_broken_connection(server: Server, tenant: Tenant, model: Path) -> None:
    size, sent = model.stat().st_size, list[int]()
    with proxied([port(server)], most_bytes=size // 2) as proxy, Client(proxy.url, tenant.key) as client:
        file = client.upload(model, "model", on_bytes=sent.append)
    assert proxy.cut == 2
    assert (file.name, file.bytes) == (model.name, size)
    assert file.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert sent[-1] == size


def test_an_upload_whose_last_answer_is_lost_is_not_sent_twice(server: Server, tenant: Tenant, model: Path) -> None:
    with proxied([port(server)], cut_share=0.4) as proxy, Client(proxy.url, tenant.key, attempts=30) as client:
        for _ in range(3):
            client.upload(model, "model")
    assert proxy.cut > 0
    with Client(server.url, tenant.key) as client:
        assert len(list(client.files())) == 1


def test_what_is_wrong_with_a_large_file_is_said(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(2 * LARGE_BYTES))
    with Client(server.url, tenant.key) as client, pytest.raises(Refused) as refused:
        client.upload(path, "model")
    assert refused.value.type == "model-format-not-accepted"
