"""Takes rights away from a process for good: from the reader of untrusted bytes, and from the child that runs a job.

What is here needs nothing but Linux: resource limits, no new privileges, no capabilities, namespaces, Landlock, a
filter of system calls. What the kernel does not have is passed over and named, never missing in silence.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import site
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from intake import landlock, seccomp
from intake.limits import MIB, Limits

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWIPC: Final = 0x0800_0000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITIES_VERSION: Final = 0x2008_0522
_FILE_SLACK = 64 * MIB  # headers and directories around the data
_SYSTEM_LIBRARIES: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """What holds a process in, and what the kernel does not have of it; in words."""

    in_force: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def note(self, what: str, works: bool) -> None:
        (self.in_force if works else self.missing).append(what)


def enter_reader(limits: Limits, parent: int) -> Sandbox:
    """Shut in the reader of an upload: its open files, the code that it imports, and nothing else.

    Call it with one thread and with the files already open. `parent` is the process to die with.
    """
    sandbox = Sandbox()
    _give_up_privileges(sandbox)
    _leave_namespaces(sandbox)
    _limit_reader(limits)
    sandbox.note("resource limits", True)
    _give_up_capabilities(sandbox)
    _die_with(parent, sandbox)
    _restrict_files(sandbox, read=code_folders())
    _filter_calls(sandbox, seccomp.reader())
    return sandbox


def enter_job(
    *, read: Iterable[Path], write: Iterable[Path], devices: Iterable[Path], memory_bytes: int, namespaces: bool
) -> Sandbox:
    """Shut in the process that runs a job; the threads that it will start are in it too. Call it with one thread.

    It reads what `read` and `write` hold besides the code, writes what `write` holds, and drives `devices`.
    `memory_bytes` bounds its own writable memory (not its address space, of which a GPU's driver takes terabytes).
    `namespaces=False` leaves it where the GPU's driver expects it; sockets are refused all the same.
    """
    sandbox = Sandbox()
    _give_up_privileges(sandbox)
    if namespaces:
        _leave_namespaces(sandbox)
    _limit(resource.RLIMIT_DATA, memory_bytes, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0, 0)
    sandbox.note("resource limits", True)
    _give_up_capabilities(sandbox)
    _restrict_files(sandbox, read=[*code_folders(), *read], write=write, devices=devices)
    _filter_calls(sandbox, seccomp.job())
    return sandbox


def code_folders() -> list[Path]:
    """Where this interpreter, its packages and the system's libraries lie, and this package (which a checkout has
    elsewhere)."""
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), sysconfig.get_config_var("LIBDIR") or "/usr/lib"]
    found += [entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry.startswith("/")]
    return [*map(Path, found), *map(Path, _SYSTEM_LIBRARIES), Path(__file__).resolve().parent]


def _give_up_privileges(sandbox: Sandbox) -> None:
    sandbox.note("no new privileges", _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def _leave_namespaces(sandbox: Sandbox) -> None:
    """A user namespace makes the others free to have, and takes root's powers over all else away."""
    libc = _libc()
    own_users = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0
    sandbox.note("own namespaces of users, network and shared memory", own_users)
    if not own_users:
        libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC)


def _give_up_capabilities(sandbox: Sandbox) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    sandbox.note("no capabilities", _libc().capset(header, none) == 0)
    _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _die_with(parent: int, sandbox: Sandbox) -> None:
    sandbox.note("death with the parent", _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above


def _restrict_files(
    sandbox: Sandbox, *, read: Iterable[Path], write: Iterable[Path] = (), devices: Iterable[Path] = ()
) -> None:
    write = list(write)
    known = landlock.version()
    enough = known >= (landlock.MOVES if write else 1)
    if enough:
        landlock.restrict(read=read, write=write, devices=devices)
        sandbox.note(f"Landlock, version {known}", True)
    if known < landlock.NEWEST:
        wanted = f"Landlock, version {landlock.NEWEST}"
        sandbox.note(f"{wanted} (this kernel has version {known})" if known else wanted, False)


def _filter_calls(sandbox: Sandbox, policy: seccomp.Policy) -> None:
    try:
        seccomp.install(policy)
    except OSError:
        sandbox.note("filter of system calls", False)
    else:
        sandbox.note("filter of system calls", True)


def _limit_reader(limits: Limits) -> None:
    file_bytes = max(limits.max_model_bytes, limits.max_decoded_bytes) + _FILE_SLACK
    _limit(resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes)
    # One second between the signal that tells why (SIGXCPU) and the one that ends it.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
    for what, most in (
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, limits.max_open_files),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most, most)


def _limit(what: int, soft: int, hard: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    _, granted = resource.getrlimit(what)
    if granted != resource.RLIM_INFINITY:
        soft, hard = min(soft, granted), min(hard, granted)
    resource.setrlimit(what, (soft, hard))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
