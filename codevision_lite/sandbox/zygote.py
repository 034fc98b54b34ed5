"""The process that is warm: it imports everything once and forks a worker whenever the pool asks.

The zygote runs no model code. A worker closes what it does not need, sets its limits, installs the system call filter and then serves
runs until it is killed. The zygote ends when its control socket closes or its parent changes; workers end with the zygote.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PARENT_LOOK_S = 0.5  # the control socket says at once that the parent died; this is for parents that forked it away


def main(fd: int, limits_json: str, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    control = socket.socket(fileno=fd)
    from codevision_lite.sandbox import worker
    from codevision_lite.sandbox.limits import Limits

    limits = Limits(**json.loads(limits_json))
    worker.warm_up()
    gc.collect()
    gc.freeze()  # what is shared with the workers stays shared
    control.sendall(b"R")
    serve(control, parent, limits, seed)


def serve(control: socket.socket, parent: int, limits: Any, seed: int) -> None:
    """Commands: F (with a socket attached) forks a worker and answers its pid; W<pid> waits for a dead worker and answers its status."""
    while True:
        ready, _, _ = select.select([control], [], [], PARENT_LOOK_S)
        if os.getppid() != parent:
            os._exit(0)
        if not ready:
            continue
        data, fds, _, _ = socket.recv_fds(control, 16, 2)
        if not data:
            os._exit(0)
        if data[:1] == b"F":
            pid = fork_worker(fds, control, limits, seed)
            control.sendall(b"%-15d\n" % pid)
        elif data[:1] == b"W":
            control.sendall(b"%-15d\n" % reap(int(data[1:])))


def fork_worker(fds: list[int], control: socket.socket, limits: Any, seed: int) -> int:
    """`fds`: the worker's socket and, where there is one, the memory that it shares with the pool."""
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    try:
        control.close()
        from codevision_lite.sandbox import worker

        worker.main(fds, os.getppid(), limits, seed)
    finally:
        os._exit(1)


def reap(pid: int) -> int:
    """Exit status of a worker that was killed or died, as os.waitpid gives it; -1 where it is not ours."""
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return -1
        if done:
            return status
        time.sleep(0.0005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
