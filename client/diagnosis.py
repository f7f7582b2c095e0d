"""One diagnosis of a model on clean images: ask, follow, cancel. It makes no files."""

from typing import ClassVar

from client.handle import Handle
from client.models import DiagnosisJob


class Diagnosis(Handle[DiagnosisJob]):
    """One diagnosis: `job` is what the service said last."""

    route: ClassVar[str] = "/diagnosis"
    kind = DiagnosisJob
