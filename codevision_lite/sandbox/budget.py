"""Counts time, memory and text of one run from inside the process.

Does: a clock that loops, calls and comprehensions look at; an account of requested bytes that triggers a look at the real
resident size; bounded stdout. Does not: interrupt a C call that is already running (worker.py does, by SIGKILL).
"""

from __future__ import annotations

import os
import time
from typing import Any

from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.stops import LimitReached, TooLarge

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TICKS_PER_LOOK = 128  # a look at the clock costs as much as ~20 ticks
LOOKS_PER_RSS = 16  # a look at /proc costs ~2 us
BYTES_PER_RSS = 32 << 20
MAX_ONE_BYTES = 512 << 20  # one array or string; a 12 MP float64 RGB array is 288 MB

_statm: tuple[int, int | None] = (0, None)  # process id, descriptor


def resident_bytes() -> int:
    """Resident size of this process in bytes, 0 where the platform does not tell."""
    global _statm
    if _statm[0] != os.getpid():  # after a fork the old descriptor still shows the parent
        try:
            _statm = os.getpid(), os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: memory is then only bounded by the size checks
            _statm = os.getpid(), None
    if _statm[1] is None:
        return 0
    return int(os.pread(_statm[1], 64, 0).split()[1]) * PAGE_BYTES


class Budget:
    """Time, memory and stdout of one run. Passing a limit raises LimitReached, and raises it again ever after."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.start = time.perf_counter()
        self.deadline = self.start + limits.wall_s
        self.cpu_deadline = time.thread_time() + limits.cpu_s
        self.ticks_left = TICKS_PER_LOOK
        self.looks = 0
        self.bytes_since_rss = 0
        resident = resident_bytes()
        self.rss_limit = resident + (limits.memory_mb << 20) if resident else 0
        self.stopped: LimitReached | None = None
        self.text: list[str] = []
        self.text_chars = 0

    def tick(self) -> bool:
        """Count one step; look at the clock now and then. Returns True, so that it can stand in an `if`."""
        self.ticks_left -= 1
        if self.ticks_left <= 0:
            self.look()
        return True

    def look(self) -> None:
        """Look at the clocks, and every few times at the memory."""
        if self.stopped is not None:
            raise self.stopped
        self.ticks_left = TICKS_PER_LOOK
        if time.perf_counter() > self.deadline:
            self.stop("timeout", f"the code ran longer than {self.limits.wall_s:g} s")
        self.looks += 1
        if self.looks % LOOKS_PER_RSS == 0:
            self.look_memory()
            if time.thread_time() > self.cpu_deadline:
                self.stop("timeout", f"the code used more than {self.limits.cpu_s:g} s of CPU time")

    def seconds_left(self) -> float:
        return self.deadline - time.perf_counter()

    def look_memory(self) -> None:
        self.bytes_since_rss = 0
        if self.rss_limit and resident_bytes() > self.rss_limit:
            self.stop("memory", f"the code used more than {self.limits.memory_mb} MB of memory")

    def stop(self, kind: str, text: str) -> None:
        self.ticks_left = 0  # every later tick looks, and raises again: `finally: continue` can not outlive it
        self.stopped = LimitReached(kind, text)
        raise self.stopped

    def close(self) -> None:
        """End of the run: what is left of the code (finalisers of generators) stops at its next step."""
        self.ticks_left = 0
        self.stopped = LimitReached("timeout", "the run is over")  # a new one: the old one's traceback holds the code's objects

    def spend_bytes(self, n: float, what: str = "this") -> None:
        """Account for a request of n bytes before it is made. Raises TooLarge, or LimitReached where memory is really gone."""
        if n > MAX_ONE_BYTES:
            text = f"{what} would need {n / 1e6:,.0f} MB; at most {MAX_ONE_BYTES >> 20} MB at once is possible here"
            raise TooLarge(text, status="memory")
        self.bytes_since_rss += int(n)
        self.ticks_left -= int(n) >> 18  # 32 MB take about as long to write as the steps between two looks at the clock
        if self.bytes_since_rss > BYTES_PER_RSS:
            self.look_memory()
            if self.rss_limit and resident_bytes() + n > self.rss_limit:
                self.stop("memory", f"the code asked for more than {self.limits.memory_mb} MB of memory")

    def spend_pixels(self, width: Any, height: Any) -> None:
        """Check the size of a picture before it is made."""
        pixels = float(width) * float(height)
        if not pixels <= self.limits.image_pixels or max(width, height) > 100_000:
            text = f"a picture of {width:.0f}x{height:.0f} pixels is too large (at most {self.limits.image_pixels:,} pixels)"
            raise TooLarge(text, status="memory")
        self.spend_bytes(pixels * 4, "this picture")

    def write(self, text: str) -> None:
        """Append to stdout; what is beyond the limit is dropped and counted."""
        room = self.limits.stdout_chars - self.text_chars
        if room > 0:
            self.text.append(text[:room])
        self.text_chars += len(text)
        if self.text_chars > 200 * self.limits.stdout_chars:
            self.stop("output", f"the code printed more than {200 * self.limits.stdout_chars:,} characters")

    @property
    def stdout(self) -> str:
        text = "".join(self.text)
        dropped = self.text_chars - len(text)
        return text + f"\n... {dropped:,} more characters were printed and dropped" if dropped > 0 else text
