"""The filter of system calls: a BPF program put together here, and two policies for it.

Of the untrusted reader all but a short list is refused (EPERM). A job's child computes with libraries and drivers that
call what they like, so it is refused what a computation never needs. A foreign machine mode (32 bit, x32) kills.
Formats: Linux, Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{filter,seccomp}.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from intake.syscalls import NEWEST, numbers

# machine -> (column of the table of numbers, AUDIT_ARCH_*)
_MACHINES: Final = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}
_X32_BIT: Final = 0x4000_0000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

_ALLOW, _KILL = 0x7FFF_0000, 0x8000_0000
_REFUSE, _UNKNOWN = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_GREATER = 0x15, 0x35, 0x25
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16

_CLONE_THREAD: Final = 0x0001_0000
_F_SETSIG, _F_SETOWN_EX = 10, 15
_TIOCLINUX: Final = 0x541C
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, kw_only=True, slots=True)
class If:
    """The call is allowed if an argument's lower (or upper) 32 bits, under `mask`, are among `values` (or not)."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    among: bool = True
    upper: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Calls that are refused by their names (with `refused=False`: the only ones allowed), and calls whose arguments
    decide: all of their conditions must hold."""

    named: frozenset[str]
    refused: bool
    conditions: Mapping[str, tuple[If, ...]] = field(default_factory=dict)


def reader() -> Policy:
    """For the reader of untrusted bytes: open files, memory, imports; no thread, no process, nothing to write to."""
    itself = (0, os.getpid())
    read_only = {"openat": 2, "open": 1}
    return Policy(
        named=frozenset(_READING.split()),
        refused=False,
        conditions={
            **{name: (If(argument=at, mask=_WRITING, values=(0,)),) for name, at in read_only.items()},
            **{name: (If(argument=0, values=itself[1:]),) for name in ("kill", "tgkill")},
            "prlimit64": (
                If(argument=0, values=itself),
                If(argument=2, values=(0,)),
                If(argument=2, values=(0,), upper=True),
            ),
            "ioctl": (If(argument=1, values=(termios.TCGETS, termios.FIOCLEX, termios.FIONREAD)),),
            "fcntl": (If(argument=1, values=(fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)),),
        },
    )


def job() -> Policy:
    """For a job's child: threads and the driver's calls, but no process, socket, mark on a file, or foreign process."""
    itself = (0, os.getpid())
    return Policy(
        named=frozenset(_NOT_COMPUTING.split()),
        refused=True,
        conditions={
            "clone": (If(argument=0, mask=_CLONE_THREAD, values=(_CLONE_THREAD,)),),
            **{name: (If(argument=0, values=itself[1:]),) for name in ("kill", "tgkill")},
            **{name: (If(argument=0, values=itself),) for name in ("prlimit64", "sched_setaffinity")},
            "ioctl": (If(argument=1, values=(termios.TIOCSTI, _TIOCLINUX), among=False),),
            "fcntl": (If(argument=1, values=(fcntl.F_SETOWN, _F_SETSIG, _F_SETOWN_EX), among=False),),
        },
    )


def install(policy: Policy) -> None:
    """Filter the calls of this process and of all its threads, for good. Needs no new privileges.

    Raises OSError where the kernel has no filters or the machine is none of those known here.
    """
    if platform.machine() not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    column, machine = _MACHINES[platform.machine()]
    table = numbers(column)
    code = _program(policy, table, machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(table["seccomp"], ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_ALL_THREADS), program)
    if result != 0:
        raise OSError(ctypes.get_errno(), "the kernel did not take the filter of system calls")


def _program(policy: Policy, table: Mapping[str, int], machine: int) -> bytes:
    verdict, otherwise = (_REFUSE, _ALLOW) if policy.refused else (_ALLOW, _REFUSE)
    code = [_step(_LOAD, _MACHINE_AT), _step(_IF_EQUAL, machine, 1, 0), _step(_RETURN, _KILL)]
    code += [_step(_LOAD, _NUMBER_AT), _step(_IF_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL)]
    # Whoever calls what is younger than the list, or `clone3`, whose flags cannot be seen, knows what to call instead.
    code += [_step(_IF_GREATER, NEWEST, 1, 0), _step(_IF_EQUAL, table["clone3"], 0, 1), _step(_RETURN, _UNKNOWN)]
    for name, conditions in policy.conditions.items():
        if name in table:
            block = [step for condition in conditions for step in _check(condition)] + [_step(_RETURN, _ALLOW)]
            code += [_step(_IF_EQUAL, table[name], 0, len(block)), *block]
    for name in sorted(policy.named & table.keys()):
        code += [_step(_IF_EQUAL, table[name], 0, 1), _step(_RETURN, verdict)]
    return b"".join([*code, _step(_RETURN, otherwise)])


def _check(condition: If) -> list[bytes]:
    """Goes on behind itself where the condition holds, and refuses otherwise."""
    steps = [_step(_LOAD, _ARGUMENTS_AT + 8 * condition.argument + (4 if condition.upper else 0))]
    if condition.mask != 0xFFFF_FFFF:
        steps.append(_step(_AND, condition.mask))
    if not condition.among:
        for value in condition.values:
            steps += [_step(_IF_EQUAL, value, 0, 1), _step(_RETURN, _REFUSE)]
        return steps
    count = len(condition.values)
    steps += [_step(_IF_EQUAL, value, count - index, 0) for index, value in enumerate(condition.values)]
    return [*steps, _step(_RETURN, _REFUSE)]


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


_READING: Final = """
read write readv writev pread64 pwrite64 lseek close dup dup2 dup3 fstat ftruncate fallocate fsync fdatasync
fadvise64 poll ppoll select pselect6 stat lstat newfstatat statx access faccessat faccessat2 getdents64 getcwd
readlink readlinkat statfs fstatfs mmap mprotect munmap mremap madvise brk mincore futex set_robust_list rseq
membarrier sched_yield sched_getaffinity getcpu rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
exit exit_group clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage sysinfo uname
getrlimit getrandom getpid gettid getppid getuid geteuid getgid getegid
"""

_NOT_COMPUTING: Final = """
fork vfork execve execveat ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_open
pidfd_getfd pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo tkill setpgid setsid setpriority ioprio_set
sched_setscheduler sched_setparam sched_setattr migrate_pages move_pages personality
socket socketpair connect accept accept4 bind listen sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
shmget shmat shmctl semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key
fanotify_init fanotify_mark inotify_init inotify_init1 inotify_add_watch modify_ldt lookup_dcookie
unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
name_to_handle_at open_by_handle_at mknod mknodat quotactl quotactl_fd
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct syslog sethostname
setdomainname settimeofday clock_settime adjtimex clock_adjtime iopl ioperm vhangup
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
truncate chmod fchmod fchmodat chown fchown lchown fchownat utime utimes futimesat utimensat
setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
"""
