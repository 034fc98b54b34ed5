"""The sandbox's side of the workers: start, hand out runs, kill and replace what overruns, close.

stops: a worker that does not answer in time (SIGKILL), one that dies (a fresh one takes its place), a reply that does not fit the limits.
does not stop: a breakout through the kernel itself; add a container where the code comes from an adversary (docs/SANDBOX.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from codevision_lite.errors import SandboxError
from codevision_lite.sandbox import wire
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.resident import Keys, Shelf
from codevision_lite.sandbox.run import Run

START_S = 60.0  # a cold machine may need long to load the libraries
GRACE_S = 0.5  # beyond wall_s before the kill: the worker's own clock usually ends the run with a better message
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")  # no secrets in workers
STOPPED = {
    "timeout": "Timeout: the code ran longer than {wall_s:g} s and was stopped. Use fewer or smaller steps.",
    "memory": "Memory: the code used more than {memory_mb} MB and was stopped. Use smaller images and arrays.",
    "error": "Crash: a library call ended the process. Check the arguments, and use smaller values.",
}


class Zygote:
    """The warm process that forks workers."""

    def __init__(self, limits: Limits, seed: int) -> None:
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[2])
        environment = {k: v for k, v in os.environ.items() if k in PASSED_ON}
        environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_OPENCL_DISABLE"), "1")
        environment |= {"OPENCV_OPENCL_RUNTIME": "disabled", **MALLOC, "PYTHONPATH": os.pathsep.join([root, *(p for p in sys.path if p)])}
        arguments = [sys.executable, "-m", "codevision_lite.sandbox.zygote", str(theirs.fileno()), json.dumps(vars(limits)), str(seed)]
        self.process = subprocess.Popen(
            arguments, pass_fds=[theirs.fileno()], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control, self.lock = ours, threading.Lock()
        self.control.settimeout(START_S)
        try:
            ready = self.control.recv(1)
        except OSError:
            ready = b""
        if ready != b"R":
            self.process.kill()
            text = self.process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise SandboxError(f"the sandbox could not start: {text[-1] if text else 'no answer'}")

    def fork(self, shared_fd: int | None) -> tuple[int, socket.socket]:
        """A new worker: its pid and our end of its socket."""
        ours, theirs = socket.socketpair()
        with self.lock:
            try:
                socket.send_fds(self.control, [b"F"], [theirs.fileno(), *([] if shared_fd is None else [shared_fd])])
                pid = int(wire.read(self.control, 16, time.perf_counter() + START_S))
            except (OSError, wire.Closed, ValueError) as e:
                raise SandboxError("the sandbox's warm process is gone; make a new Sandbox") from e
            finally:
                theirs.close()
        return pid, ours

    def wait(self, pid: int) -> int:
        """Exit status of a dead worker, as os.waitpid gives it."""
        with self.lock:
            try:
                self.control.sendall(b"W%d" % pid)
                return int(wire.read(self.control, 16, time.perf_counter() + START_S))
            except (OSError, wire.Closed, ValueError):
                return -1

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.control.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


class Worker:
    """One worker process and what it keeps resident."""

    def __init__(self, zygote: Zygote, limits: Limits) -> None:
        self.zygote, self.limits = zygote, limits
        shared_fd, self.shared = wire.make_shared()
        try:
            self.pid, self.sock = zygote.fork(shared_fd)
        finally:
            if shared_fd is not None:
                os.close(shared_fd)
        self.shelf, self.runs = Shelf(), 0
        try:
            hello, _ = wire.receive(self.sock, time.perf_counter() + START_S, 1000, 0)
        except (OSError, wire.Closed, ValueError) as e:
            raise SandboxError("a sandbox worker could not start") from e
        self.waiting = select.poll()
        self.waiting.register(self.sock, select.POLLIN)
        self.sock.settimeout(limits.wall_s + GRACE_S + 5)
        self.isolation = str(hello.get("isolation", "soft"))

    def is_alive(self) -> bool:
        """An idle worker says nothing; one that died has closed its socket."""
        return not self.waiting.poll(0)  # end of file, or an answer that nobody asked for

    def run(self, code: str, images: Sequence[Image.Image], numbers: Sequence[int], index: int, keys: Keys) -> tuple[Run, bool]:
        """The run, and whether the worker can be used again."""
        rows, parts, drop = self.shelf.plan(images, numbers, keys)
        start = time.perf_counter()
        deadline = start + self.limits.wall_s + GRACE_S
        try:
            wire.send(self.sock, {"code": code, "index": index, "images": rows, "drop": drop}, parts, self.shared)
            head, pixels = wire.receive(self.sock, deadline, MAX_REPLY, 4 * self.limits.output_pixels + 1)
            run = wire.unpack_run(head, wire.pixels_of(head, pixels, self.shared), self.limits, len(images))
        except TimeoutError:
            return self.stopped("timeout", start), False
        except (wire.Closed, OSError):
            return self.died(start), False
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError):
            return Run("error", "The sandbox's reply could not be read; the run was dropped.", seconds=time.perf_counter() - start), False
        self.runs += 1
        return run, run.status not in ("timeout", "memory") and self.runs < self.limits.runs_per_worker

    def stopped(self, status: Any, start: float) -> Run:
        return Run(status, STOPPED[status].format(**vars(self.limits)), seconds=time.perf_counter() - start)

    def died(self, start: float) -> Run:
        """Why: CPU seconds (SIGXCPU), memory (the kernel's OOM killer), or a crash."""
        status = self.zygote.wait(self.pid)
        self.pid = 0
        ended_by = os.WTERMSIG(status) if status >= 0 and os.WIFSIGNALED(status) else 0
        return self.stopped({signal.SIGXCPU: "timeout", signal.SIGKILL: "memory"}.get(ended_by, "error"), start)

    def kill(self) -> None:
        self.sock.close()
        if self.shared is not None:
            with contextlib.suppress(BufferError):  # a reply that is still being read keeps it
                self.shared.close()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.zygote.wait(self.pid)
            self.pid = 0


MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}  # pictures reuse memory: fewer page faults
MAX_REPLY = 8 << 20


class Pool:
    """N workers over one zygote. Safe to use from several threads."""

    def __init__(self, limits: Limits, workers: int, seed: int) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.limits, self.n_workers, self.seed, self.keys = limits, workers, seed, Keys()
        self.zygote = Zygote(limits, seed)
        self.free = threading.Condition(threading.RLock())
        try:
            self.idle: list[Worker] = [Worker(self.zygote, limits) for _ in range(workers)]
        except SandboxError:
            self.zygote.close()
            raise
        self.isolation = self.idle[0].isolation
        self.closed = False
        self._finalizer = weakref.finalize(self, Zygote.close, self.zygote)  # a forgotten close() leaves nothing behind

    def run(self, code: str, images: Sequence[Image.Image], index: int) -> Run:
        numbers = [self.keys.of(image) for image in images]
        worker = self.take(numbers)
        reusable = False
        try:
            run, reusable = worker.run(code, images, numbers, index, self.keys)
        finally:
            self.give_back(worker, reusable)
        return run

    def take(self, numbers: Sequence[int]) -> Worker:
        """An idle worker, preferably one that has the pictures."""
        with self.free:
            while not self.idle and not self.closed:
                self.free.wait()
            if self.closed:
                raise SandboxError("the sandbox is closed")
            best = max(self.idle, key=lambda w: w.shelf.overlap(numbers)) if len(self.idle) > 1 else self.idle[0]
            self.idle.remove(best)
        if best.is_alive():
            return best
        return self.replaced(best)  # somebody else ended it while it was idle

    def give_back(self, worker: Worker, reusable: bool) -> None:
        if not reusable and not self.closed:
            worker = self.replaced(worker)
        with self.free:
            if self.closed:
                worker.kill()
            self.idle.append(worker)
            self.free.notify()

    def replaced(self, worker: Worker) -> Worker:
        """A fresh worker in place of one; a warm process that died is replaced once, too. On failure the old one stays in line."""
        worker.kill()
        try:
            try:
                return Worker(self.zygote, self.limits)
            except SandboxError:
                with self.free:
                    if self.zygote.is_alive() or self.closed:
                        raise
                    self._finalizer()
                    self.zygote = Zygote(self.limits, self.seed)
                    self._finalizer = weakref.finalize(self, Zygote.close, self.zygote)
                return Worker(self.zygote, self.limits)
        except SandboxError:
            with self.free:
                self.idle.append(worker)
                self.free.notify()
            raise

    def run_batch(self, jobs: Sequence[tuple[str, Sequence[Image.Image], int]]) -> list[Run]:
        if self.n_workers == 1 or len(jobs) < 2:
            return [self.run(*job) for job in jobs]
        with ThreadPoolExecutor(min(self.n_workers, len(jobs))) as threads:
            return list(threads.map(lambda job: self.run(*job), jobs))

    def close(self) -> None:
        with self.free:
            if self.closed:
                return
            self.closed = True
            self.free.notify_all()
            for worker in self.idle:
                worker.kill()
        self._finalizer()
