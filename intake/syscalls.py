"""Numbers of the system calls that the filters name, on x86-64 and on AArch64.

From Linux' own headers: asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

from typing import Final

NEWEST: Final = 448  # a call with a higher number is younger than this list (Linux 5.15), on both machines

_TABLE: Final = """
# bytes of open files
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; lseek 8 62; close 3 57;
dup 32 23; dup2 33 -; dup3 292 24; fcntl 72 25; ioctl 16 29; fstat 5 80; ftruncate 77 46; fallocate 285 47;
fsync 74 82; fdatasync 75 83; fadvise64 221 223; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72
# finding and opening files
stat 4 -; lstat 6 -; newfstatat 262 79; statx 332 291; access 21 -; faccessat 269 48; faccessat2 439 439;
open 2 -; openat 257 56; getdents64 217 61; getcwd 79 17; readlink 89 -; readlinkat 267 78; statfs 137 43;
fstatfs 138 44
# memory
mmap 9 222; mprotect 10 226; munmap 11 215; mremap 25 216; madvise 28 233; brk 12 214; mincore 27 232
# threads, signals, time
futex 202 98; set_robust_list 273 99; rseq 334 293; membarrier 324 283; sched_yield 24 124;
sched_getaffinity 204 123; getcpu 309 168; rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139;
sigaltstack 131 132; kill 62 129; tgkill 234 131; tkill 200 130; restart_syscall 219 128; exit 60 93;
exit_group 231 94; clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115; nanosleep 35 101;
gettimeofday 96 169; time 201 -; times 100 153
# about oneself
getrusage 98 165; sysinfo 99 179; uname 63 160; getrlimit 97 163; prlimit64 302 261; getrandom 318 278;
getpid 39 172; gettid 186 178; getppid 110 173; getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177
# processes
fork 57 -; vfork 58 -; clone 56 220; clone3 435 435; execve 59 221; execveat 322 281; ptrace 101 117;
process_vm_readv 310 270; process_vm_writev 311 271; process_madvise 440 440; process_mrelease 448 448;
kcmp 312 272; pidfd_open 434 434; pidfd_getfd 438 438; pidfd_send_signal 424 424; rt_sigqueueinfo 129 138;
rt_tgsigqueueinfo 297 240; setpgid 109 154; setsid 112 157; setpriority 141 140; ioprio_set 251 30;
sched_setaffinity 203 122; sched_setscheduler 144 119; sched_setparam 142 118; sched_setattr 314 274;
migrate_pages 256 238; move_pages 279 239; personality 135 92
# sockets and shared memory
socket 41 198; socketpair 53 199; connect 42 203; accept 43 202; accept4 288 242; bind 49 200; listen 50 201;
sendto 44 206; recvfrom 45 207; sendmsg 46 211; recvmsg 47 212; sendmmsg 307 269; recvmmsg 299 243;
shmget 29 194; shmat 30 196; shmctl 31 195; semget 64 190; semop 65 193; semctl 66 191; semtimedop 220 192;
msgget 68 186; msgsnd 69 189; msgrcv 70 188; msgctl 71 187; mq_open 240 180; mq_unlink 241 181
# large interfaces of the kernel
io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427; bpf 321 280; perf_event_open 298 241;
userfaultfd 323 282; keyctl 250 219; add_key 248 217; request_key 249 218; fanotify_init 300 262;
fanotify_mark 301 263; inotify_init 253 -; inotify_init1 294 26; inotify_add_watch 254 27; modify_ldt 154 -;
lookup_dcookie 212 18
# name spaces and file systems
unshare 272 97; setns 308 268; mount 165 40; umount2 166 39; pivot_root 155 41; chroot 161 51;
move_mount 429 429; open_tree 428 428; fsopen 430 430; fsconfig 431 431; fsmount 432 432; fspick 433 433;
mount_setattr 442 442; name_to_handle_at 303 264; open_by_handle_at 304 265; mknod 133 -; mknodat 259 33;
quotactl 179 60; quotactl_fd 443 443
# the machine
init_module 175 105; finit_module 313 273; delete_module 176 106; kexec_load 246 104; kexec_file_load 320 294;
reboot 169 142; swapon 167 224; swapoff 168 225; acct 163 89; syslog 103 116; sethostname 170 161;
setdomainname 171 162; settimeofday 164 170; clock_settime 227 112; adjtimex 159 171; clock_adjtime 305 266;
iopl 172 -; ioperm 173 -; vhangup 153 58
# who one is
setuid 105 146; setgid 106 144; setreuid 113 145; setregid 114 143; setresuid 117 147; setresgid 119 149;
setgroups 116 159; setfsuid 122 151; setfsgid 123 152
# marks on files, which Landlock does not guard
truncate 76 45; chmod 90 -; fchmod 91 52; fchmodat 268 53; chown 92 -; fchown 93 55; lchown 94 -;
fchownat 260 54; utime 132 -; utimes 235 -; futimesat 261 -; utimensat 280 88; setxattr 188 5; lsetxattr 189 6;
fsetxattr 190 7; removexattr 197 14; lremovexattr 198 15; fremovexattr 199 16
# taking rights away
seccomp 317 277
"""


def numbers(machine: int) -> dict[str, int]:
    """Name -> number; `machine` is 0 for x86-64 and 1 for AArch64. A call that the machine has not is left out."""
    lines = (line for line in _TABLE.splitlines() if not line.startswith("#"))
    rows = (entry.split() for line in lines for entry in line.split(";") if entry.strip())
    return {name: int(found[machine]) for name, *found in rows if found[machine] != "-"}
