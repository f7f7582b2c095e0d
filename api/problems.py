"""The catalogue of problem types: every way a request can be refused, what it means and what to do about it."""

from dataclasses import dataclass

from intake.launcher import PROBLEMS as INTAKE_PROBLEMS


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One problem type. `status` is its HTTP status, `remedy` tells the caller what to do next."""

    status: int
    title: str
    meaning: str
    remedy: str


def _kind(status: int, title: str, meaning: str, remedy: str) -> ProblemKind:
    return ProblemKind(status=status, title=title, meaning=meaning, remedy=remedy)


_REQUEST = {
    "invalid-request": _kind(
        422,
        "The request does not fit the contract",
        "A field, query parameter or header is missing, unknown, of the wrong type or out of range.",
        "`errors` names each place with a JSON pointer. Correct those and send the request again.",
    ),
    "invalid-json": _kind(
        400,
        "The body is not JSON",
        "The body could not be parsed as JSON.",
        "Send one JSON object with `Content-Type: application/json`.",
    ),
    "invalid-cursor": _kind(
        400,
        "The cursor is not one of ours",
        "`cursor` must be the `next` of an earlier page of the same list.",
        "Start again without `cursor`.",
    ),
    "body-too-large": _kind(
        413,
        "The body is too large",
        "The body is larger than this route accepts. The connection is closed.",
        "`limit_bytes` is the limit. For a data set, send fewer or smaller images.",
    ),
    "body-too-slow": _kind(
        408,
        "The body came too slowly",
        "The body stopped for fifteen seconds, or came with less than `least_bytes_per_second`. The connection is "
        "closed. Of a resumable upload what came is kept, of anything else nothing.",
        "Send the request again over a steadier connection, a large file as a resumable upload.",
    ),
    "range-not-satisfiable": _kind(
        416,
        "The range lies outside the file",
        "The `Range` header asks for bytes that the file does not have.",
        "`Content-Range` says how long the file is.",
    ),
    "not-found": _kind(
        404,
        "There is nothing at this address",
        "No route has this path.",
        "See /openapi.json for the routes that exist.",
    ),
    "method-not-allowed": _kind(
        405,
        "This address does not know the method",
        "The path exists, but not with this method.",
        "The `Allow` header lists the methods it knows.",
    ),
    "idempotency-key-reused": _kind(
        422,
        "The Idempotency-Key was used for another request",
        "This key already stands for a request with another body or address.",
        "Use a new Idempotency-Key for a new request.",
    ),
    "idempotency-key-in-use": _kind(
        409,
        "The first request with this Idempotency-Key is still running",
        "The same request was sent before and has not been answered yet.",
        "Wait for `Retry-After` seconds, then send the same request again: it gets the stored answer.",
    ),
}

_ACCESS = {
    "key-missing": _kind(
        401,
        "A key is needed",
        "The request carries no `Authorization: Bearer` header.",
        "Send `Authorization: Bearer mcr_...`. `python -m store.keys` makes a key; `modeconn` uses the local one.",
    ),
    "key-not-valid": _kind(
        401,
        "The key is not valid",
        "The key is unknown, expired or revoked.",
        "Use another key, or ask whoever runs the service for a new one.",
    ),
    "key-not-found": _kind(404, "There is no such key", "No key of yours has this id.", "`GET /keys` lists your keys."),
    "key-scope-missing": _kind(
        403,
        "The key may not do this",
        "The key lacks the scope that this route needs: `read` looks, `write` uploads, deletes files, and posts and "
        "stops jobs, `keys` manages keys.",
        "Use a key whose `scopes` include `needed`.",
    ),
    "key-exceeds-yours": _kind(
        403,
        "A key cannot give more than it has",
        "The new key would have scopes that yours lacks, or outlive yours.",
        "Ask for scopes among `scopes` and an end no later than `expires_at`, or use a stronger key.",
    ),
    "too-many-requests": _kind(
        429,
        "Too many requests",
        "More requests came in a minute than this service takes from one key, or, without a valid key, from one "
        "address.",
        "Send the request again after `Retry-After` seconds. To wait for a job, follow its events.",
    ),
    "storage-quota-exceeded": _kind(
        403,
        "Your storage is full",
        "Your files take all the bytes that your tenant may store. Waiting does not help, so this is no 429; the "
        "service has room, so it is no 507.",
        "Delete files that you no longer need (`DELETE /files/{id}`), or ask whoever runs the service for more. "
        "`GET /quota` shows what is used.",
    ),
    "compute-quota-exceeded": _kind(
        429,
        "Your jobs have computed enough for now",
        "The jobs of your tenant have used up the seconds of compute that it has in 24 hours.",
        "Wait: what was computed 24 hours ago stops counting. `GET /quota` shows what is used.",
    ),
    "too-many-queued-jobs": _kind(
        429,
        "Too many jobs are waiting",
        "Your queue is as long as this service allows.",
        "Wait until some have run, or cancel some.",
    ),
}

_FILES = {
    "file-not-found": _kind(
        404,
        "There is no such file",
        "No file of yours has this id; it may have been deleted or have expired.",
        "Upload it with `POST /files` and use the id from that answer.",
    ),
    "file-in-use": _kind(
        409,
        "A job still needs the file",
        "A job that has not ended uses this file.",
        "Cancel the jobs in `jobs`, or wait for their end, then delete the file.",
    ),
    "upload-not-found": _kind(
        404,
        "There is no such upload",
        "No resumable upload of yours has this id; it may have been given up, or have got no bytes for twelve hours.",
        "Begin it again with `POST /files/resumable`.",
    ),
    "upload-offset-differs": _kind(
        409,
        "The bytes do not begin where the upload ends",
        "`Upload-Offset` must be the number of bytes that have come so far.",
        "`offset` says how many those are; send on from there.",
    ),
    "upload-in-use": _kind(
        423,
        "The upload is being written to",
        "One request at a time may send bytes of a resumable upload, and another one does.",
        "Wait for `Retry-After` seconds, ask for the offset with HEAD, and send on from there. A connection that was "
        "lost is noticed after fifteen seconds.",
    ),
    "upload-content-type": _kind(
        415,
        "The bytes of a resumable upload need their own content type",
        "The body of the PATCH is not declared as `application/offset+octet-stream`.",
        "Send `Content-Type: application/offset+octet-stream`.",
    ),
    "tus-version-not-supported": _kind(
        412,
        "This version of tus is not spoken here",
        "The header `Tus-Resumable` is missing, or names a version that the service does not know.",
        "Send `Tus-Resumable: 1.0.0`. `Tus-Version` lists what is spoken.",
    ),
    "too-many-uploads": _kind(
        429,
        "Too many resumable uploads are open",
        "Your tenant has begun as many uploads as it may have open at once.",
        "Finish some, or give some up with DELETE.",
    ),
    "wrong-file-kind": _kind(
        422,
        "The file is of another kind",
        "Models (`suspect`, `second_model`, `regular`, `robust`) need kind `model`; `clean` and `triggered` the kind "
        "they are named after.",
        "Use the id of the right file, or upload it again with the right `kind`.",
    ),
    "storage-full": _kind(
        507,
        "The storage is full",
        "The service has no room for the file. Of a resumable upload what came is kept, of anything else nothing.",
        "Tell whoever runs the service. A resumable upload goes on where it was once there is room.",
    ),
}

_MODEL = {
    "unknown-architecture": _kind(
        422,
        "The architecture is not known",
        "No architecture has this name.",
        "`nearest` lists names that come close; leave `architecture` out to have it recognised from the tensors.",
    ),
    "architecture-not-recognised": _kind(
        422,
        "The architecture could not be recognised",
        "The tensors' names and shapes fit none of the known architectures.",
        "Name it in `architecture`. A module of your own can be plugged in by the operator (entry point "
        "`modeconn.architectures`).",
    ),
    "tensors-do-not-match": _kind(
        422,
        "The tensors do not fit the architecture",
        "Tensors are missing, left over or of another shape.",
        "The problem names them. Check `architecture` and its `options`, or export the state dict again.",
    ),
    "class-count-does-not-match": _kind(
        422,
        "The numbers of classes do not match",
        "The model has another number of outputs than there are classes.",
        "Give `classes` with one name per output of the model, in index order.",
    ),
    "second-model-differs": _kind(
        422,
        "The second model is not of the same make",
        "`second_model` must have the same tensors (names, types and shapes) as `suspect`.",
        "Use another model as second end, or leave `second_model` out: one suspect is enough.",
    ),
    "second-model-is-the-suspect": _kind(
        422,
        "The second model is the suspect itself",
        "A path needs two different ends.",
        "Leave `second_model` out: the service makes a second end from the suspect.",
    ),
    "models-differ": _kind(
        422,
        "The two models are not of the same make",
        "A path runs between models of one architecture: `robust` must have the same tensors (names, types and "
        "shapes) as `regular`.",
        "Train the robust model with the regular one's architecture and options, and export both the same way.",
    ),
    "models-are-the-same": _kind(
        422,
        "The two models are the same one",
        "A path needs two different ends, but `robust` holds the very same tensors as `regular`.",
        "Give two models; two that were trained alike from different seeds will do.",
    ),
    "inspector-not-ready": _kind(
        503,
        "The model inspector is busy",
        "The part of the service that knows the architectures is starting or did not answer in time.",
        "Send the request again after `Retry-After` seconds.",
    ),
}

_DATA = {
    "classes-do-not-match": _kind(
        422,
        "The class list does not fit the folders",
        "A folder of the clean set is not in `classes`, or `classes` names a class twice.",
        "`classes` must name every folder once, in the order of the model's outputs.",
    ),
    "triggered-class-unknown": _kind(
        422,
        "A folder of the triggered set is no class",
        "Folders of the triggered set are named after the class that the attacker wants, as the clean set names it.",
        "Rename the folders in `folders` to one of `classes`.",
    ),
    "triggered-shape-differs": _kind(
        422,
        "The triggered images have another shape",
        "Clean and triggered images must have the same channels, height and width.",
        "Export both sets the same way and upload again.",
    ),
    "triggered-set-missing": _kind(
        422,
        "There is no triggered set to choose with",
        "`select_with_triggered` needs a `triggered` file.",
        "Give `triggered`, or leave `select_with_triggered` false.",
    ),
    "preprocessing-does-not-fit": _kind(
        422,
        "The pre-processing does not fit the images",
        "`mean` and `std` need one value per channel on the scale 0..1; every `std` must be above 0.",
        "Give the values that the model was trained with, divided by 255 if they are on the scale 0..255.",
    ),
}

_JOBS = {
    "job-not-found": _kind(
        404,
        "There is no such job",
        "No job of yours of this kind has this id.",
        "`GET /repair` and `GET /analysis` list your jobs.",
    ),
    "job-not-finished": _kind(
        409,
        "The job has not finished",
        "This exists only once the job has succeeded.",
        "Follow the job's `links.events`, or ask again after `Retry-After` seconds. `state` says how far it is.",
    ),
    "job-has-no-result": _kind(
        409,
        "The job ended without a result",
        "The job failed or was cancelled.",
        "The job's `problem` says why; a POST to its `links.retry` starts it again.",
    ),
    "job-already-ended": _kind(
        409, "The job has already ended", "An ended job cannot be cancelled.", "Nothing is left to do."
    ),
    "job-cannot-be-retried": _kind(
        409,
        "The job cannot be retried",
        "Only a failed or cancelled job can be started again.",
        "Wait for its end, cancel it, or post a new job.",
    ),
    "artifact-not-found": _kind(
        404, "The job has no such file", "The job made no file of this name.", "`result.artifacts` lists what there is."
    ),
    "artifact-gone": _kind(
        410,
        "The file is no longer kept",
        "The file was removed when its time ran out.",
        "Post the job again.",
    ),
    "stored-file-damaged": _kind(
        500,
        "A stored file is damaged",
        "The file is not the one that was stored, by its SHA-256. It is not given out or used.",
        "Post the job again, or send the upload again; tell whoever runs the service, who may have a backup.",
    ),
    "selection-not-found": _kind(
        404,
        "There is no model at this t yet",
        "The weights at this t have not been made.",
        "`POST /repair/{id}/selections` with this `t`, wait for it, then ask again.",
    ),
    "selection-not-finished": _kind(
        409,
        "The model at this t is still being made",
        "The selection was asked for and is queued or running.",
        "Ask again after `Retry-After` seconds.",
    ),
    "deadline-too-long": _kind(
        422,
        "The deadline is too far away",
        "`deadline_seconds` is more than this service allows.",
        "`limit_seconds` is the longest deadline.",
    ),
}

# What a job can end with, in its `problem`; written by the workers and the store.
_ENDINGS = {
    "attempts-exhausted": _kind(
        500,
        "The job was given up",
        "Every attempt ended without a result: the worker crashed, ran out of memory or was lost.",
        "Try a smaller model or data set, or ask whoever runs the service for its log.",
    ),
    "deadline-exceeded": _kind(
        500,
        "The job ran out of time",
        "The job was not done when its deadline came.",
        "Post it again with a later `deadline_seconds` or fewer `method.steps`.",
    ),
    "suspect-accuracy-too-low": _kind(
        422,
        "The suspect does badly on the clean images",
        "The suspect scored under three times chance: most often the normalisation, the channel order or the class "
        "order is not the one it was trained with.",
        "`suggestions` scored better; copy one into the request. `accept_low_accuracy` goes on as it is.",
    ),
    "input-not-usable": _kind(
        422,
        "The job cannot work with this input",
        "Model and images do not go together, for example because the images are too small for the network.",
        "`detail` names the cause. Correct the request or the files and post a new job.",
    ),
    "images-out-of-range": _kind(
        422,
        "The images are neither 0..1 nor 0..255",
        "Images must be plain pixel values; the normalisation is stated in the request.",
        "Upload the images before normalisation and give `preprocessing.mean` and `preprocessing.std`.",
    ),
    "stored-file-gone": _kind(
        410,
        "A stored file is gone or damaged",
        "A file that the job needs was deleted, has expired, or is not the one that was uploaded.",
        "Upload it again and post a new job.",
    ),
    "out-of-memory": _kind(
        500,
        "The job ran out of memory",
        "The worker has not enough memory for this model and these images.",
        "Use fewer images or a smaller input size, or ask whoever runs the service for a larger worker.",
    ),
    "repair-crashed": _kind(
        500,
        "The job stopped with an unexpected error",
        "A fault of the service, or of the architecture's module.",
        "Tell whoever runs the service; its log has the details under the job's id.",
    ),
    "device-not-available": _kind(
        500,
        "The worker has no such device",
        "The service is set to a device that its worker does not have.",
        "Tell whoever runs the service.",
    ),
}

_SERVICE = {
    "signing-key-missing": _kind(
        404,
        "This service signs nothing",
        "No signing key is configured, so there are no attestations.",
        "Check the files against the manifest, or ask whoever runs the service to set `MODECONN_SIGNING_KEY`.",
    ),
    "queue-full": _kind(
        503,
        "The service's queue is full",
        "So many jobs of all tenants are waiting that the service takes no more. Nothing was kept of the request.",
        "Send it again after `Retry-After` seconds; an Idempotency-Key makes that safe.",
    ),
    "not-ready": _kind(
        503, "The service is not ready", "A part that the service needs does not answer.", "`checks` says which one."
    ),
    "database-unavailable": _kind(
        503,
        "The database does not answer",
        "The request could not be carried out. Nothing was changed.",
        "Send it again after `Retry-After` seconds; an Idempotency-Key makes that safe.",
    ),
    "problem-not-found": _kind(
        404, "There is no such problem type", "No problem has this name.", "`GET /problems` lists them."
    ),
    "internal-error": _kind(
        500,
        "Something broke on our side",
        "The service met an error that it did not expect.",
        "Send the request again; if it stays, report `request_id`.",
    ),
}

_EXPLAINED_INTAKE = {
    "model-format-not-accepted": _kind(
        415,
        "This model format is not accepted",
        "Only safetensors files and .pt/.pth state dicts are read. TorchScript, torch.export, ONNX, whole pickled "
        "modules, tar and legacy files can run code and are refused.",
        "In your own environment: `safetensors.torch.save_file(model.state_dict(), 'model.safetensors')`.",
    ),
}
_INTAKE = {
    slug: _kind(
        status, title, f"{title}. The file was read in a sandbox and refused; nothing was kept.", "See `detail`."
    )
    for slug, (status, title) in INTAKE_PROBLEMS.items()
} | _EXPLAINED_INTAKE

CATALOGUE: dict[str, ProblemKind] = {
    **_REQUEST, **_ACCESS, **_FILES, **_MODEL, **_DATA, **_JOBS, **_ENDINGS, **_SERVICE, **_INTAKE,
}  # fmt: skip


def type_uri(slug: str) -> str:
    """The `type` member of a problem: a relative address that `GET /problems/{slug}` answers."""
    return f"/problems/{slug}"
