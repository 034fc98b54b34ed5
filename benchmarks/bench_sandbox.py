"""What one run of the sandbox costs: python benchmarks/bench_sandbox.py [--repeat 5] [--snippets tests/data/benign.json]

Runs the benign snippets on one 640x480 picture in every design and prints the median and the 90th percentile per call, and the overhead
over plain exec of the same snippet. Does not measure images of other sizes or throughput over many cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from codevision_lite.sandbox import Sandbox
from codevision_lite.sandbox import program as sandbox_program

ROOT = Path(__file__).resolve().parents[1]
AFTER_KILL_CALLS = 5
FRESH_SNIPPETS = 12  # a fresh process per call takes ~0.3 s each
CROP = "result = image.crop((100, 50, 300, 200))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs per snippet; the median counts")
    parser.add_argument("--snippets", type=Path, default=ROOT / "tests" / "data" / "benign.json")
    arguments = parser.parse_args()
    image = picture()
    codes = [row["code"] for row in json.loads(arguments.snippets.read_text()) if runs_plain(row["code"], image)]
    print(f"{len(codes)} snippets that plain exec can run, 640x480 RGB, Python {platform.python_version()}, {platform.machine()}")
    plain = [measure(lambda c=c: run_plain(c, image), arguments.repeat) for c in codes]
    report("plain exec", plain, plain)
    with Sandbox("inline") as sandbox:
        report("inline, code seen before", each(sandbox, codes, lambda: image, arguments.repeat), plain)
        report("inline, new code", each(sandbox, codes, lambda: image, arguments.repeat, forget=True), plain)
    with Sandbox("worker") as sandbox:
        print(f"worker isolation: {sandbox.isolation}")
        report("worker, pixels sent", each(sandbox, codes, image.copy, arguments.repeat, salt=True), plain)
        report("worker, image resident", each(sandbox, codes, lambda: image, arguments.repeat, salt=True), plain)
        resident = [measure(lambda: sandbox.run(CROP, [image]), 5) for _ in range(20)]
        print(f"{'one crop, image resident':28} {1e3 * statistics.median(resident):8.2f} ms")
        print(f"{'next call after a kill':28} {1e3 * after_kill(sandbox, image):8.2f} ms")
    subset = codes[:: max(1, len(codes) // FRESH_SNIPPETS)]
    fresh = [measure(lambda c=c: run_fresh(c, image), 1) for c in subset]
    report("fresh process per call", fresh, [measure(lambda c=c: run_plain(c, image), 3) for c in subset])


def picture() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)


def measure(call: Callable[[], Any], repeat: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def each(
    sandbox: Sandbox, codes: list[str], get_image: Callable[[], Image.Image], repeat: int, forget: bool = False, salt: bool = False
) -> list[float]:
    """Median seconds per snippet. `salt`: a comment makes the code new to the worker's cache in every run."""
    out = []
    for code in codes:
        times = []
        for i in range(repeat):
            image, text = get_image(), f"{code}\n# {time.perf_counter_ns()} {i}" if salt else code
            if forget:
                sandbox_program._cache.clear()
            start = time.perf_counter()
            sandbox.run(text, [image])
            times.append(time.perf_counter() - start)
        out.append(statistics.median(times))
    return out


def after_kill(sandbox: Sandbox, image: Image.Image) -> float:
    """Seconds of the call that follows the death of a worker, on average."""
    times = []
    for _ in range(AFTER_KILL_CALLS):
        sandbox._pool.idle[0].kill()
        start = time.perf_counter()
        sandbox.run(CROP, [image])
        times.append(time.perf_counter() - start)
    return statistics.mean(times)


def report(name: str, seconds: list[float], plain: list[float]) -> None:
    over = [s - p for s, p in zip(seconds, plain, strict=True)]
    total = f"{1e3 * statistics.median(seconds):8.2f} ms (p90 {1e3 * quantile(seconds):8.2f})"
    print(f"{name:28} {total}   over plain {1e3 * statistics.median(over):8.2f} ms (p90 {1e3 * quantile(over):8.2f})")


def quantile(values: list[float]) -> float:
    return sorted(values)[int(0.9 * (len(values) - 1))]


def names_for(image: Image.Image) -> dict[str, Any]:
    own = image.copy()
    return {
        "image": own, "img": own, "images": [own], "image_index": 0, "draw": ImageDraw.Draw(own), "np": np, "cv2": cv2, "Image": Image,
        "ImageOps": ImageOps, "ImageDraw": ImageDraw, "ImageFilter": ImageFilter, "ImageEnhance": ImageEnhance, "ImageFont": ImageFont,
        "ImageChops": ImageChops, "math": __import__("math"),
    }  # fmt: skip


def run_plain(code: str, image: Image.Image) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "<code>", "exec"), names_for(image))


def runs_plain(code: str, image: Image.Image) -> bool:
    if any(word in code for word in (".save(", "imwrite", "matplotlib", "Image.open", "imread", "show(")):
        return False
    try:
        run_plain(code, image)
    except Exception:
        return False
    return True


PROGRAM = "import sys, numpy as np, cv2, math; from PIL import *; image = Image.open(sys.argv[1]); img = image; exec(sys.stdin.read())"


def run_fresh(code: str, image: Image.Image) -> None:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        image.save(file.name, compress_level=1)
        subprocess.run([sys.executable, "-c", PROGRAM, file.name], input=code, text=True, capture_output=True, check=False)


if __name__ == "__main__":
    main()
