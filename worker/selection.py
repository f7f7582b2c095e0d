"""What a selection's child does: take a finished job's path at another t, measure it there, write its weights."""

from typing import Any

import torch

from modeconn_core import materialise
from store.errors import StorageCorrupt, StorageMissing
from store.storage import LocalStorage
from worker.child import Send
from worker.export import as_json, store_weights
from worker.inputs import Model, read_inputs
from worker.job import as_the_model_sees, configuration
from worker.problems import JobProblem
from worker.spec import SelectionSpec


def run(spec: SelectionSpec, send: Send) -> dict[str, Any]:
    """Carry out one attempt; returns the figures as `result`, and the weights' file. Raises JobProblem."""
    torch.set_num_threads(spec.repair.threads)
    storage = LocalStorage(spec.repair.storage_root, room=spec.folder)
    inputs = read_inputs(storage, spec.repair)
    try:
        path_file = storage.verify(spec.path_file, spec.path_sha256)
    except (StorageMissing, StorageCorrupt) as error:
        raise JobProblem(
            "stored-file-gone", "The job's path is gone or damaged", "Post the job again to fit a new path."
        ) from error
    module, measured = materialise(
        inputs.suspect.module,
        path_file,
        inputs.preprocessing.apply(inputs.clean.pixels),
        inputs.clean.labels,
        t=spec.t,
        triggered=as_the_model_sees(inputs.triggered, inputs.preprocessing),
        config=configuration(spec.repair),
    )
    model = Model(module=module, layout=inputs.suspect.layout, prefix=inputs.suspect.prefix)
    weights = store_weights(storage, f"{spec.folder}/weights-t={spec.t!r}.safetensors", model)
    return {"result": {"t": spec.t, **as_json(measured)}, "artifacts": [weights]}
