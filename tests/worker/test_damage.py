"""A stored file that the disk has changed is not worked with, whichever a job or a selection reads."""

import random
from typing import Any

import pytest

from store.database import transaction
from store.storage import LocalStorage
from store.tables import Job
from tests.damage import flipped_bit
from tests.scale import BIT_FLIPS
from worker import selection
from worker.holding import job_spec
from worker.inputs import read_inputs
from worker.problems import JobProblem
from worker.spec import JobSpec, SelectionSpec


@pytest.fixture
def spec(bench: Any, plugged_in: None) -> JobSpec:
    """A job that reads a file of every role."""
    images, labels = bench.images(12)
    job_id = bench.post(triggered=bench.add_images("triggered", images, labels, bench.classes), send=False)
    second = bench.add_model(bench.suspect.state_dict())
    with transaction(bench.factory) as session:
        job = session.get_one(Job, job_id)
        job.second_file_id = second
        return job_spec(session, job, bench.settings)


@pytest.mark.parametrize("flips", BIT_FLIPS)
def test_every_flipped_bit_of_an_input_is_noticed(storage: LocalStorage, spec: JobSpec, flips: int) -> None:
    chance = random.Random(6)
    roles = ("suspect", "clean", "triggered", "second_model")
    for number in range(flips):
        role = roles[number % len(roles)]
        path = storage.path(getattr(spec, role).canonical_path)
        with (
            flipped_bit(path, chance, unseen=chance.random() < 0.5),
            pytest.raises(JobProblem, match="not the one that was uploaded"),
        ):
            read_inputs(storage, spec)
    read_inputs(storage, spec)  # whole again


@pytest.mark.parametrize("flips", BIT_FLIPS)
def test_every_flipped_bit_of_a_path_is_noticed(storage: LocalStorage, spec: JobSpec, flips: int) -> None:
    with storage.new_writer(f"{spec.folder}/path.safetensors") as writer:
        writer.write(random.Random(0).randbytes(20_000))
        stored = writer.commit()
    asked = SelectionSpec(
        selection_id="1", attempt=1, t=0.5, repair=spec, path_file=stored.name, path_sha256=stored.sha256
    )
    chance = random.Random(7)
    for _ in range(flips):
        with (
            flipped_bit(storage.path(stored.name), chance, unseen=chance.random() < 0.5),
            pytest.raises(JobProblem, match="fit a new path"),
        ):
            selection.run(asked, lambda message: None)
