"""A program that tries to get out of the sandbox: `python -I escapes.py USER FOLDER`, one JSON object on stdout.

Each attempt runs in a process of its own, once free and once under each policy of `intake/sandbox.py`. An attempt
that is refused raises OSError; one that returns, or becomes another program, has succeeded.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from intake import sandbox
from intake.limits import Limits
from intake.syscalls import numbers

POLICIES = ("free", "reader", "job", "job beside a GPU")
ANYBODY, ROOT, KERNEL = "anybody", "root", "kernel"
CALLS = numbers({"x86_64": 0, "aarch64": 1}[platform.machine()])
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
LIMITS = Limits()
PATIENCE = 20.0
MAP_NORESERVE = 0x4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Escape:
    """One attempt; `works_for` says who can do it when nothing holds him: anybody, root, or the kernel decides."""

    name: str
    attempt: Callable[[Yard], object]
    works_for: str = ANYBODY
    allowed: tuple[str, ...] = ()
    """Policies under which it is no escape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Yard:
    """What lies around the sandbox: a neighbour's process and files, servers, and what was open before."""

    victim: int
    folder: Path
    port: int
    abstract: str
    inherited: dict[str, int]

    @property
    def theirs(self) -> Path:
        return self.folder / "theirs"


def call(name: str, *arguments: object) -> int:
    """A system call by its name. Raises OSError."""
    result = int(LIBC.syscall(CALLS[name], *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def raw_clone(_: Yard) -> None:
    if call("clone", signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def raw_clone3(_: Yard) -> None:
    if call("clone3", struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64) == 0:
        os._exit(0)


def forked(_: Yard) -> None:
    if os.fork() == 0:
        os._exit(0)


def a_thread(_: Yard) -> None:
    try:
        threading.Thread(target=time.time).start()
    except RuntimeError as error:
        raise OSError(str(error)) from error


def any_socket(_: Yard) -> None:
    errors = set()
    for family in range(1, 46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind)
            except OSError as error:
                errors.add(error.errno)
            else:
                return
    raise OSError(f"none of any family: {errors}")


def write(path: Path) -> None:
    path.write_bytes(b"x")


def leave(path: Path) -> None:
    write(path)
    path.unlink()


def message_queue(_: Yard) -> None:
    call("mq_open", b"escape", os.O_CREAT | os.O_RDWR, 0o600, None)
    call("mq_unlink", b"escape")


def own_limits(_: Yard) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, CORE_LIMIT)
    except ValueError as error:
        raise OSError(str(error)) from error


def memory_of(yard: Yard) -> None:
    local = ctypes.create_string_buffer(8)
    mine = struct.pack("PN", ctypes.addressof(local), 8)
    call("process_vm_readv", yard.victim, mine, 1, struct.pack("PN", ctypes.addressof(VICTIMS_SECRET), 8), 1, 0)


def mounted(yard: Yard) -> None:
    target = str(yard.folder / "mine").encode()
    call("mount", b"none", target, b"tmpfs", 0, None)
    call("umount2", target, 2)


def much_memory(_: Yard) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    mmap.mmap(-1, 2 * LIMITS.memory_bytes, flags=flags).close()


def other_machine_mode(_: Yard) -> None:
    if LIBC.syscall(ctypes.c_long(0x4000_0000 + CALLS["getpid"])) < 0:
        raise OSError(ctypes.get_errno(), "no such mode")


VICTIMS_SECRET = ctypes.create_string_buffer(b"secret!")

ESCAPES = (
    # processes
    Escape(name="fork", attempt=forked),
    Escape(name="vfork", attempt=lambda _: subprocess.run(["/bin/true"], close_fds=False)),
    Escape(name="posix_spawn", attempt=lambda _: os.posix_spawn("/bin/true", ["true"], {})),
    Escape(name="clone", attempt=raw_clone),
    Escape(name="clone3", attempt=raw_clone3),
    Escape(name="a thread", attempt=a_thread, allowed=("job", "job beside a GPU")),
    Escape(name="execve", attempt=lambda _: os.execv("/bin/true", ["true"])),
    Escape(
        name="execveat of an anonymous file",
        attempt=lambda yard: call("execveat", yard.inherited["program"], b"", None, None, 0x1000),
    ),
    # sockets and shared memory
    Escape(name="a socket of any family", attempt=any_socket),
    Escape(name="a pair of sockets", attempt=lambda _: socket.socketpair()),
    Escape(name="connect to a port", attempt=lambda yard: socket.create_connection(("127.0.0.1", yard.port), 5)),
    Escape(
        name="connect a socket that was open",
        attempt=lambda yard: socket.socket(fileno=yard.inherited["tcp"]).connect(("127.0.0.1", yard.port)),
    ),
    Escape(
        name="listen on a socket that was open",
        attempt=lambda yard: socket.socket(fileno=yard.inherited["tcp"]).bind(("127.0.0.1", 0)),
    ),
    Escape(
        name="an abstract socket",
        attempt=lambda yard: socket.socket(fileno=yard.inherited["unix"]).connect("\0" + yard.abstract),
    ),
    Escape(
        name="send a datagram",
        attempt=lambda yard: socket.socket(fileno=yard.inherited["udp"]).sendto(b"x", ("127.0.0.1", yard.port)),
    ),
    Escape(name="System V shared memory", attempt=lambda _: call("shmget", 0, 4096, 0o1600)),
    Escape(name="POSIX shared memory", attempt=lambda _: leave(Path(f"/dev/shm/escape-{os.getpid()}"))),
    Escape(name="a message queue", attempt=message_queue),
    # reading
    Escape(name="environment of process 1", attempt=lambda _: Path("/proc/1/environ").read_bytes(), works_for=KERNEL),
    Escape(name="environment of a neighbour", attempt=lambda yard: Path(f"/proc/{yard.victim}/environ").read_bytes()),
    Escape(name="memory of a neighbour", attempt=lambda yard: os.open(f"/proc/{yard.victim}/mem", os.O_RDONLY)),
    Escape(name="/etc/passwd", attempt=lambda _: Path("/etc/passwd").read_bytes()),
    Escape(name="/etc/shadow", attempt=lambda _: Path("/etc/shadow").read_bytes(), works_for=ROOT),
    Escape(name="another tenant's file", attempt=lambda yard: (yard.theirs / "secret").read_bytes()),
    Escape(name="another tenant's folder", attempt=lambda yard: os.listdir(yard.theirs)),
    Escape(
        name="watch another tenant's folder",
        attempt=lambda yard: call("inotify_add_watch", watcher(), bytes(yard.theirs), 2),
    ),
    # writing
    Escape(name="a file in /tmp", attempt=lambda _: leave(Path(f"/tmp/escape-{os.getpid()}"))),
    Escape(name="a file in the home", attempt=lambda yard: write(yard.folder / "home" / "new")),
    Escape(name="into another's file", attempt=lambda yard: write(yard.theirs / "secret")),
    Escape(name="cut another's file", attempt=lambda yard: os.truncate(yard.theirs / "secret", 3)),
    Escape(name="unlink", attempt=lambda yard: (yard.theirs / "to unlink").unlink()),
    Escape(name="rename", attempt=lambda yard: (yard.theirs / "to rename").rename(yard.theirs / "renamed")),
    Escape(name="symlink", attempt=lambda yard: (yard.theirs / "symlink").symlink_to("/etc/shadow")),
    Escape(name="a second name", attempt=lambda yard: (yard.theirs / "link").hardlink_to(yard.theirs / "secret")),
    Escape(name="mkdir", attempt=lambda yard: (yard.theirs / "folder").mkdir()),
    Escape(name="rmdir", attempt=lambda yard: (yard.theirs / "to rmdir").rmdir()),
    Escape(name="mknod", attempt=lambda yard: os.mknod(yard.theirs / "node", 0o600)),
    Escape(name="chmod", attempt=lambda yard: os.chmod(yard.theirs / "secret", 0o666)),
    Escape(name="fchmod of what may be read", attempt=lambda yard: os.fchmod(yard.inherited["readable"], 0o666)),
    Escape(name="chown", attempt=lambda yard: os.chown(yard.theirs / "secret", os.getuid(), os.getgid())),
    Escape(name="utime", attempt=lambda yard: os.utime(yard.theirs / "secret")),
    Escape(name="setxattr", attempt=lambda yard: os.setxattr(yard.theirs / "secret", "user.a", b""), works_for=KERNEL),
    # other processes
    Escape(name="ptrace", attempt=lambda yard: call("ptrace", 16, yard.victim, 0, 0), works_for=KERNEL),
    Escape(name="process_vm_readv", attempt=memory_of, works_for=KERNEL),
    Escape(name="kill", attempt=lambda yard: os.kill(yard.victim, signal.SIGCONT)),
    Escape(name="kill of all", attempt=lambda _: os.kill(-1, 0)),
    Escape(name="tgkill", attempt=lambda yard: call("tgkill", yard.victim, yard.victim, signal.SIGCONT)),
    Escape(name="tkill", attempt=lambda yard: call("tkill", yard.victim, signal.SIGCONT)),
    Escape(name="sigqueue", attempt=lambda yard: call("rt_sigqueueinfo", yard.victim, signal.SIGCONT, queued())),
    Escape(name="pidfd_open", attempt=lambda yard: os.pidfd_open(yard.victim)),
    Escape(
        name="pidfd_send_signal",
        attempt=lambda yard: signal.pidfd_send_signal(yard.inherited["pidfd"], signal.SIGCONT),
    ),
    Escape(name="a file's owner gets signals", attempt=lambda yard: own(yard.inherited["udp"], yard.victim)),
    Escape(
        name="limits of a neighbour", attempt=lambda yard: resource.prlimit(yard.victim, resource.RLIMIT_CORE, (0, 0))
    ),
    Escape(name="cores of a neighbour", attempt=lambda yard: os.sched_setaffinity(yard.victim, {0})),
    Escape(name="priority of a neighbour", attempt=lambda yard: os.setpriority(os.PRIO_PROCESS, yard.victim, 19)),
    # limits and identity
    Escape(name="its own limits", attempt=own_limits),
    Escape(name="memory beyond the limit", attempt=much_memory),
    Escape(name="setuid", attempt=lambda _: os.setuid(0), works_for=ROOT),
    Escape(name="setgid", attempt=lambda _: os.setgid(0), works_for=ROOT),
    Escape(name="personality", attempt=lambda _: call("personality", 0x4_0000)),
    # the kernel
    Escape(name="a user namespace", attempt=lambda _: call("unshare", 0x1000_0000), works_for=KERNEL),
    Escape(name="setns", attempt=lambda yard: call("setns", yard.inherited["network"], 0x4000_0000), works_for=ROOT),
    Escape(name="mount", attempt=mounted, works_for=ROOT),
    Escape(name="chroot", attempt=lambda yard: os.chroot(yard.folder), works_for=ROOT),
    Escape(name="io_uring", attempt=lambda _: call("io_uring_setup", 1, bytes(120)), works_for=KERNEL),
    Escape(
        name="bpf", attempt=lambda _: call("bpf", 0, struct.pack("4I", 2, 4, 4, 1) + bytes(56), 72), works_for=KERNEL
    ),
    Escape(name="perf_event_open", attempt=lambda _: call("perf_event_open", perf(), 0, -1, -1, 0), works_for=KERNEL),
    Escape(name="userfaultfd", attempt=lambda _: call("userfaultfd", 1), works_for=KERNEL),
    Escape(name="add_key", attempt=lambda _: call("add_key", b"user", b"a", b"b", 1, -2), works_for=KERNEL),
    Escape(name="keyctl", attempt=lambda _: call("keyctl", 0, -2, 1), works_for=KERNEL),
    Escape(
        name="typing into a terminal",
        attempt=lambda yard: fcntl.ioctl(yard.inherited["terminal"], termios.TIOCSTI, b"x"),
        works_for=KERNEL,
    ),
    Escape(name="calls of another machine mode", attempt=other_machine_mode, works_for=KERNEL),
)
CORE_LIMIT = resource.getrlimit(resource.RLIMIT_CORE)


def watcher() -> int:
    return call("inotify_init1", 0)


def queued() -> bytes:
    return struct.pack("3i", signal.SIGCONT, 0, -1) + bytes(116)


def own(file: int, owner: int) -> None:
    fcntl.fcntl(file, fcntl.F_SETOWN, owner)


def perf() -> bytes:
    """A counter of nothing (PERF_COUNT_SW_DUMMY), of user space only."""
    return struct.pack("IIQ", 1, 112, 9).ljust(40, b"\0") + struct.pack("Q", 0b110_0000) + bytes(64)


def enter(policy: str, folder: Path) -> None:
    """Shut this process in exactly as the intake's reader and the worker's child do."""
    if policy == "reader":
        sandbox.enter_reader(LIMITS, os.getppid())
    elif policy != "free":
        sandbox.enter_job(
            read=[],
            write=[folder / "mine"],
            devices=[],
            memory_bytes=LIMITS.memory_bytes,
            namespaces=policy == "job",
        )


def outcome(escape: Escape, policy: str, user: int, yard: Yard) -> str:
    """`succeeded`, or how it was refused."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(user)
            enter(policy, yard.folder)
            escape.attempt(yard)
            words = "succeeded"
        except OSError as error:
            words = f"refused: {error}"
        except BaseException as error:
            words = f"broken: {error!r}"
        os.write(said, words.encode())
        os._exit(0)
    os.close(said)
    words = os.read(heard, 4096).decode() if select.select([heard], [], [], PATIENCE)[0] else "hung"
    os.close(heard)
    if words == "hung":
        os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended < 0:
        return f"killed by {signal.Signals(-ended).name}"
    return words or ("succeeded" if ended == 0 else f"broken: exit code {ended}")


def become(user: int) -> None:
    if os.getuid() != user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    LIBC.prctl(4, 1, 0, 0, 0)  # changing the user made it private: neighbours of one user are not


def lay_out(folder: Path, user: int) -> None:
    """Files of the same user, but of another tenant; fresh for each attempt."""
    for name in ("home", "mine", "theirs", "theirs/to rmdir"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("secret", "to unlink", "to rename"):
        (folder / "theirs" / name).write_bytes(b"secret")
    for name in ("renamed", "symlink", "link", "node"):
        (folder / "theirs" / name).unlink(missing_ok=True)
    if (folder / "theirs" / "folder").exists():
        (folder / "theirs" / "folder").rmdir()
    (folder / "home" / "new").unlink(missing_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user if os.getuid() == 0 else -1)


def what_is_open(opened: ExitStack, folder: Path, victim: int) -> dict[str, int]:
    """Descriptors that the process got before it was shut in; closed with `opened`."""
    master, terminal = os.openpty()
    descriptors = {
        "readable": os.open(folder / "theirs" / "secret", os.O_RDONLY),
        "pidfd": os.pidfd_open(victim),
        "network": os.open("/proc/self/ns/net", os.O_RDONLY),
        "terminal": terminal,
        "tcp": socket.socket(socket.AF_INET).detach(),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        "unix": socket.socket(socket.AF_UNIX).detach(),
    }
    for descriptor in (master, *descriptors.values()):
        opened.callback(os.close, descriptor)
    return descriptors


def main(user: int, folder: Path) -> None:
    sandbox.code_folders(), "".encode("idna")  # import now what a plain user may not be able to read
    victim = os.fork()
    if victim == 0:
        become(user)
        time.sleep(600)
        os._exit(0)
    abstract = f"escape-{os.getpid()}"
    program = os.memfd_create("program")
    os.write(program, Path("/bin/true").read_bytes())
    canary, canary_unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    canary_unix.bind("\0" + abstract)
    canary_unix.listen()
    try:
        results: dict[str, dict[str, str]] = {}
        for policy in POLICIES:
            results[policy] = {}
            for escape in ESCAPES:
                lay_out(folder, user)
                with ExitStack() as opened:
                    inherited = {"program": program} | what_is_open(opened, folder, victim)
                    yard = Yard(
                        victim=victim,
                        folder=folder,
                        port=canary.getsockname()[1],
                        abstract=abstract,
                        inherited=inherited,
                    )
                    results[policy][escape.name] = outcome(escape, policy, user, yard)
    finally:
        os.kill(victim, signal.SIGKILL)
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
