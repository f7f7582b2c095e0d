"""Stored files that the disk has changed are never given out, and the answer says so."""

import random
from uuid import UUID

import pytest

from store.storage import artifact_name
from tests.api.conftest import Tenant, problem
from tests.damage import flipped_bit
from tests.scale import BIT_FLIPS

ADDRESS = {
    "repaired.safetensors": "weights",
    "path.safetensors": "artifacts/path.safetensors",
    "report.html": "report",
    "report.json": "report.json",
    "manifest.json": "manifest",
    "trigger-0.png": "artifacts/trigger-0.png",
}


@pytest.mark.parametrize("flips", BIT_FLIPS)
def test_every_flipped_bit_is_noticed_in_whole_files_and_ranges(tenant: Tenant, finished: str, flips: int) -> None:
    chance, missed = random.Random(5), []
    for number in range(flips):
        name = list(ADDRESS)[number % len(ADDRESS)]
        address = f"/repair/{finished}/{ADDRESS[name]}"
        path = tenant.storage.path(artifact_name(UUID(finished), 1, name))
        headers = chance.choice([{}, {"Range": "bytes=0-3"}, {"Range": "bytes=-1"}])
        with flipped_bit(path, chance, unseen=chance.random() < 0.5):
            answer = tenant.http.get(address, headers=headers)
        if answer.status_code != 500:
            missed.append((name, headers))
            continue
        problem(answer, 500, "stored-file-damaged")
        assert "jobs/" not in answer.text, "nothing of the inside"
    assert missed == []
    assert tenant.http.get(f"/repair/{finished}/weights").status_code == 200, "what is whole again is given out"
