"""What one run of the sandbox costs: python benchmarks/bench_sandbox.py [--repeat 5] [--json FILE]

Runs the benign snippets on one 640x480 picture in every design, in the same process and minute: plain exec, inline, worker, a fresh
process per call, and smolagents' LocalPythonExecutor (pip install -r benchmarks/requirements.txt). Every number is a median of `repeat`
runs, and the designs take turns with every snippet, so that other work on the machine slows all of them. "new code" has a comment that
makes it new to the cache of compiled programs. Does not measure throughput over many cores.

Tracing is measured as the same inline run with and without traces: without, no picture is registered, so every trace function finds
nothing to follow and returns; what is left is the call of these functions.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from codevision_lite.sandbox import Sandbox
from codevision_lite.sandbox.trace import Registry

ROOT = Path(__file__).resolve().parents[1]
AFTER_KILL_CALLS = 11
FRESH_SNIPPETS = 12  # a fresh process per call takes ~0.2 s each
RESIDENT_CALLS = 200
SIZES = ((640, 480), (1920, 1080), (4000, 3000))
CROP = "result = image.crop((100, 50, 300, 200))"
INSTALL = "not installed; to measure it: pip install -r benchmarks/requirements.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs per snippet; the median counts")
    parser.add_argument("--snippets", type=Path, default=ROOT / "tests" / "data" / "benign.json")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    image = picture()
    codes = [row["code"] for row in json.loads(arguments.snippets.read_text()) if runs_plain(row["code"], image)]
    setting = {**machine(), "snippets": len(codes), "repeat": arguments.repeat}
    print(f"{len(codes)} snippets that plain exec can run, 640x480 RGB; " + ", ".join(f"{k} {v}" for k, v in setting.items()))
    with Sandbox("inline") as inline, Sandbox("worker") as worker:
        print(f"worker isolation: {worker.isolation}")
        results = compare(designs(inline, worker, image), codes, arguments.repeat)
        for width, height in SIZES:
            results[f"resident_crop_{width}x{height}"] = resident(worker, width, height)
        results["tracing"] = tracing(inline, image, codes, arguments.repeat)
        results["after_kill"] = {"median_ms": 1e3 * after_kill(worker, image)}
    results["fresh_process"] = fresh(codes, image)
    report(results)
    if arguments.json:
        arguments.json.write_text(json.dumps({"setting": setting, "results": results, "targets": targets(results)}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    dirty = subprocess.run(["git", "status", "--porcelain", "--", "codevision_lite"], cwd=ROOT, capture_output=True, text=True, check=False)
    cpu = next((line.partition(":")[2].strip() for line in proc("cpuinfo") if line.startswith("model name")), platform.processor())
    cores = sum(line.startswith("processor") for line in proc("cpuinfo"))
    load = proc("loadavg")
    return {
        "cpu": cpu, "cores": cores, "load": load[0].split()[0] if load else "?", "python": platform.python_version(),
        "pillow": PIL.__version__, "numpy": np.__version__, "opencv": cv2.__version__, "commit": commit + ("+" if dirty.stdout else ""),
    }  # fmt: skip


def proc(name: str) -> list[str]:
    try:
        return Path("/proc", name).read_text().splitlines()
    except OSError:
        return []


def picture() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)


# -- the designs -----------------------------------------------------------------------------------------------------------

Design = Callable[[str, int], Callable[[], Any] | None]  # (code, turn) -> the call to be timed


def designs(inline: Sandbox, worker: Sandbox, image: Image.Image) -> dict[str, Design]:
    def new(code: str, turn: int) -> str:
        return f"{code}\n# {time.perf_counter_ns()} {turn}"

    def sent(code: str, turn: int) -> Callable[[], Any]:
        text, other = new(code, turn), image.copy()
        return lambda: worker.run(text, [other])

    def in_worker(code: str, turn: int) -> Callable[[], Any]:
        text = new(code, turn)
        return lambda: worker.run(text, [image])

    def inline_new(code: str, turn: int) -> Callable[[], Any]:
        text = new(code, turn)
        return lambda: inline.run(text, [image])

    return {
        "plain": lambda code, turn: lambda: run_plain(code, image),
        "inline_seen": lambda code, turn: lambda: inline.run(code, [image]),
        "inline_new": inline_new,
        "worker_resident": in_worker, "worker_sent": sent, "smolagents": smolagents_design(image),
    }  # fmt: skip


def smolagents_design(image: Image.Image) -> Design:
    try:
        from smolagents.local_python_executor import LocalPythonExecutor
    except ImportError:
        return lambda code, turn: None
    modules = ["PIL", "PIL.*", "numpy", "numpy.*", "cv2", "cv2.*", "math", "json", "io", "os", "os.*", "copy", "base64", "functools",
               "string", "typing", "dataclasses", "uuid"]  # fmt: skip

    def design(code: str, turn: int) -> Callable[[], Any]:
        executor = LocalPythonExecutor(modules)
        executor.send_tools({})

        def run() -> None:
            executor.send_variables(names_for(image))
            executor(code)

        return run

    return design


def compare(table: dict[str, Design], codes: list[str], repeat: int) -> dict[str, dict[str, Any]]:
    """Seconds per snippet in every design; one that can not run a snippet has None there."""
    times: dict[str, list[float | None]] = {name: [] for name in table}
    for code in codes:
        for name, design in table.items():
            times[name].append(median_of([design(code, turn) for turn in range(repeat + 1)]))
    return {name: summary(values, times["plain"]) for name, values in times.items()}


def median_of(calls: list[Callable[[], Any] | None]) -> float | None:
    """Median of the calls after the first, which warms up; None where one failed."""
    seconds = [None if call is None else timed(call) for call in calls][1:]
    return None if None in seconds else statistics.median(seconds)  # type: ignore[type-var]


def tracing(inline: Sandbox, image: Image.Image, codes: list[str], repeat: int) -> dict[str, Any]:
    """With traces against without, by turns."""
    pairs: list[tuple[float | None, float | None]] = []
    for code in codes:
        both: tuple[list[float | None], list[float | None]] = ([], [])
        for turn in range(2 * repeat):
            for i in (0, 1) if turn % 2 else (1, 0):
                with no_traces() if i else contextlib.nullcontext():
                    both[i].append(timed(lambda c=code: inline.run(c, [image])))
        pairs.append(tuple(None if None in b else statistics.median(b) for b in both))  # type: ignore[arg-type,type-var]
    return summary([w for w, _ in pairs], [wo for _, wo in pairs])


@contextlib.contextmanager
def no_traces() -> Iterator[None]:
    put = Registry.put
    Registry.put = lambda self, obj, trace: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Registry.put = put  # type: ignore[method-assign]


def timed(call: Callable[[], Any]) -> float | None:
    start = time.perf_counter()
    try:
        call()
    except Exception:
        return None
    return time.perf_counter() - start


def summary(seconds: list[float | None], plain: list[float | None]) -> dict[str, Any]:
    pairs = [(s, p) for s, p in zip(seconds, plain, strict=True) if s is not None and p is not None]
    if not pairs:
        return {"ran": 0}
    own, over = [1e3 * s for s, _ in pairs], [1e3 * (s - p) for s, p in pairs]
    return {"ran": len(pairs), "median_ms": statistics.median(own), "p90_ms": quantile(own), "over_median_ms": statistics.median(over),
            "over_p90_ms": quantile(over)}  # fmt: skip


def quantile(values: list[float]) -> float:
    return sorted(values)[int(0.9 * (len(values) - 1))]


# -- single measurements -------------------------------------------------------------------------------------------------------


def resident(worker: Sandbox, width: int, height: int) -> dict[str, Any]:
    """One crop of a picture that the worker already has, at this size."""
    image = picture().resize((width, height))
    worker.run(CROP, [image])
    times = [1e3 * s for _ in range(RESIDENT_CALLS) if (s := timed(lambda: worker.run(CROP, [image]))) is not None]
    return {"median_ms": statistics.median(times), "p90_ms": quantile(times)}


def after_kill(worker: Sandbox, image: Image.Image) -> float:
    """Median seconds of the call that follows the death of a worker."""
    times = []
    for _ in range(AFTER_KILL_CALLS):
        worker._pool.idle[0].kill()
        start = time.perf_counter()
        worker.run(CROP, [image])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


PROGRAM = "import sys, numpy as np, cv2, math; from PIL import *; image = Image.open(sys.argv[1]); img = image; exec(sys.stdin.read())"


def fresh(codes: list[str], image: Image.Image) -> dict[str, Any]:
    """A new Python process per call, on every few snippets."""
    some = codes[:: max(1, len(codes) // FRESH_SNIPPETS)]
    return summary([timed(lambda c=c: run_fresh(c, image)) for c in some], [timed(lambda c=c: run_plain(c, image)) for c in some])


def run_fresh(code: str, image: Image.Image) -> None:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        image.save(file.name, compress_level=1)
        subprocess.run([sys.executable, "-c", PROGRAM, file.name], input=code, text=True, capture_output=True, check=False)


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


# -- the report ------------------------------------------------------------------------------------------------------------

LABELS = {
    "plain": "plain exec", "inline_seen": "inline, code seen before", "inline_new": "inline, new code",
    "worker_resident": "worker, picture resident, new code", "worker_sent": "worker, pixels sent, new code",
    "smolagents": "smolagents LocalPythonExecutor", "fresh_process": "fresh process per call",
}  # fmt: skip


def report(results: dict[str, dict[str, Any]]) -> None:
    print(f"{'':36}{'ran':>5} {'ms':>9} {'p90':>8}   {'over plain':>10} {'p90':>8}")
    for key, label in LABELS.items():
        row = results[key]
        if not row["ran"]:
            print(f"{label:36} {INSTALL}")
            continue
        over = f"{row['over_median_ms']:10.2f} {row['over_p90_ms']:8.2f}"
        print(f"{label:36}{row['ran']:5} {row['median_ms']:9.2f} {row['p90_ms']:8.2f}   {over}")
    print(f"\n{'target':58}{'wanted':>10} {'measured':>10}")
    for name, row in targets(results).items():
        print(f"{name:58}{row['wanted']:>10} {row['measured']:10.2f}  {'met' if row['met'] else 'MISSED'}")


def targets(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every target with what was measured."""
    rows: dict[str, tuple[float, float]] = {
        "inline over plain exec, code seen before, ms": (0.3, results["inline_seen"]["over_median_ms"]),
        "inline over plain exec, new code, ms": (0.3, results["inline_new"]["over_median_ms"]),
        "worker over plain exec, pixels sent, new code, ms": (1.5, results["worker_sent"]["over_median_ms"]),
        "worker over plain exec, picture resident, new code, ms": (0.8, results["worker_resident"]["over_median_ms"]),
    }
    for width, height in SIZES:
        rows[f"one crop in a worker, {width}x{height} resident, ms"] = (0.8, results[f"resident_crop_{width}x{height}"]["median_ms"])
    rows["next call after a kill, ms"] = (30.0, results["after_kill"]["median_ms"])
    rows["tracing, ms a call"] = (0.1, results["tracing"]["over_median_ms"])
    table = {name: {"wanted": f"<= {wanted:g}", "measured": got, "met": got <= wanted} for name, (wanted, got) in rows.items()}
    for name, key in (("picture resident", "worker_resident"), ("pixels sent", "worker_sent")):
        ratio = results["fresh_process"]["over_median_ms"] / results[key]["over_median_ms"]
        table[f"time that a fresh process adds / worker adds, {name}"] = {"wanted": ">= 100", "measured": ratio, "met": ratio >= 100}
    return table


if __name__ == "__main__":
    main()
