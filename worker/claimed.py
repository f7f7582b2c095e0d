"""What a worker can do with the thing it has claimed, be it a job or a selection."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

from store.jobs import NewArtifact
from worker.child import Child, Message


class Order(StrEnum):
    """What the database says to the holder of a lease."""

    GO_ON = "go on"
    CANCEL = "cancel"
    DEADLINE = "deadline"


def made_in(folder: str, artifacts: Sequence[dict[str, Any]]) -> list[NewArtifact]:
    """What a child says that it made. Raises ValueError for a file that is not of its own folder: a child in bad hands
    must not name another's file as its own, for the API would serve it."""
    for artifact in artifacts:
        if artifact["path"] != f"{folder}/{artifact['name']}" or "/" in artifact["name"]:
            raise ValueError(f"the child names {artifact['path']!r} as its own")
    return [NewArtifact(**artifact) for artifact in artifacts]


class Claimed(ABC):
    """One attempt at a job or a selection.

    Every method that writes is one transaction under the fence, and raises StaleFence when another attempt holds the
    thing by now. The methods with an empty body are for jobs alone: a selection has no history and no cancel.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """What the log calls it."""

    @abstractmethod
    def start(self) -> Child:
        """Start the child that does the work. Raises OSError when the machine has no room for a process."""

    @abstractmethod
    def renew(self) -> Order:
        """Prolong the lease, and hear what is wanted."""

    @abstractmethod
    def finish(self, message: Message) -> None:
        """Register the files and the result (`message` of kind `done`) and end it as succeeded.

        Raises ValueError where the child names files that are not its own.
        """

    @abstractmethod
    def fail(self, problem: dict[str, Any]) -> None:
        """End it as failed."""

    @abstractmethod
    def out_of_time(self) -> None:
        """End it as failed at its deadline, as `renew` said."""

    @abstractmethod
    def lost(self, reason: str, last_lines: list[str]) -> None:
        """The attempt came to nothing and counts: leave it to the next one, or fail after the last.

        `last_lines`: the end of what its child printed.
        """

    @abstractmethod
    def release(self) -> None:
        """The worker leaves: another one may start at once."""

    @abstractmethod
    def drop_files(self) -> None:
        """Remove what this attempt wrote; nobody else writes there."""

    def record_progress(self, progress: dict[str, Any], *, event: Literal["stage", "progress"]) -> None:  # noqa: B027
        """Store progress."""

    def record_points(self, points: list[dict[str, Any]]) -> None:  # noqa: B027
        """Store curve points (the columns of `curve_points`)."""

    def record_warning(self, warning: dict[str, Any]) -> None:  # noqa: B027
        """Tell the stream of something the user should know."""

    def cancelled(self) -> None:  # noqa: B027
        """End it as cancelled, as `renew` said."""
