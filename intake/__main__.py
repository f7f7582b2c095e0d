"""The child process: `python -m intake TASK SOURCE_FD TARGET_FD PARENT_PID LIMITS`, one JSON line on stdout.

`python -m intake probe PARENT_PID LIMITS` tells what shuts readers in on this machine, and reads nothing.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import os
import pkgutil
import sys
from typing import Any

import intake
from intake import sandbox
from intake.launcher import PROBE, TASKS
from intake.limits import Limits
from intake.problems import IntakeRefused, refusal, shown


def main(arguments: list[str]) -> int:
    """Convert the open source into the open target; whatever happens, the answer is one line."""
    task, *files, parent, limits_json = arguments
    limits = Limits.from_json(limits_json)
    if task == PROBE:
        _compile_all()
    answers, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    room = sandbox.enter_reader(limits, int(parent))
    _silence(nowhere)
    try:
        answer = dataclasses.asdict(room)
        if task != PROBE:
            answer["facts"] = _convert(task, int(files[0]), int(files[1]), limits)
    except IntakeRefused as refused:
        answer = _refused(refused)
    except MemoryError:
        answer = _refused(refusal("intake-out-of-memory", _TOO_MUCH.format(f"{limits.memory_bytes:,} bytes of memory")))
    except OSError as error:
        # The files are open and the input is bytes: what is left are a full disk and a broken one.
        name = errno.errorcode.get(error.errno or 0, "OSError")
        answer = {"failed": f"{name}: {error.strerror or error}", "errno": error.errno}
    except Exception as error:
        detail = f"Reading the file failed in a way that is not foreseen ({type(error).__name__}: {shown(error)})."
        answer = _refused(refusal("intake-crashed", detail + " Save it again, or in another of the accepted formats."))
    with os.fdopen(answers, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(answer) + "\n")
    return 0


_TOO_MUCH = "Reading the file takes more than {}. Upload a smaller file, or one in another of the accepted formats."


def _silence(nowhere: int) -> None:
    """From here on, what libraries print goes nowhere; until here, the parent hears what goes wrong."""
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _compile_all() -> None:
    """Import once all that readers import, so that it lies compiled: who is shut in cannot write compiled code.

    In a process of its own, because some libraries start threads, and a namespace is left with one thread only.
    """
    child = os.fork()
    if child == 0:
        for module in pkgutil.iter_modules(intake.__path__, "intake."):
            importlib.import_module(module.name)
        os._exit(0)
    os.waitpid(child, 0)


def _convert(task: str, source_fd: int, target_fd: int, limits: Limits) -> Any:
    assert task in TASKS, task
    size = os.fstat(source_fd).st_size
    with open(source_fd, "rb") as source, open(target_fd, "wb") as target:
        if task == "model":
            from intake.models import convert as convert_model

            return convert_model(source, size, target, limits)
        from intake.datasets import convert as convert_dataset

        return convert_dataset(source, size, target, limits, "triggered" if task == "triggered" else "clean")


def _refused(refused: IntakeRefused) -> dict[str, Any]:
    return {"refused": {"problem_type": refused.problem_type, "detail": refused.detail, "extra": refused.extra}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
