"""Bodies of the health routes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class SandboxState(BaseModel):
    """What shuts the readers of uploads in, and what this machine's kernel lacks of it; in words."""

    model_config = ConfigDict(from_attributes=True)

    in_force: list[str]
    missing: list[str]


class Ready(BaseModel):
    """Every part answers. A sandbox that lacks something does not make the service unready."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok"]]
    sandbox: SandboxState
