"""Places where a test can make a process die, stop or fail: named steps, switched on by an environment variable.

MODECONN_FAILPOINTS="child.fitting_path:kill:2,worker.finish:raise" kills the process when it comes to the first step
for the second time, and raises OSError at the other one. Unset, a step costs one look at a variable. With
MODECONN_FAILPOINTS_ONCE=FOLDER a failpoint fires once among all processes that share the folder.
"""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ACTIONS = ("kill", "exit", "stop", "hang", "raise")
_seen: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Failpoint:
    """``action`` at the ``visit``-th time that a process comes to a step."""

    action: str
    visit: int


@lru_cache(maxsize=4)
def parse(text: str) -> dict[str, Failpoint]:
    """Step -> failpoint. Raises ValueError for what is not `step:action[:visit]`, separated by commas."""
    points = {}
    for entry in filter(None, text.split(",")):
        step, action, *rest = entry.split(":")
        if action not in ACTIONS or len(rest) > 1:
            raise ValueError(f"not a failpoint: {entry!r}; write step:action[:visit] with one of {', '.join(ACTIONS)}")
        points[step] = Failpoint(action, int(rest[0]) if rest else 1)
    return points


def failpoint(step: str) -> None:
    """Does what the environment says is to happen at ``step``; nothing, as a rule."""
    text = os.environ.get("MODECONN_FAILPOINTS")
    if not text or (point := parse(text).get(step)) is None:
        return
    _seen[step] += 1
    if _seen[step] == point.visit and _first_of_all(step):
        _act(step, point.action)


def folder() -> Path | None:
    """Where processes agree on who is the first; they write there."""
    named = os.environ.get("MODECONN_FAILPOINTS_ONCE")
    return Path(named) if named else None


def _first_of_all(step: str) -> bool:
    shared = folder()
    if shared is None:
        return True
    try:
        (shared / step).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(step: str, action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(86_400)
        case "raise":
            raise OSError(f"failpoint {step}")
