"""Records real answers for the API reference (docs/answers.json): python docs/record.py, about a minute.

Starts a service, repairs the example with few steps and asks the routes that a repair's user meets. Long lists are cut.
"""

import json
import re
from pathlib import Path
from typing import Any

from client.models import Architecture, JobSettings, Method, Preprocessing, RepairSettings
from client.sdk import Client
from client.serving.own import own_service

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "cifar10"
SHOWN = 1  # entries of a list
ROUTES = {
    "/files": "/files",
    "/files/{file_id}": "/files/{clean}",
    "/repair": "/repair",
    "/repair/{job_id}": "/repair/{job}",
    "/repair/{job_id}/curve": "/repair/{job}/curve",
    "/repair/{job_id}/manifest": "/repair/{job}/manifest",
    "/repair/{job_id}/attestation": "/repair/{job}/attestation",
    "/repair/{job_id}/selections": "/repair/{job}/selections",
    "/diagnosis/{job_id}": "/diagnosis/{diagnosis}",
    "/quota": "/quota",
    "/keys": "/keys",
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/problems/{slug}": "/problems/job-not-found",
}


def record(client: Client) -> dict[str, Any]:
    """Method and path -> what the service answered."""
    card = json.loads((EXAMPLE / "card.json").read_text())
    normalisation = {name: card["preprocessing"][name] for name in ("mean", "std")}
    settings = RepairSettings(
        architecture=Architecture(**card["architecture"]),
        preprocessing=Preprocessing(**normalisation),
        method=Method(steps=40),
        labels={"name": "the example"},
    )
    suspect = client.upload(EXAMPLE / "suspect.safetensors", "model")
    clean = client.upload(EXAMPLE / "clean.zip", "clean")
    found = {
        "POST /files": clean.model_dump(mode="json"),
        "POST /repair": client.transport.request(
            "POST",
            "/repair",
            json={"suspect": suspect.id, "clean": clean.id, **settings.model_dump(mode="json")},
        ).json(),
    }
    job = client.job(found["POST /repair"]["id"])
    job.wait()
    selection = client.transport.request("POST", f"/repair/{job.id}/selections", json={"t": 0.3}).json()
    found["POST /repair/{job_id}/selections"] = selection
    diagnosis = client.diagnose(suspect, clean, JobSettings(architecture=Architecture(**card["architecture"])))
    diagnosis.wait()
    for route, address in ROUTES.items():
        asked = address.format(clean=clean.id, job=job.id, diagnosis=diagnosis.id)
        found[f"GET {route}"] = client.transport.request("GET", asked).json()
    return {name: short(answer) for name, answer in sorted(found.items())}


def short(value: Any) -> Any:
    """Lists by their first entries; long texts cut; a key's secret would never be in what is recorded."""
    if isinstance(value, dict):
        return {name: short(each) for name, each in value.items()}
    if isinstance(value, list):
        return (
            [short(each) for each in value[:SHOWN]] if any(isinstance(each, dict | list) for each in value) else value
        )
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/=]{200,}", value):
        return value[:40] + "…"
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    with own_service(print) as place, Client(place.url, place.key) as service:
        answers = record(service)
    (HERE / "answers.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
