"""Sandbox: the one object that others use. Runs code on pictures, in this process or in a pool of worker processes.

stops (worker): everything in docs/SANDBOX.md: files, network and processes by the kernel, time and memory by kill and rlimit,
  introspection and state by the policy.
does not stop (inline): a C call that is already running, memory that a library takes inside one call, a crash of a native library.
  Inline is for code that you trust, for notebooks and for replay.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image

from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.run import Run

Job = tuple[str, Sequence[Image.Image], int]
_inline_lock = threading.RLock()  # the random generators of the libraries are shared by the process


class Sandbox:
    """Runs model-written image code under the policy.

    mode "worker": in separate processes that are killed and replaced when they overrun; for training and evaluation.
    mode "inline": in this process; deadline looks at loops and calls, size checks before allocations. It can not interrupt a native
    call, bound the memory of one, or survive its crash.
    `workers`: number of processes (worker mode). `seed`: seeds the code's random generators before every run.
    Raises SandboxError when no worker can be started.
    """

    def __init__(self, mode: Literal["inline", "worker"] = "worker", limits: Limits | None = None, workers: int = 1,
                 seed: int = 0) -> None:  # fmt: skip
        if mode not in ("inline", "worker"):
            raise ValueError(f'mode must be "inline" or "worker", got {mode!r}')
        self.mode = mode
        self.limits = limits or Limits()
        self.seed = seed
        self._pool: Any = None
        if mode == "worker":
            from codevision_lite.sandbox.pool import Pool

            self._pool = Pool(self.limits, workers, seed)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def isolation(self) -> str:
        """ "hard": the kernel refuses files, network and processes; "soft": only the policy does; "none": inline."""
        return self._pool.isolation if self._pool is not None else "none"

    def run(self, code: str, images: Sequence[Image.Image], image_index: int = 0) -> Run:
        """Run `code` on images[image_index]. The pictures are not changed. Whatever the code does becomes a Run, never an exception.

        Raises IndexError for an image_index outside `images`, SandboxError when the sandbox itself is broken.
        """
        check_job(images, image_index)
        if self._pool is not None:
            return self._pool.run(code, images, image_index)
        from codevision_lite.sandbox.inline import execute

        with _inline_lock:
            return execute(code, images, image_index, self.limits, self.seed)

    def run_batch(self, jobs: Sequence[Job]) -> list[Run]:
        """Run (code, images, image_index) jobs over the workers; the runs come back in the order of the jobs."""
        for _, images, image_index in jobs:
            check_job(images, image_index)
        if self._pool is not None:
            return self._pool.run_batch(jobs)
        return [self.run(*job) for job in jobs]

    def close(self) -> None:
        """End the worker processes. The sandbox can not be used afterwards."""
        if self._pool is not None:
            self._pool.close()


def check_job(images: Sequence[Image.Image], image_index: int) -> None:
    if not 0 <= image_index < len(images):
        raise IndexError(f"image_index {image_index} is outside the {len(images)} images")
