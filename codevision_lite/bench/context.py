"""Where a number was made: commit, versions, machine. Every results.json holds it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from codevision_lite.bench.settings import BenchConfig
from codevision_lite.config import plain, recipe_hash

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "RestrictedPython", "pillow", "numpy", "opencv-python-headless")


def run_context(config: BenchConfig, model: Any) -> dict[str, Any]:
    """The context of a run, as JSON. `model`: what answers; pixel limits are those of its image processor."""
    return {
        "seed": config.seed, "config_hash": recipe_hash(config), "config": plain(config), "commit": commit(),
        "hardware": machine() if config.server is None else f"server {config.server}; client: {cpu()}", "python": platform.python_version(),
        "versions": versions(), **pixel_limits(config, model),
    }  # fmt: skip


def pixel_limits(config: BenchConfig, model: Any) -> dict[str, Any]:
    """Area of the model's view, in pixels; a server has its own."""
    processor = getattr(model, "processor", None)  # of local models
    if processor is None:
        return {"min_pixels": "the server's", "max_pixels": "the server's"} if config.server else {}
    size = processor.image_processor.size
    return {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}


def commit() -> str:
    """The commit of this checkout, with "-dirty" where files differ from it; "unknown" outside one."""
    here = Path(__file__).parent
    done = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The GPU that torch uses, else the processor."""
    from codevision_lite.models.load import gpu_name

    return gpu_name() or f"{cpu()}, no GPU"


def cpu() -> str:
    """Name of the processor and number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
