"""What a job should be after each transition, as plain Python: the model that the state machine compares with."""

from dataclasses import dataclass, field

MAX_ATTEMPTS = 3
HELD = ("running", "cancelling")
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(slots=True)
class JobModel:
    """One job. Its methods are the transitions of `store.jobs`; each tells what the store should have answered."""

    state: str = "queued"
    attempt: int = 0
    releases: int = 0
    lease_over: bool = False
    late: bool = False
    sent: bool = False
    points: dict[float, tuple[int, float]] = field(default_factory=dict)  # t -> attempt, accuracy

    @property
    def lost(self) -> bool:
        return self.state in HELD and self.lease_over

    @property
    def spent(self) -> bool:
        return self.attempt - self.releases >= MAX_ATTEMPTS

    @property
    def claimable(self) -> bool:
        return self.state == "queued" or (self.state == "running" and self.lost)

    def held_by(self, attempt: int) -> bool:
        return self.state in HELD and self.attempt == attempt

    def claim(self) -> bool:
        """Whether a worker gets it; one that is beyond help ends here."""
        if self.claimable and not self.late and not self.spent:
            self.state, self.attempt, self.lease_over = "running", self.attempt + 1, False
            return True
        self.settle(queued_and_spent=True)
        return False

    def settle(self, *, queued_and_spent: bool = False) -> bool:
        """Whether the sweep ended it."""
        if self.state == "cancelling" and self.lost:
            self.state = "cancelled"
            return True
        queued = self.state == "queued" and (self.late or (queued_and_spent and self.spent))
        if queued or (self.lost and (self.late or self.spent)):
            self.state = "failed"
            return True
        return False

    def cancel(self) -> None:
        if self.state in ("queued", "running"):
            self.state = "cancelled" if self.state == "queued" else "cancelling"

    def written(self, what: str, t: float = 0.0, accuracy: float = 0.0) -> None:
        """Its holder wrote. One that is to be cancelled ends as cancelled, whatever its holder says."""
        cancelling = self.state == "cancelling"
        match what:
            case "renew":
                self.lease_over = False
            case "record_points":
                self.points[t] = (self.attempt, accuracy)
            case "finish":
                self.state = "cancelled" if cancelling else "succeeded"
            case "fail":
                self.state = "cancelled" if cancelling else "failed"
            case "mark_cancelled":
                self.state = "cancelled"
            case "lose_attempt" if self.spent or cancelling:
                self.state = "cancelled" if cancelling else "failed"
            case "release" if cancelling:
                self.state = "cancelled"
            case "lose_attempt" | "release":
                self.state, self.sent = "queued", False
                self.releases += what == "release"

    def due(self) -> bool:
        """Whether the sweep should send it, when nothing that was sent is old."""
        return self.lost or (self.state == "queued" and not self.sent)
