"""Takes rights away from the process that reads untrusted bytes, before it reads the first one.

What is here needs nothing but Linux: resource limits, no new privileges, no network, no core dumps, death with the
parent. Where the kernel refuses one of them, `enter` says so instead of going on in silence.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

from intake.limits import MIB, Limits

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWIPC: Final = 0x0800_0000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_FILE_SLACK = 64 * MIB  # headers and directories around the data


def enter(limits: Limits, parent: int) -> list[str]:
    """Enter the sandbox for good; returns what could not be taken away on this machine, in words.

    Call it with one thread and with the files already open. `parent` is the process to die with.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    missing = []
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        missing.append("death with the parent")
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        missing.append("no new privileges")
    # A user namespace makes the other namespaces free to have, and takes root's powers away.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) != 0 and libc.unshare(_CLONE_NEWNET) != 0:
        missing.append("no network")
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _limit_resources(limits)
    return missing


def _limit_resources(limits: Limits) -> None:
    file_bytes = max(limits.max_model_bytes, limits.max_decoded_bytes) + _FILE_SLACK
    for what, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        # One second between the signal that tells why (SIGXCPU) and the one that ends it.
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_NOFILE, limits.max_open_files, limits.max_open_files),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, granted = resource.getrlimit(what)
        if granted != resource.RLIM_INFINITY:
            soft, hard = min(soft, granted), min(hard, granted)
        resource.setrlimit(what, (soft, hard))
