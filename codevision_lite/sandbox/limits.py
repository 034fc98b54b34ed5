"""What one run may consume and hand back: every limit of the sandbox in one frozen record.

Does not enforce anything: budget.py counts in the process, worker.py and zygote.py enforce from outside.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one run. The defaults suit image work on one picture of up to ~12 megapixels."""

    wall_s: float = 10.0  # seconds from the start of the code to its result
    cpu_s: float = 10.0  # seconds of CPU time; whole seconds are what the kernel can enforce
    memory_mb: int = 1024  # growth of the process over its idle size
    code_chars: int = 20_000  # longest program; what models write is below 4,000
    image_pixels: int = 40_000_000  # largest picture that may exist on the way (a 40 MP picture is 160 MB in PIL)
    output_pixels: int = 16_777_216  # largest picture that may come back
    output_images: int = 16  # most pictures that one run may hand back
    output_aspect: float = 200.0  # long side / short side must stay below this (the limit of Qwen's image processor)
    stdout_chars: int = 8_000  # printed text that is kept
    message_chars: int = 900  # longest message without the printed text
    ops: int = 1_000  # operations that are listed; later ones run unlisted
    runs_per_worker: int = 200  # a worker is replaced after this many runs

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"Limits.{name} must be positive, got {value!r}")
