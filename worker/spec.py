"""What the parent tells the child: everything a job or a selection needs, without any database or broker."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

REPAIRED_FILE: Final = "repaired.safetensors"
PATH_FILE: Final = "path.safetensors"
ROBUST_PATH_FILE: Final = "robust-path.safetensors"
CHECKPOINT_FILE: Final = "checkpoint"
JobKind = Literal["repair", "analysis", "diagnosis"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRef:
    """One stored file: what the user called it, what it was (upload) and what is read (canonical)."""

    name: str
    bytes: int
    sha256: str
    canonical_path: str | None  # storage name; None once its owner deleted it
    canonical_sha256: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """A job's attempt, as its child sees it. In an analysis `suspect` is the regular model, `second_model` the robust
    one."""

    kind: JobKind
    job_id: str
    attempt: int
    request: dict[str, Any]
    seed: int
    suspect: InputRef
    clean: InputRef
    triggered: InputRef | None
    second_model: InputRef | None
    storage_root: Path
    device: Literal["auto", "cpu", "cuda"]
    threads: int
    memory_bytes: int
    checkpoint_seconds: float

    @property
    def folder(self) -> str:
        """Storage folder of this attempt's files."""
        return self.folder_of(self.attempt)

    def folder_of(self, attempt: int) -> str:
        """Storage folder of an attempt's files."""
        return f"jobs/{self.job_id}/{attempt}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionSpec:
    """Another t of a finished job: the job's inputs, its stored path, and where the new weights go."""

    selection_id: str
    attempt: int
    t: float
    repair: JobSpec  # of the attempt that succeeded
    path_file: str  # storage name of path.safetensors
    path_sha256: str

    @property
    def folder(self) -> str:
        """Storage folder of this attempt's files."""
        return f"jobs/{self.repair.job_id}/selection-{self.selection_id}-{self.attempt}"
