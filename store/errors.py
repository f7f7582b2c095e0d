"""What can go wrong in the store, as types that the API and the worker turn into answers."""

from uuid import UUID


class StoreError(Exception):
    """Root of every error that the store raises on purpose."""


class StaleFence(StoreError):
    """The writer's attempt is not the one that holds the job (or selection) any more: stop, write nothing."""

    def __init__(self, entity: UUID, attempt: int) -> None:
        super().__init__(f"attempt {attempt} does not hold {entity} any more")
        self.entity = entity
        self.attempt = attempt


class QueueFull(StoreError):
    """The tenant has as many queued jobs as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} jobs are queued already, which is the limit of this tenant")
        self.limit = limit


class StorageQuotaExceeded(StoreError):
    """The tenant may not store so many bytes. Both figures in bytes."""

    def __init__(self, *, limit: int, stored: int) -> None:
        super().__init__(f"{stored} of {limit} bytes are stored, and there is no room for more")
        self.limit = limit
        self.stored = stored


class ComputeUsedUp(StoreError):
    """The tenant's jobs have computed for as long as they may in 24 hours; `limit` in seconds."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the jobs of this tenant have computed for {limit} seconds in 24 hours, which is its limit")
        self.limit = limit


class NoSuchFile(StoreError):
    """A file that a job names is unknown to the tenant, of another kind, deleted or expired."""

    def __init__(self, role: str, file_id: UUID) -> None:
        super().__init__(f"{role} file {file_id} does not exist (any more)")
        self.role = role
        self.file_id = file_id


class FileInUse(StoreError):
    """The file is read by a job that has not ended."""

    def __init__(self, file_id: UUID, job_id: UUID, kind: str) -> None:
        super().__init__(f"file {file_id} is used by {kind} {job_id}, which has not ended")
        self.file_id = file_id
        self.job_id = job_id
        self.kind = kind


class NotRetryable(StoreError):
    """Only jobs that ended as failed or cancelled can be retried."""

    def __init__(self, state: str) -> None:
        super().__init__(f"a job in state {state} cannot be retried; only failed and cancelled ones can")
        self.state = state


class NotSelectable(StoreError):
    """Another t can be chosen only on a job that succeeded."""

    def __init__(self, state: str) -> None:
        super().__init__(f"a job in state {state} has no path to choose from; only succeeded ones have")
        self.state = state


class BadCursor(StoreError):
    """The cursor was not made by this service."""


class IdempotencyConflict(StoreError):
    """The first request with this key is still being answered (409)."""


class IdempotencyMismatch(StoreError):
    """The key was used before for another request (422)."""


class TooManyUploads(StoreError):
    """The tenant has as many resumable uploads open as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} uploads are open already, which is the limit of a tenant")
        self.limit = limit


class PartialBusy(StoreError):
    """Somebody else is writing to this resumable upload."""


class StorageMissing(StoreError):
    """No file under this name."""


class StorageCorrupt(StoreError):
    """The bytes under this name are not the ones that were stored."""


class BackupRefused(StoreError):
    """A backup that cannot be made or restored as asked; the message says why and, where there is one, the way out."""
