"""What the benchmark runner costs beside the model: milliseconds for an item, and seconds for --items scripted ones, against the limits
(exit code 1 if one is missed).

Run: python benchmarks/bench_eval.py
Items are pictures of 640x480 pixels under no damage and under rotate_90, answered by a script: once at once, once after one tool turn.
The first is the runner alone (open, damage, prompt, parse, score, facts, pictures of the first items, row), in seconds of the processor,
so that other work on the machine does not count; the second adds the sandbox as evaluation runs it. Summary and report are timed too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.bench import jobs, run
from codevision_lite.bench.benchmark import Benchmark, Scored, mean_percent
from codevision_lite.bench.settings import BenchConfig
from codevision_lite.files import read_jsonl
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall
from codevision_lite.sandbox import Sandbox

ANSWER = render_reply("It reads 7.", answer="7")
TURN = render_reply("It is turned.", ToolCall("result = image.rotate(270, expand=True)"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--limit-ms", type=float, default=5.0, help="for an item, the runner alone")
    parser.add_argument("--limit-s", type=float, default=60.0, help="for all items, with a tool turn each, summary and report included")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone = measure(Path(folder) / "alone", [ANSWER], options.items, "inline", time.process_time)
        tools = measure(Path(folder) / "tools", [TURN, ANSWER], options.items, "worker", time.perf_counter)
        whole = report(Path(folder) / "tools", options.items)
    total = tools + whole
    print(f"runner alone           {1000 * alone / options.items:7.2f} ms of the processor for an item (limit {options.limit_ms:g})")
    print(f"with one tool turn     {1000 * tools / options.items:7.2f} ms for an item, sandbox included")
    print(f"summary and report     {whole:7.2f} s")
    print(f"{options.items} scripted items    {total:7.2f} s in all (limit {options.limit_s:g})")
    return int(1000 * alone / options.items > options.limit_ms or total > options.limit_s)


def measure(folder: Path, replies: list[str], n: int, mode: Any, clock: Callable[[], float]) -> float:
    """Seconds for `n` items, by `clock`."""
    config, samples = settings(n), list(BENCHMARK.load(None, {}))[: n // 2]
    with Sandbox(mode=mode) as sandbox, contextlib.redirect_stdout(io.StringIO()):
        run.run_items(BENCHMARK, config, samples[:4], ScriptedModel(replies), sandbox, folder / "warm")
        started = clock()
        run.run_items(BENCHMARK, config, samples, ScriptedModel(replies), sandbox, folder)
        seconds = clock() - started
    assert len(read_jsonl(folder / run.ROWS)) == n, "an item has no row"
    return seconds


def report(folder: Path, n: int) -> float:
    """Seconds for results.json and report.html of `n` rows."""
    ids = [sample.id for sample in list(BENCHMARK.load(None, {}))[: n // 2]]
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        context = {"seed": 0, "config_hash": "", "commit": "", "hardware": "", "versions": {}, "config": {}}
        jobs._write(BENCHMARK, settings(n), folder, ids, {"context": context})
    return time.perf_counter() - started


def settings(n: int) -> BenchConfig:
    return BenchConfig("scripted", damages=("none", "rotate_90"), name="script")


class Page:
    """A picture of a few lines, different for each item."""

    def __init__(self, seed: int):
        self.seed = seed

    def decode(self) -> Image.Image:
        cells = np.random.default_rng(self.seed).integers(90, 256, (24, 32, 3), dtype=np.uint8)
        return Image.fromarray(cells).resize((640, 480), Image.Resampling.NEAREST)


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample]:
    for k in range(2000):
        meta = {"benchmark": "scripted", "category": str(k % 5), "group": str(k)}
        yield Sample(f"scripted-{k}", "Which number is on the page?", Page(k), ("7",), target_box=(200.0, 100.0, 260.0, 130.0), meta=meta)


BENCHMARK = Benchmark(
    "scripted", "Scripted", load, lambda sample, prediction, switches: Scored(float(prediction == "7"), prediction == "7", "equal"),
    lambda rows, switches: {"headline": mean_percent([row.scored.value for row in rows]), "n": len(rows)}, needs_file=False,
)  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main())
