"""A system call filter by ctypes: what is not on the list fails with EPERM, without an extra dependency.

Stops (Linux on x86_64 and aarch64): opening files, sockets, processes, threads, executable memory, everything but computing on memory
and talking over descriptors that are already open. Elsewhere install() returns False and the sandbox calls itself soft.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

# name: (x86_64, aarch64) numbers; None where the architecture has no such call
CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "poll": (7, None), "ppoll": (271, 73), "lseek": (8, 62),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "select": (23, None), "pselect6": (270, 72), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "sendto": (44, 206), "recvfrom": (45, 207),
    "sendmsg": (46, 211), "recvmsg": (47, 212), "exit": (60, 93), "exit_group": (231, 94), "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "sigaltstack": (131, 132), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "restart_syscall": (219, 128), "getrandom": (318, 278), "membarrier": (324, 283), "rseq": (334, 293), "prlimit64": (302, 261),
    "newfstatat": (None, None), "getppid": (110, 173),
}  # fmt: skip
WITHOUT_EXEC = {"mmap": (9, 222), "mprotect": (10, 226)}  # allowed unless the memory would be executable
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, DENY = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO | EPERM
PROT_EXEC = 4
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 1, 22, 38, 4


def build(machine: str) -> bytes | None:
    """The filter program for an architecture; None where it is not known."""
    if machine not in ARCHITECTURES:
        return None
    column, arch = ARCHITECTURES[machine]
    allowed = sorted(n for numbers in CALLS.values() if (n := numbers[column]) is not None)
    rows = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, arch), (RETURN, 0, 0, DENY), (LOAD, 0, 0, 0)]
    for number in allowed:
        rows += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for numbers in WITHOUT_EXEC.values():  # third argument: protection bits (low word of a little-endian u64 at 16 + 2 * 8)
        rows += [
            (JUMP_EQUAL, 0, 4, numbers[column]),
            (LOAD, 0, 0, 32),
            (JUMP_SET, 1, 0, PROT_EXEC),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, DENY),
        ]  # type: ignore[list-item]
    rows.append((RETURN, 0, 0, DENY))
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("rows", ctypes.c_void_p))


def install() -> bool:
    """Filter this process from now on, for good. False where the platform can not."""
    program = build(platform.machine()) if sys.platform == "linux" else None
    if program is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = _Program(len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(argument), 0, 0) == 0


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
