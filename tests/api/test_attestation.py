"""Signed statements of what a job made."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.attestation.signing import Signing
from client.attestation import make_signing_key, read_attestation
from store.settings import Settings
from tests.api.conftest import Tenant, problem, serving


def fetch(http: httpx.Client, job: str, folder: Path, kind: str = "repair") -> tuple[Path, Path]:
    """The attestation and the public key as files."""
    attestation, public = folder / "attestation.json", folder / "service.pub"
    attestation.write_bytes(http.get(f"/{kind}/{job}/attestation").raise_for_status().content)
    public.write_bytes(httpx.get(http.base_url.join("/signing-key")).raise_for_status().content)  # needs no access key
    return attestation, public


def test_it_names_every_input_and_every_result_and_the_request(tenant: Tenant, finished: str, tmp_path: Path) -> None:
    statement = read_attestation(*fetch(tenant.http, finished, tmp_path))
    job = tenant.http.get(f"/repair/{finished}").json()
    made = {each["name"]: each["sha256"] for each in job["result"]["artifacts"]}
    assert {each["name"]: each["digest"]["sha256"] for each in statement["subject"]} == made
    build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    used = {each["name"]: each["digest"]["sha256"] for each in build["resolvedDependencies"]}
    given = {role: job["request"][role] for role in ("suspect", "clean", "triggered") if job["request"][role]}
    assert used == {role: tenant.http.get(f"/files/{id_}").json()["sha256"] for role, id_ in given.items()}
    assert build["externalParameters"]["request"] == job["request"]
    assert run["builder"]["id"] == "urn:test:service"
    assert run["metadata"]["invocationId"] == f"urn:uuid:{finished}"


def test_an_analysis_is_attested_under_its_own_roles(tenant: Tenant, finished_analysis: str, tmp_path: Path) -> None:
    statement = read_attestation(*fetch(tenant.http, finished_analysis, tmp_path, "analysis"))
    used = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {each["name"] for each in used} == {"regular", "robust", "clean"}


def test_the_hashes_of_deleted_inputs_stay(tenant: Tenant, finished: str, tmp_path: Path) -> None:
    suspect = tenant.http.get(f"/repair/{finished}").json()["request"]["suspect"]
    before = read_attestation(*fetch(tenant.http, finished, tmp_path))
    tenant.http.delete(f"/files/{suspect}").raise_for_status()
    after = read_attestation(*fetch(tenant.http, finished, tmp_path))
    assert after["predicate"]["buildDefinition"] == before["predicate"]["buildDefinition"]


def test_openssl_checks_the_signature_without_any_of_our_code(tenant: Tenant, finished: str, tmp_path: Path) -> None:
    attestation, public = fetch(tenant.http, finished, tmp_path)
    envelope = json.loads(attestation.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = tmp_path / "signed"
    signed.write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))

    def check() -> int:
        command = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", tmp_path / "signature", signed]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert check() == 0
    signed.write_bytes(signed.read_bytes().replace(b"repaired", b"replaced"))
    assert check() != 0


def changed(envelope: dict[str, Any]) -> dict[str, Any]:
    payload = base64.b64decode(envelope["payload"]).replace(b"repaired", b"replaced")
    return envelope | {"payload": base64.b64encode(payload).decode()}


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (changed, "changed after it was signed"),
        (lambda envelope: envelope | {"signatures": []}, "not signed by the key"),
        (lambda envelope: envelope | {"payloadType": "text/plain"}, "changed after it was signed"),
        (lambda envelope: {"payload": 1}, "is no attestation"),
        (lambda envelope: [], "is no attestation"),
    ],
)
def test_what_was_forged_is_refused(tenant: Tenant, finished: str, tmp_path: Path, forge: Any, said: str) -> None:
    attestation, public = fetch(tenant.http, finished, tmp_path)
    attestation.write_text(json.dumps(forge(json.loads(attestation.read_bytes()))))
    with pytest.raises(ValueError, match=said):
        read_attestation(attestation, public)


def test_another_key_does_not_do(tenant: Tenant, finished: str, tmp_path: Path) -> None:
    attestation, public = fetch(tenant.http, finished, tmp_path)
    make_signing_key(tmp_path / "other.key")
    public.write_text(Signing.read(tmp_path / "other.key").public_pem)
    with pytest.raises(ValueError, match="not signed by the key"):
        read_attestation(attestation, public)
    with pytest.raises(ValueError, match="is no public key"):
        read_attestation(attestation, attestation)


def test_without_a_key_there_are_no_attestations(
    tenant: Tenant, finished: str, api_settings: Settings, tmp_path: Path
) -> None:
    with serving(api_settings.model_copy(update={"signing_key": None}), tmp_path) as server:
        server.wait_until_ready("/healthz")
        headers = {"Authorization": f"Bearer {tenant.key}"}
        for route in (f"/repair/{finished}/attestation", "/signing-key"):
            problem(httpx.get(server.url + route, headers=headers), 404, "signing-key-missing")


def test_a_file_that_is_no_key_stops_the_start_with_its_name(api_settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    for content, said in ((None, "cannot be read"), (b"secret", "must be a private key in PEM")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            Signing.read(path)


def test_the_key_that_serve_makes_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    make_signing_key(path)
    kept = path.read_bytes()
    make_signing_key(path)
    assert path.read_bytes() == kept
    assert path.stat().st_mode & 0o777 == 0o600
