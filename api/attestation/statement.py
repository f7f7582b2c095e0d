"""What is attested: which files a job made, from which inputs, by which request, when.

An in-toto Statement v1 with the SLSA provenance predicate: tools that know nothing of this service can check and read
it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from store.tables import Artifact, File, Job

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


def statement(
    job: Job, inputs: Mapping[str, File], artifacts: Sequence[Artifact], *, builder_id: str
) -> dict[str, Any]:
    """`inputs`: role -> file. Subjects are named like the job's files; uploads by their role, with the SHA-256 of what
    was sent."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": made.name, "digest": {"sha256": made.sha256}} for made in artifacts],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"urn:modeconn:{job.kind}:1",
                "externalParameters": {"request": job.request},
                "internalParameters": {"seed": job.seed, "attempt": job.attempt},
                "resolvedDependencies": [
                    {
                        "name": role,
                        "digest": {"sha256": file.sha256},
                        "annotations": {"file_name": file.name, "canonical_sha256": file.canonical_sha256},
                    }
                    for role, file in inputs.items()
                ],
            },
            "runDetails": {
                "builder": {"id": builder_id},
                "metadata": {
                    "invocationId": f"urn:uuid:{job.id}",
                    "startedOn": _time(job.started_at),
                    "finishedOn": _time(job.finished_at),
                },
            },
        },
    }


def _time(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
